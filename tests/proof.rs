//! Rows proven and contradicted: small programs with right and with wrong unwind information, and the system's libraries
//! with their rows changed.

mod skip;

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use surestack::check_cfi::{self, Checked};
use surestack::image::Image;
use surestack::proof::claim::{Cfa, Saved};
use surestack::proof::code::Code;
use surestack::proof::layout::Layout;
use surestack::proof::run::Run;
use surestack::proof::{Proofs, Return, Source};
use surestack_walk::RowProof;

/// A shared object made of one source file, and where its labels lie.
struct Built {
    image: Image,
    labels: Vec<(String, u64)>,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build(kind: &str, source: &str, flags: &[&str]) -> Built {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("surestack-proof-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let (input, object) = (folder.join(format!("code.{kind}")), folder.join("code.so"));
    std::fs::write(&input, source).unwrap();
    let compiler = if kind == "cc" { "g++" } else { "gcc" };
    run(Command::new(compiler)
        .args(["-shared", "-nostartfiles", "-fPIC"])
        .args(flags)
        .arg(&input)
        .arg("-o")
        .arg(&object));
    let symbols = run(Command::new("nm").arg(&object));
    let label = |line: &str| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((words.nth(1)?.to_owned(), address))
    };
    let labels = symbols.lines().filter_map(label).collect();
    let image = Image::open(&object).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    Built { image, labels }
}

impl Built {
    fn at(&self, label: &str) -> u64 {
        self.labels.iter().find(|(name, _)| name == label).unwrap_or_else(|| panic!("no label {label}")).1
    }

    fn checked(&self) -> Checked {
        check_cfi::image(&self.image)
    }

