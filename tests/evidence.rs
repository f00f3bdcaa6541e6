//! What instructions say about calls and roots: small pieces of code, and a whole library.

mod code;

use code::{Assembled, Library};
use surestack::evidence::FileEvidence;
use surestack_walk::{
    CodeAddress, Evidence, NoModules, Proof, Register, Regs, Root, Stack, StackKind, Stacks, Witness, X86_64,
};

/// No mapping can be written.
struct NoStacks;

impl Stacks for NoStacks {
    fn find(&self, _address: u64) -> Option<Stack> {
        None
    }
}

fn asked(code: &Assembled, return_address: &str, callee: CodeAddress) -> Witness {
    let memory = code.memory();
    FileEvidence::of(&X86_64, &memory, &NoModules, &NoStacks).call(code.at(return_address), callee)
}

const CALLS: &str = "
.fill 8, 1, 0x90
main: call f
r1:   call *slot(%rip)
r2:   call *%rax
r3:   nop
r4:   call lazy
r5:   hlt
f:    push %rbx
      call g
in_f: test %eax, %eax
      je cold
      pop %rbx
      jmp g
g:    nop
in_g: ret
h:    nop
in_h: ret
cold: nop
in_c: hlt
wild: jmp *%rax
lazy: jmp *slot(%rip)
.balign 8
slot: .quad 0x400000 + (h - start)
";

fn calls() -> Assembled {
    Assembled::new(&format!("start: {CALLS}"))
}

#[test]
fn a_direct_call_confirms_what_its_target_reaches_and_refutes_the_rest() {
    let code = calls();
    let exact = |label| asked(&code, "r1", CodeAddress::Exact(code.at(label)));
    for reached in ["f", "in_f", "g", "in_g", "cold", "in_c"] {
        assert_eq!(exact(reached), Witness::Confirmed, "{reached}");
    }
    assert_eq!(asked(&code, "r1", CodeAddress::Return(code.at("in_f"))), Witness::Confirmed);
    assert_eq!(exact("in_h"), Witness::Refuted { target: code.at("f") });
    assert_eq!(asked(&code, "r1", CodeAddress::Return(code.at("r2"))), Witness::Refuted { target: code.at("f") });
}

#[test]
fn a_call_through_a_slot_goes_where_the_slot_says() {
    let code = calls();
    assert_eq!(asked(&code, "r2", CodeAddress::Exact(code.at("in_h"))), Witness::Confirmed);
    assert_eq!(asked(&code, "r2", CodeAddress::Exact(code.at("in_g"))), Witness::Refuted { target: code.at("h") });
    assert_eq!(asked(&code, "r5", CodeAddress::Exact(code.at("in_h"))), Witness::Confirmed, "by way of a stub");
}

#[test]
fn a_word_that_the_program_may_write_may_have_held_something_else() {
    let code = calls();
    let memory = code.memory();
    let all = [Stack { low: 0, high: u64::MAX, kind: StackKind::Other }];
    let evidence = FileEvidence::of(&X86_64, &memory, &NoModules, &all);
    for returned in ["r2", "r5"] {
        let asked = |label| evidence.call(code.at(returned), CodeAddress::Exact(code.at(label)));
        assert_eq!((asked("in_h"), asked("in_g")), (Witness::Unknown, Witness::Unknown));
    }
}

#[test]
fn a_call_through_a_register_says_nothing() {
    let code = calls();
    assert_eq!(asked(&code, "r3", CodeAddress::Exact(code.at("in_g"))), Witness::Unknown);
}

#[test]
fn what_does_not_follow_a_call_is_no_return_address() {
    let code = calls();
    assert_eq!(asked(&code, "in_g", CodeAddress::Exact(code.at("in_g"))), Witness::NotACall);
    assert_eq!(asked(&code, "r4", CodeAddress::Exact(code.at("in_g"))), Witness::NotACall);
}

