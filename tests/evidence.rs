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
    assert_eq!(at(CodeAddress::Exact(behind), base - 0x10_0000), Proof::Unknown, "far below the top");
    assert_eq!(at(CodeAddress::Exact(behind), base + 0x100), Proof::Unknown, "above the thread's own block");
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