    /// What is not proven, by address.
    fn grade(&self, label: &str) -> RowProof {
        let (checked, at) = (self.checked(), self.at(label));
        let wrong = |found: &&check_cfi::Contradiction| found.address == at;
        match checked.contradictions.iter().find(wrong) {
            Some(found) => found.proven.frame,
            None if checked.assumed.contains(&at) => RowProof::Assumed,
            None if checked.undecided.contains(&at) => RowProof::Undecided,
            None => RowProof::Proven,
        }
    }
}

fn assembled(body: &str) -> Built {
    let source = format!(".globl f\n.type f,@function\nf: .cfi_startproc\n{body}\n.cfi_endproc\n.size f,.-f\n");
    build("s", &source, &["-nostdlib"])
}

/// Everything is proven, nothing contradicted.
fn all_proven(built: &Built) {
    let checked = built.checked();
    let counts = checked.counts;
    assert!(counts.proven > 0);
    assert_eq!((counts.assumed, counts.contradicted, counts.undecided), (0, 0, 0), "{checked:x?}");
    assert_eq!(counts.wrong_registers, 0);
}

//   rsp → ┌──────────────┐ CFA-32
//         │ locals       │
//         ├──────────────┤ CFA-16
//         │ rbx          │
//         ├──────────────┤ CFA-8
//         │ return       │
//         └──────────────┘ CFA
#[test]
fn rows_that_follow_every_push_are_proven() {
    all_proven(&assembled(
        "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\nsub $16,%rsp\n.cfi_adjust_cfa_offset 16\nmov %rdi,%rbx
         add $16,%rsp\n.cfi_adjust_cfa_offset -16\npop %rbx\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbx\nret",
    ));
}

#[test]
fn rows_that_only_a_debugger_has_are_checked_as_well() {
    let code = "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\nnop\npop %rbx\n.cfi_adjust_cfa_offset -8\n.cfi_restore rbx\nret";
    let function = |body: &str| format!(".cfi_sections .debug_frame\nf: .cfi_startproc\n{body}\n.cfi_endproc\n");
    all_proven(&build("s", &function(code), &["-nostdlib"]));
    let built = build("s", &function("push %rbx\nin: nop\npop %rbx\nout: ret"), &["-nostdlib"]);
    assert_eq!((built.grade("in"), built.grade("out")), (RowProof::Contradicted, RowProof::Proven));
    // Where both sections have a function, the one that the program itself uses counts.
    let both = code.replace("nop", "in: nop\n.cfi_escape 0");
    let source = format!(".cfi_sections .eh_frame,.debug_frame\nf: .cfi_startproc\n{both}\n.cfi_endproc\n");
    let checked = build("s", &source, &["-nostdlib"]).checked();
    assert_eq!((checked.counts.functions, checked.counts.proven), (1, 4));
}

#[test]
fn a_push_without_a_row_is_contradicted_until_it_is_popped() {
    let built = assembled("push %rbx\nin: nop\npop %rbx\nout: ret");
    assert_eq!(built.grade("f"), RowProof::Proven);
    assert_eq!(built.grade("in"), RowProof::Contradicted);
    assert_eq!(built.grade("out"), RowProof::Proven);
    assert_eq!(built.checked().contradictions[0].proven.off, -8);
}

#[test]
fn a_register_recorded_as_another_is_wrong_though_the_frame_is_right() {
    let built = assembled(
        "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\npush %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-24
         xor %ebp,%ebp\nin: nop\npop %rbp\n.cfi_adjust_cfa_offset -8\npop %rbx\n.cfi_adjust_cfa_offset -8\nret",
    );
    let checked = built.checked();
    let found = checked.contradictions.iter().find(|found| found.address == built.at("in")).unwrap();
    // rbx lies at CFA-16, rbp is lost.
    assert_eq!((found.proven.frame, found.proven.wrong), (RowProof::Proven, 0b11));
}

#[test]
fn where_two_ways_meet_with_different_frames_nothing_is_proven() {
    let built = assembled(
        "test %edi,%edi\nje 1f\npush %rax\n.cfi_adjust_cfa_offset 8\n1: .globl both\nboth: nop\nadd $8,%rsp\n.cfi_adjust_cfa_offset -8\nret",
    );
    assert_ne!(built.grade("both"), RowProof::Proven);
}

#[test]
fn behind_a_jump_that_cannot_be_followed_rows_are_assumed_at_most() {
    let built = assembled(
        "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\ntest %edi,%edi\nje 1f\njmp *(%rsi)\n1: pop %rbx
         .cfi_adjust_cfa_offset -8\n.cfi_restore rbx\nout: ret",
    );
    assert_eq!(built.grade("out"), RowProof::Assumed);
}

#[test]
fn a_frame_based_on_rbp_survives_alloca_and_alignment() {
    all_proven(&assembled(
        "push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbp,-16\nmov %rsp,%rbp\n.cfi_def_cfa_register rbp
         and $-32,%rsp\nsub %rdi,%rsp\nmov %rsp,%rax\nmov %rbp,%rsp\npop %rbp\n.cfi_def_cfa rsp,8\n.cfi_restore rbp\nret",
    ));
}

#[test]
fn pages_touched_in_a_loop_leave_the_stack_pointer_known() {
    all_proven(&assembled(
        "lea -8192(%rsp),%r11\n.cfi_def_cfa r11,8200\n1: sub $4096,%rsp\norq $0,(%rsp)\ncmp %r11,%rsp\njne 1b
         .cfi_def_cfa_register rsp\nnop\nadd $8192,%rsp\n.cfi_def_cfa_offset 8\nret",
    ));
}

#[test]
fn flags_pushed_and_popped_move_the_frame() {
    let built = assembled("pushf\nin: nop\npopf\nout: ret");
    assert_eq!((built.grade("in"), built.grade("out")), (RowProof::Contradicted, RowProof::Proven));
    all_proven(&assembled("pushf\n.cfi_adjust_cfa_offset 8\nnop\npopf\n.cfi_adjust_cfa_offset -8\nret"));
}

#[test]
fn a_contradiction_behind_a_call_that_never_returns_is_none() {
    all_proven(&assembled(
        "test %edi,%edi\njne 1f\nnop\njmp 4f\n2: ret\n1: push %rax\n.cfi_remember_state\n.cfi_adjust_cfa_offset 8\ncall never\n.cfi_restore_state
         4: test %esi,%esi\nje 2b\njmp 4b\n.cfi_endproc\nnever: .cfi_startproc\n3: jmp 3b",
    ));
}

const SWITCH: &str = "
int g(int); void h(char *);
int f(int a, int b) {
  switch (a) {
    case 0: return g(b) + 1; case 1: return g(b + 2) * 3; case 2: h((char *)&b); return b;
    case 3: return g(b) ^ g(a + b); case 4: return b; case 5: return g(g(b)); case 6: return g(b + 6) - 1;
    case 7: return g(b - 7) + b; default: return g(a) + g(b) * 5;
  }
}";

#[test]
fn a_callee_that_takes_its_arguments_off_the_stack_contradicts_no_row() {
    let built = assembled(
        "push %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset %rbx, -16
         push %rdi\n.cfi_def_cfa_offset 24\npush %rsi\n.cfi_def_cfa_offset 32
         call pops\n.cfi_def_cfa_offset 16
         behind: mov %eax,%ecx\nlast: pop %rbx\n.cfi_def_cfa_offset 8\n.cfi_restore %rbx\nret
         .cfi_endproc\n.size f,.-f\n.type pops,@function\npops: .cfi_startproc\n nop\nret $16",
    );
    assert_eq!([built.grade("behind"), built.grade("last")], [RowProof::Assumed; 2]);
}

#[test]
fn every_case_of_a_switch_is_proven_through_its_jump_table() {
    for flags in [&["-O2"][..], &["-O1"], &["-O2", "-fno-omit-frame-pointer"]] {
        all_proven(&build("c", SWITCH, flags));
    }
}

// clang: a case that cannot happen leads to where the function ends.
#[test]
fn a_table_is_read_on_behind_an_entry_that_leads_to_the_functions_end() {
    let built = assembled(
        "sub $8,%rsp\n.cfi_adjust_cfa_offset 8\nmovzbl %dil,%edi\nlea table(%rip),%rdx\nmovslq (%rdx,%rdi,4),%rax
         add %rdx,%rax\njmp *%rax\none: jmp both\nother: push %rax\n.cfi_remember_state\n.cfi_adjust_cfa_offset 8\njmp both
         .cfi_restore_state\nboth: add $8,%rsp\n.cfi_adjust_cfa_offset -8\nret\n.cfi_endproc\nend: nop
         .section .rodata\ntable: .long one-table, end-table, other-table, 0x7fffffff\n.text\n.cfi_startproc",
    );
    assert_ne!(built.grade("both"), RowProof::Proven);
    assert_eq!(built.grade("other"), RowProof::Proven);
}

#[test]
fn a_realigned_stack_is_followed_through_its_expressions() {
    let source = "void h(void *); void f(int n, ...) { char b[64] __attribute__((aligned(64))); __builtin_va_list a;
      __builtin_va_start(a, n); h(b); h(__builtin_alloca(n)); h(&a); }";
    for flags in [&["-O2"][..], &["-O2", "-mavx2"], &["-O0"], &["-O2", "-fno-omit-frame-pointer"]] {
        let checked = build("c", source, flags).checked();
        let counts = checked.counts;
        assert_eq!((counts.assumed, counts.contradicted, counts.undecided), (0, 0, 0), "{flags:?} {checked:x?}");
        // gcc finds rbp through rbp itself, also when it has popped it: the two instructions up to the return.
        assert!(counts.wrong_registers <= 2, "{flags:?} {checked:x?}");
    }
}