#[test]
fn a_jump_through_a_register_on_the_way_keeps_a_call_from_being_refuted() {
    let code = Assembled::new(".fill 8, 1, 0x90\n call f\n back: hlt\n f: jmp *%rax\n g: ret");
    assert_eq!(asked(&code, "back", CodeAddress::Exact(code.at("g"))), Witness::Unknown);
}

//   initial sp → ┌──────────────┐
//                │ argc         │
//                └──────────────┘
const START: &str = "
start: xor %ebp, %ebp
       mov %rdx, %r9
       pop %rsi
       mov %rsp, %rdx
       and $-16, %rsp
       push %rax
       push %rsp
       call *%rbx
back:  hlt
other: ret";

#[test]
fn the_first_frame_is_proven_by_its_stack_pointer_and_refuted_by_any_other() {
    let code = Assembled::new(START);
    let memory = code.memory();
    let stacks = [Stack { low: 0x7000, high: 0x9000, kind: StackKind::Main }];
    let initial = 0x8030;
    // pop, and, two pushes: 0x8038, 0x8030, 0x8020.
    let evidence = FileEvidence::of(&X86_64, &memory, &NoModules, &stacks).starts(vec![code.at("start")]);
    let evidence = evidence.initial_stack(Some(initial));
    let at = |label, sp| {
        let mut regs = Regs::new();
        regs.set(X86_64.sp, sp);
        regs.set_pc(CodeAddress::Return(code.at(label)));
        evidence.root(Root::UndefinedReturn, &regs)
    };
    assert_eq!(at("back", 0x8020), Proof::Proven);
    assert_eq!(at("back", 0x8030), Proof::Refuted);
    assert_eq!(at("other", 0x8020), Proof::Unknown);
}

//   ┌──────────────┐ mapping's end
//   │ struct pthread │
//   ├──────────────┤ fs_base
//   │ thread-local │
//   ├──────────────┤ ← sp
#[test]
fn a_thread_begins_behind_clone_at_the_top_of_its_stack() {
    let Some(libc) = Library::open() else { return };
    let Some((start, end)) = libc.symbol("clone") else { return };
    let stacks = [Stack { low: 0x7f00_0000_0000, high: 0x7f00_0080_0000, kind: StackKind::Other }];
    let evidence = FileEvidence::of(&X86_64, &libc, &libc, &stacks).initial_stack(Some(0x7fff_0000_0000));
    let base: u64 = 0x7f00_007f_f000;
    let at = |pc, sp| {
        let mut regs = Regs::new();
        regs.set(X86_64.sp, sp);
        regs.set(Register::THREAD, base);
        regs.set_pc(pc);
        evidence.root(Root::UndefinedReturn, &regs)
    };
    let behind = libc.behind_syscall(start, end).unwrap();
    assert_eq!(at(CodeAddress::Exact(behind), base - 0x100), Proof::Proven);
    assert_eq!(at(CodeAddress::Exact(start), base - 0x100), Proof::Unknown, "before the thread was made");
    assert_eq!(at(CodeAddress::Exact(behind), base - 0x10_0000), Proof::Refuted, "far below the top");
    assert_eq!(at(CodeAddress::Exact(behind), base + 0x100), Proof::Refuted, "above the thread's own block");
}

#[test]
fn every_direct_call_in_a_library_is_confirmed_and_hardly_any_reaches_a_stranger() {
    let Some(libc) = Library::open() else { return };
    let evidence = FileEvidence::of(&X86_64, &libc, &libc, &NoStacks);
    let functions: Vec<(u64, u64)> = libc.functions().collect();
    let (mut confirmed, mut other, mut refuted, mut unknown, mut strangers) = (0, 0, 0, 0, 0);
    for (index, call) in libc.direct_calls().enumerate() {
        match evidence.call(call.next_ip(), CodeAddress::Exact(call.near_branch_target())) {
            Witness::Confirmed => confirmed += 1,
            _ => other += 1,
        }
        let Some(&(stranger, _)) = functions.get(index.wrapping_mul(7919) % functions.len()) else { continue };
        match evidence.call(call.next_ip(), CodeAddress::Exact(stranger)) {
            Witness::Confirmed => strangers += 1,
            Witness::Refuted { .. } => refuted += 1,
            _ => unknown += 1,
        }
    }
    println!("direct calls: confirmed {confirmed}, other {other}");
    println!("with a stranger as callee: refuted {refuted}, unknown {unknown}, confirmed {strangers}");
    assert!(confirmed > 1_000 && other == 0);
    assert!(strangers * 200 < confirmed, "a stranger may be in tail position of the target, seldom");
    assert!(refuted > unknown);
}