#[test]
fn landing_pads_hold_what_held_at_the_call_that_threw() {
    let source = "struct S { int a; S(int); ~S(); }; int g(int);
      int f(int a) { S s(a), t(a + 1); try { return g(a) + s.a; } catch (int e) { return g(e) + t.a; } }";
    for flags in [&["-O2"][..], &["-O0"], &["-O2", "-fno-reorder-blocks-and-partition"]] {
        all_proven(&build("cc", source, flags));
    }
}

//   CFA-16 ┌────────────┐ sp before
//          │ 0..255     │ lost to rounding
//          ├────────────┤ made + 0x120
//   +0x110 │ sp at entry│
//          │ locals     │
//   made   └────────────┘
const ALIGNED: &str = "mov %rsp,%rax\n.cfi_def_cfa_register rax\npush %rbx\n.cfi_offset rbx,-16
    sub $0x120,%rsp\nand $-256,%rsp\nmov %rax,0x110(%rsp)\n.cfi_escape 0x0f,0x06,0x77,0x90,0x02,0x06,0x23,0x08
    movaps %xmm0,(%rsp)\nlea 0x80(%rsp),%rcx\nmov %rdi,(%rcx)\n";
const UNALIGNED: &str = "after: nop\nmov 0x110(%rsp),%rsi\n.cfi_def_cfa rsi,8\nmov -8(%rsi),%rbx\n.cfi_restore rbx
    lea (%rsi),%rsp\n.cfi_def_cfa_register rsp\nret";

#[test]
fn a_stack_pointer_saved_in_an_aligned_frame_survives_what_is_written_below_it() {
    all_proven(&assembled(&format!("{ALIGNED}mov %rdi,0x118(%rsp)\n{UNALIGNED}")));
}