/// glibc's CFI describes `swapcontext` as if its frame were still there when the stack pointer is another stack's already.
#[test]
fn code_that_has_loaded_the_stack_pointer_from_elsewhere_has_left_its_frame() {
    let Some(libc) = Library::open() else { return };
    let Some((start, end)) = libc.symbol("swapcontext") else { return };
    let evidence = FileEvidence::of(&X86_64, &libc, &libc, &NoStacks);
    let code = libc.decoded(start, end);
    let loads_sp = |at: &iced_x86::Instruction| {
        at.mnemonic() == iced_x86::Mnemonic::Mov && at.op0_register() == iced_x86::Register::RSP
    };
    let switch = code.iter().position(loads_sp).expect("swapcontext loads rsp");
    let frame = |at: usize| evidence.frame(CodeAddress::Exact(code[at].ip()));
    assert_eq!(frame(switch), Proof::Unknown, "not executed yet: still its own frame");
    assert_eq!(frame(switch + 1), Proof::Refuted);
    assert_eq!(frame(0), Proof::Unknown);
}

/// musl's clone, as its assembly has it.
const MUSL_CLONE: &str = "
.fill 64, 1, 0x90
clone: xor %eax, %eax
       mov $56, %al
       mov %rdi, %r11
       and $-16, %rsi
       syscall
       test %eax, %eax
       jne parent
       xor %ebp, %ebp
       pop %rdi
       call *%r9
back:  mov %eax, %edi
       xor %eax, %eax
       mov $60, %al
       syscall
       hlt
parent: ret
other: xor %eax, %eax
       mov $56, %al
       mov %rdi, %rax
       syscall
       call *%r9
not_made: hlt";

//   ┌──────────────┐ mapping's end
//   │              │ at most a page
//   ├──────────────┤ ← sp
#[test]
fn a_task_with_a_stack_of_the_programs_own_begins_at_the_end_of_its_mapping() {
    let code = Assembled::new(MUSL_CLONE);
    let memory = code.memory();
    let (top, elsewhere) = (0x7f00_0080_0000u64, 0x7e00_0000_0000);
    let stacks = [Stack { low: 0x7f00_0000_0000, high: top, kind: StackKind::Other }];
    let evidence = FileEvidence::of(&X86_64, &memory, &NoModules, &stacks);
    let at = |label, sp, base| {
        let mut regs = Regs::new();
        regs.set(X86_64.sp, sp);
        regs.set(Register::THREAD, base);
        regs.set_pc(CodeAddress::Return(code.at(label)));
        evidence.root(Root::UndefinedReturn, &regs)
    };
    assert_eq!(at("back", top - 0x10, elsewhere), Proof::Proven);
    assert_eq!(at("back", top - 0x2000, elsewhere), Proof::Unknown, "what lies above it nobody knows");
    assert_eq!(at("back", top - 0x2000, top - 0x1f00), Proof::Proven, "below the thread's own block");
    assert_eq!(at("not_made", top - 0x10, elsewhere), Proof::Unknown, "another system call");
    let main = [Stack { kind: StackKind::Main, ..stacks[0] }];
    let on_main = FileEvidence::of(&X86_64, &memory, &NoModules, &main);
    let mut regs = Regs::new();
    regs.set(X86_64.sp, top - 0x10);
    regs.set(Register::THREAD, elsewhere);
    regs.set_pc(CodeAddress::Return(code.at("back")));
    assert_eq!(on_main.root(Root::UndefinedReturn, &regs), Proof::Unknown, "the first thread's stack");
}