#[test]
fn what_is_written_above_an_aligned_frame_spoils_what_may_lie_there() {
    // 0x128 above it lies the return address, if nothing was lost to rounding.
    let built = assembled(&format!("{ALIGNED}mov %rdi,0x128(%rsp)\n{UNALIGNED}"));
    assert_eq!(built.grade("after"), RowProof::Undecided);
}

#[test]
fn an_aligned_address_becomes_the_stack_pointer() {
    all_proven(&assembled(
        "mov %rsp,%r9\n.cfi_def_cfa_register r9\nlea -0x80(%rsp),%r11\nand $-64,%r11\nmov %r11,%rsp\nmov %r9,0x40(%rsp)
         .cfi_escape 0x0f,0x06,0x77,0xc0,0x00,0x06,0x23,0x08\nmov %rdi,0x38(%rsp)\nmov 0x40(%rsp),%r9
         .cfi_def_cfa r9,8\nmov %r9,%rsp\n.cfi_def_cfa_register rsp\nret",
    ));
}

#[test]
fn a_row_that_an_aligned_stack_pointer_cannot_fulfil_is_contradicted() {
    let built = assembled("lea (%rsp),%r10\nsub $0x108,%rsp\nand $-16,%rsp\nin: nop\nlea (%r10),%rsp\nret");
    assert_eq!(built.grade("in"), RowProof::Contradicted);
}

#[test]
fn a_stack_pointer_that_may_have_risen_writes_anywhere() {
    let frame = |moves: &str| {
        format!(
            "push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbp,-16\nmov %rsp,%rbp\n.cfi_def_cfa_register rbp
             {moves}\nmov %rsi,(%rsp)\nafter: nop\nleave\n.cfi_def_cfa rsp,8\n.cfi_restore rbp\nret"
        )
    };
    assert_eq!(assembled(&frame("lea (%rsp,%rdi),%rsp")).grade("after"), RowProof::Undecided);
    // What is taken away is believed to be no negative number. It may be nothing, and then rbp lies there.
    assert_eq!(assembled(&frame("sub %rdi,%rsp")).checked().counts.wrong_registers, 0);
    all_proven(&assembled(&frame("push %rdi\nsub %rdi,%rsp")));
}

#[test]
fn a_frame_register_that_is_overwritten_without_a_row_finds_no_frame() {
    for register in ["rsi", "r8", "r9", "r10", "rdx"] {
        let built = assembled(&format!(
            "mov %rsp,%{register}\n.cfi_def_cfa_register {register}\nnop\nmov (%rdi),%{register}\nin: nop\nud2"
        ));
        assert_ne!(built.grade("in"), RowProof::Proven, "{register}");
    }
}

/// A switch whose third case, `c2`, is also reached with one word pushed: its row is right for that way only.
fn switched(dispatch: &str) -> RowProof {
    let cases = "c0: nop\nret\nc1: nop\nret\n9: push %rax\n.cfi_adjust_cfa_offset 8\nc2: xor %eax,%eax\nud2
        .section .rodata\n.balign 4\ntable: .long c0-table, c1-table, c2-table, 1\nother: .long c2-other, 1\n.text\n";
    assembled(&format!("{dispatch}\n{cases}")).grade("c2")
}

#[test]
fn a_comparison_that_is_jumped_past_cuts_no_table_short() {
    let load = "lea table(%rip),%rax\nmovslq (%rax,%rdi,4),%rcx\nadd %rax,%rcx\njmp *%rcx";
    let grade = switched(&format!("test %edx,%edx\nje 1f\ncmp $1,%edi\nja 9f\n1: {load}"));
    assert_ne!(grade, RowProof::Proven);
    // Where nothing comes in between, the third entry is none.
    assert_eq!(switched(&format!("cmp $1,%edi\nja 9f\n{load}")), RowProof::Proven);
}

#[test]
fn a_comparison_of_another_index_cuts_no_table_short() {
    let grade = switched(
        "lea table(%rip),%rax\nmovslq (%rax,%rdi,4),%rcx\ncmp $1,%esi\nja 9f\nmovslq (%r8,%rsi,4),%rdx
         add %rax,%rcx\njmp *%rcx",
    );
    assert_ne!(grade, RowProof::Proven);
    let grade = switched(
        "cmp $1,%edi\nja 9f\nmov $2,%edi\nlea table(%rip),%rax\nmovslq (%rax,%rdi,4),%rcx\nadd %rax,%rcx\njmp *%rcx",
    );
    assert_ne!(grade, RowProof::Proven);
}