#[test]
fn the_foot_of_a_context_is_outermost_on_any_stack_but_the_first() {
    let stacks = [
        Stack { low: 0x7000, high: 0x9000, kind: StackKind::Main },
        Stack { low: 0xa000, high: 0xc000, kind: StackKind::Other },
    ];
    let code = Assembled::new(START);
    let memory = code.memory();
    let evidence = FileEvidence::of(&X86_64, &memory, &NoModules, &stacks).initial_stack(Some(0x8f00));
    let at = |sp| {
        let mut regs = Regs::new();
        regs.set(X86_64.sp, sp);
        regs.set_pc(CodeAddress::Return(code.at("back")));
        evidence.root(Root::ContextEntry, &regs)
    };
    assert_eq!(at(0xbff0), Proof::Proven);
    assert_eq!(at(0x8ef0), Proof::Unknown);
    assert_eq!(at(0x100), Proof::Unknown, "no stack");
}

/// Code in which `returns` follows a call of `f`, and what is asked of it.
fn asked_of(source: &str, callee: &str) -> Witness {
    let code = Assembled::new(&format!(".fill 64, 1, 0x90\n call f\n returns: hlt\n {source}"));
    asked(&code, "returns", CodeAddress::Exact(code.at(callee)))
}

#[test]
fn what_a_function_calls_is_not_what_its_own_call_leads_to() {
    let refuted = |source, callee| matches!(asked_of(source, callee), Witness::Refuted { .. });
    assert!(refuted("f: call g\n ret\n g: nop\n in_g: ret", "in_g"), "f is missing");
    assert!(refuted("f: push %rbx\n pop %rbx\n ret\n g: call f\n in_g: ret", "in_g"), "what lies behind f");
    assert!(refuted("f: jmp g\n g: call h\n ret\n h: nop\n in_h: ret", "in_h"), "g is missing");
    assert!(refuted("f: ud2\n g: ret", "g"));
}

#[test]
fn ways_that_are_no_jumps_are_known() {
    assert_eq!(asked_of("f: nop\n .balign 16\n g: nop\n in_g: ret", "in_g"), Witness::Confirmed, "fall-through");
    assert_eq!(asked_of("f: int3\n in_f: ret", "in_f"), Witness::Confirmed, "a trap that was compiled in");
    assert_eq!(asked_of("f: xbegin aborted\n xend\n ret\n aborted: nop\n in: ret", "in"), Witness::Confirmed);
    assert_eq!(asked_of("f: xbegin aborted\n xend\n in: ret\n aborted: ret", "in"), Witness::Confirmed);
}

#[test]
fn a_return_that_is_a_jump_keeps_a_call_from_being_refuted() {
    let thunk = "f: call 1f\n 0: pause\n lfence\n jmp 0b\n 1: mov %rax, (%rsp)\n ret\n g: nop\n in_g: ret";
    for source in ["f: push %rax\n ret\n g: nop\n in_g: ret", thunk] {
        assert_eq!(asked_of(source, "in_g"), Witness::Unknown, "{source}");
    }
}

#[test]
fn a_jump_table_outside_any_known_function_keeps_a_call_from_being_refuted() {
    // Nobody knows where the function ends, and so nobody knows what its table holds.
    let table = "f: lea table(%rip), %rdx\n movslq (%rdx,%rdi,4), %rax\n add %rdx, %rax\n jmp *%rax\n
        one: ret\n two: ret\n g: ret\n .balign 4\n table: .long one - table, two - table";
    for callee in ["two", "g"] {
        assert_eq!(asked_of(table, callee), Witness::Unknown);
    }
}