#[test]
fn a_comparison_whose_flags_are_gone_cuts_no_table_short() {
    let grade = switched(
        "cmp $1,%edi\ntest %esi,%edx\nja 9f\nlea table(%rip),%rax\nmovslq (%rax,%rdi,4),%rcx\nadd %rax,%rcx\njmp *%rcx",
    );
    assert_ne!(grade, RowProof::Proven);
}

#[test]
fn a_jump_through_one_table_or_another_leads_anywhere() {
    let grade = switched(
        "lea table(%rip),%rax\ncmp $1,%edi\nja 9f\nmovslq (%rax,%rdi,4),%rcx\nadd %rax,%rcx\ntest %esi,%esi\nje 2f
         lea other(%rip),%rax\nmovslq (%rax,%rdx,4),%rcx\nadd %rax,%rcx\n2: jmp *%rcx",
    );
    assert_ne!(grade, RowProof::Proven);
}

#[test]
fn a_goto_to_one_of_many_labels_is_followed() {
    let source = "int g(int); int f(const unsigned char *p, int a) {
      static const int t[] = { &&one - &&zero, &&two - &&zero, &&three - &&zero, 0 };
      goto *(&&zero + t[*p++ & 3]);
      zero: return g(a) + 1;
      one: a = g(a) * 3; goto *(&&zero + t[*p++ & 3]);
      two: a ^= g(a + 2); goto *(&&zero + t[*p++ & 3]);
      three: return a + g(a); }";
    for flags in [&["-O2"][..], &["-O1"], &["-O2", "-fno-omit-frame-pointer"]] {
        all_proven(&build("c", source, flags));
    }
}

#[test]
fn a_lock_that_is_jumped_over_is_still_the_same_instruction() {
    all_proven(&assembled("test %esi,%esi\nje 1f\nlock\n1: cmpxchg %edx,(%rdi)\nret"));
}

#[test]
fn a_function_that_passes_its_own_address_on_is_proven() {
    let source = "void g(void (*)(void *), int); void f(void *a) { g(f, 1); g(f, 2); }";
    all_proven(&build("c", source, &["-O2", "-fvisibility=hidden"]));
}

#[test]
fn a_function_that_catches_what_it_throws_returns() {
    let source = "static __attribute__((noipa)) int caught(int a) { try { throw a; } catch (int) { return 5; } }
      int g(int); int f(int a, int b) { int c = caught(a); switch (b) { case 0: return g(c); case 1: return c;
      case 2: return g(b + c) * 3; case 3: return g(c - 1) ^ b; case 4: return g(g(c)); default: return g(c + 9); } }";
    all_proven(&build("cc", source, &["-O2"]));
}

#[test]
fn a_part_that_is_only_jumped_to_is_no_entry_because_its_row_says_so() {
    let built = assembled(
        "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\njmp part\n.cfi_endproc
         .p2align 4\npart: .cfi_startproc\nxor %eax,%eax\npop %rbx\nret",
    );
    assert_ne!(built.grade("part"), RowProof::Proven);
    // A function that is called in tail position has the frame that it claims.
    let built = assembled("xor %eax,%eax\njmp next\n.cfi_endproc\n.p2align 4\nnext: .cfi_startproc\ninc %eax\nret");
    all_proven(&built);
}

#[test]
fn control_that_gets_past_the_end_of_a_function_comes_into_the_next() {
    for space in ["", ".p2align 4\n"] {
        let frame = "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\ntest %edi,%edi";
        let built = assembled(&format!("{frame}\n.cfi_endproc\n{space}next: .cfi_startproc\nxor %eax,%eax\nret"));
        assert_ne!(built.grade("next"), RowProof::Proven, "{space:?}");
        let built = assembled(&format!("xor %eax,%eax\n.cfi_endproc\n{space}next: .cfi_startproc\ninc %eax\nret"));
        all_proven(&built);
    }
}

/// A library of the system, or a word that it is not there.
fn library(name: &str) -> Option<Image> {
    let path = Path::new("/lib/x86_64-linux-gnu").join(name);
    let image = Image::open(&path).ok();
    if image.is_none() {
        skip::skipped(&format!("there is no {}", path.display()));
    }
    image
}

#[test]
fn no_row_that_was_changed_is_proven() {
    let Some(image) = library("libc.so.6") else { return };
    let source =
        Source { memory: &image, bias: 0, unwind: image.unwind(), through: &|_| Return::Unknown, resolves: &|_| false };
    let proofs = Proofs::new(Rc::new(Layout::new(&source)));
    let mut before = 0;
    for index in (0..proofs.layout.functions().len()).step_by(23) {
        let members = proofs.layout.together(index, 8);
        let mut code = Code::new(&source, &proofs.layout, &members);
        let whole = Run::new(&source, &code, &proofs).finish();
        before += whole.iter().filter(|found| found.frame == RowProof::Proven).count();
        let firsts: Vec<u64> = code.members.iter().map(|member| member.extent.start).collect();
        let right = code.claims.clone();
        let changed = |claim: &surestack::proof::claim::Claim| !firsts.contains(&claim.start);
        for by in [-16, -8, 8, 16] {
            code.claims.clone_from(&right);
            for claim in code.claims.iter_mut().filter(|claim| changed(claim)) {
                if let Cfa::Register(_, offset) = &mut claim.cfa {
                    *offset += by;
                }
                for saved in &mut claim.saved {
                    if let Saved::At(offset) = saved {
                        *offset += by;
                    }
                }
            }
            let found = Run::new(&source, &code, &proofs).finish();
            for (step, found) in code.steps.iter().zip(found) {
                let Some(claim) = code.claims.get(step.claim as usize).filter(|claim| changed(claim)) else { continue };
                let is_plain = matches!(claim.cfa, Cfa::Register(..));
                assert!(!is_plain || found.frame != RowProof::Proven, "{:x} by {by}", step.at);
            }
        }
        code.claims.clone_from(&right);
        for claim in code.claims.iter_mut() {
            for saved in &mut claim.saved {
                if let Saved::At(offset) = saved {
                    *offset -= 8;
                }
            }
        }
        let found = Run::new(&source, &code, &proofs).finish();
        assert!(found.iter().all(|found| found.saved == 0 || found.frame != RowProof::Proven));
    }
    assert!(before > 3_000, "next to nothing was proven: {before}");
}

//   call install   ── writes over what was pushed and over the return address
//   mov %rcx,%rsp     what follows is another frame
//   pop %rcx
//   jmp *%rcx
#[test]
fn once_a_function_goes_on_in_another_frame_nothing_is_proven_and_before_everything_is() {
    let built = assembled(
        "push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset rbp,-16\nmov %rsp,%rbp\n.cfi_def_cfa_register rbp\npush %rbx\n.cfi_offset rbx,-24
         push %rax\ncall before\nasked: test %eax,%eax\nje 1f\ninstalls: call install\ninstalled: call shows\nshown: mov -8(%rbp),%rbx
         mov 0(%rbp),%rbp\n.cfi_restore rbp\n.cfi_restore rbx\n.cfi_def_cfa rsp,8\nmov %rcx,%rsp\npop %rcx\njmp *%rcx
         1: .cfi_def_cfa rbp,16\n.cfi_offset rbp,-16\n.cfi_offset rbx,-24\nreturns: pop %rax\npop %rbx\n.cfi_restore rbx\npop %rbp
         .cfi_def_cfa rsp,8\n.cfi_restore rbp\nret
         before:\ninstall:\nshows: .cfi_def_cfa rsp,8\nret",
    );
    for label in ["f", "asked", "returns"] {
        assert_eq!(built.grade(label), RowProof::Proven, "{label}");
    }
    for label in ["installs", "installed", "shown"] {
        assert_eq!(built.grade(label), RowProof::Assumed, "{label}");
    }
}

//   the loader's resolver: two words pushed by the table that jumps to it, and room for the vector registers
#[test]
fn what_is_written_where_room_was_made_by_a_size_that_the_program_keeps_hits_nothing() {
    all_proven(&assembled(
        "push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\nmov %rsp,%rbx\n.cfi_def_cfa_register rbx\nand $-64,%rsp
         sub size(%rip),%rsp\nmov %rdi,0x28(%rsp)\nmov 0x28(%rsp),%rdi\nmov %rbx,%rsp\n.cfi_def_cfa_register rsp\npop %rbx
         .cfi_adjust_cfa_offset -8\n.cfi_restore rbx\nret\n.data\n.hidden size\nsize: .quad 0x380\n.text",
    ));
}
