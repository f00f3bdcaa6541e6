//! Rows from instructions: small pieces of code, each with the stack it stands for.

mod code;

use code::Assembled;
use surestack::analysis::entries::Entries;
use surestack::analysis::{Base, Reached, SP, Text, Value, each_state, row};
use surestack_cfi::{CfaRule, Entry, Origin, Row, Rule};
use surestack_walk::{CodeAddress, Grade, Register, Root, Why, X86_64};

/// Asking for rows of a piece of code.
trait Ask {
    /// The row at a label, with functions known to begin at `functions`.
    fn row(&self, functions: &[&str], pc: impl Fn(u64) -> CodeAddress, label: &str) -> Result<Row<'static>, Why>;

    /// The row at `pc`.
    fn row_with(&self, entries: Entries, pc: CodeAddress) -> Result<Row<'static>, Why>;
}

impl Ask for Assembled {
    fn row(&self, functions: &[&str], pc: impl Fn(u64) -> CodeAddress, label: &str) -> Result<Row<'static>, Why> {
        self.row_with(
            Entries {
                functions: functions.iter().map(|name| self.at(name)).collect(),
                start: None,
                ..Entries::default()
            },
            pc(self.at(label)),
        )
    }

    fn row_with(&self, entries: Entries, pc: CodeAddress) -> Result<Row<'static>, Why> {
        let memory = self.memory();
        let text = Text::new(&memory);
        row(&text, pc, &Reached::new(&text, &entries, &|_| true))
    }
}

fn named(name: &str) -> Register {
    X86_64.registers.iter().find(|(_, known)| *known == name).unwrap().0
}

fn cfa(row: &Row<'_>) -> (&'static str, i64) {
    match row.cfa {
        CfaRule::Register(register, offset) => (X86_64.register_name(register).unwrap(), offset),
        CfaRule::Expression(_) => panic!("an expression"),
    }
}

fn rule(row: &Row<'_>, name: &str) -> Option<Rule> {
    row.rules.get(named(name))
}

const EXACT: fn(u64) -> CodeAddress = CodeAddress::Exact;
const RETURN: fn(u64) -> CodeAddress = CodeAddress::Return;

//   rsp → ┌──────────────┐ CFA-8
//         │ return       │
//         └──────────────┘ CFA
#[test]
fn at_a_known_entry_the_return_address_is_on_top_of_the_stack() {
    let code = Assembled::new("f: push %rbx\n in: pop %rbx\n out: ret");
    let row = code.row(&["f"], EXACT, "f").unwrap();
    assert_eq!((cfa(&row), row.origin), (("rsp", 8), Origin::Analysed(Grade::FromEntry)));
    assert_eq!((rule(&row, "rip"), rule(&row, "rbx")), (Some(Rule::Offset(-8)), None));
    let row = code.row(&["f"], EXACT, "in").unwrap();
    assert_eq!((cfa(&row), rule(&row, "rbx")), (("rsp", 16), None), "still in its register");
    assert_eq!(cfa(&code.row(&["f"], EXACT, "out").unwrap()), ("rsp", 8));
}

//         ┌──────────────┐ CFA-8
//         │ thrown away  │
//   rsp → ├──────────────┤ CFA
//         │ return       │
#[test]
fn a_return_address_that_was_thrown_away_is_none() {
    let code = Assembled::new("f: add $8, %rsp\n in: ret");
    let row = code.row(&["f"], EXACT, "in").unwrap();
    assert_eq!((cfa(&row), row.origin), (("rsp", 8), Origin::Analysed(Grade::ToReturn)), "where `ret` finds one");
    assert_eq!(cfa(&code.row(&["f"], EXACT, "f").unwrap()), ("rsp", 8));
}

//   rsp → ┌──────────────┐ CFA-48
//         │ locals       │
//         ├──────────────┤ CFA-24
//         │ rbx          │
//   rbp → ├──────────────┤ CFA-16
//         │ rbp          │
//         ├──────────────┤ CFA-8
//         │ return       │
//         └──────────────┘ CFA
const FRAME: &str = "
f:    push %rbp
      mov %rsp, %rbp
      push %rbx
      sub $24, %rsp
body: mov $1, %ebx
      call g
back: mov -8(%rbp), %rbx
near: leave
out:  ret
g:    ret";

#[test]
fn saved_registers_are_found_in_their_slots() {
    let code = Assembled::new(FRAME);
    for (pc, label) in [(EXACT, "back"), (RETURN, "back")] {
        let row = code.row(&["f"], pc, label).unwrap();
        assert_eq!(cfa(&row), ("rsp", 48));
        assert_eq!((rule(&row, "rbx"), rule(&row, "rbp")), (Some(Rule::Offset(-24)), Some(Rule::Offset(-16))));
        assert_eq!(rule(&row, "r12"), None);
    }
    let row = code.row(&["f"], EXACT, "out").unwrap();
    assert_eq!((cfa(&row), rule(&row, "rbx"), rule(&row, "rbp")), (("rsp", 8), None, None));
}

#[test]
fn without_a_known_entry_the_way_to_the_return_gives_the_same_row() {
    let code = Assembled::new(FRAME);
    let row = code.row(&[], RETURN, "back").unwrap();
    assert_eq!((cfa(&row), row.origin), (("rbp", 16), Origin::Analysed(Grade::ToReturn)));
    assert_eq!((rule(&row, "rip"), rule(&row, "rbp")), (Some(Rule::Offset(-8)), Some(Rule::Offset(-16))));
    assert_eq!(rule(&row, "rbx"), Some(Rule::Offset(-24)));
    assert_eq!(cfa(&code.row(&[], EXACT, "out").unwrap()), ("rsp", 8));
    let before = code.row(&[], EXACT, "f").unwrap();
    assert_eq!((cfa(&before), rule(&before, "rbp"), rule(&before, "rbx")), (("rsp", 8), None, None));
}

#[test]
fn a_function_without_frame_pointer_is_followed_to_its_return() {
    let code = Assembled::new(
        "f: push %rbx\n push %r12\n sub $40, %rsp\n mov %rdi, %rbx\n call g\n
back: test %eax, %eax\n je 1f\n add $40, %rsp\n pop %r12\n pop %rbx\n ret\n
1: lea 40(%rsp), %rsp\n pop %r12\n pop %rbx\n jmp g\n g: ret",
    );
    let row = code.row(&[], RETURN, "back").unwrap();
    assert_eq!(cfa(&row), ("rsp", 64));
    assert_eq!((rule(&row, "rbx"), rule(&row, "r12")), (Some(Rule::Offset(-16)), Some(Rule::Offset(-24))));
    assert_eq!((rule(&row, "rbp"), rule(&row, "r13")), (None, None), "never touched");
}

#[test]
fn returns_that_disagree_decide_nothing() {
    let code = Assembled::new("f: test %eax, %eax\n je 1f\n pop %rbx\n ret\n 1: ret");
    assert_eq!(code.row(&[], EXACT, "f").unwrap_err(), Why::Undecided);
}

#[test]
fn code_reached_with_two_stack_pointers_decides_nothing() {
    let code = Assembled::new("f: test %eax, %eax\n je both\n push %rax\n both: nop\n push %rcx\n 1: jmp 1b");
    assert_eq!(code.row(&["f"], EXACT, "both").unwrap_err(), Why::Undecided);
    assert_eq!(cfa(&code.row(&["f"], EXACT, "f").unwrap()), ("rsp", 8));
}

#[test]
fn a_realigned_stack_is_found_through_the_frame_pointer() {
    let code = Assembled::new(
        "f: push %rbp\n mov %rsp, %rbp\n push %rbx\n and $-64, %rsp\n sub $128, %rsp\n xor %ebx, %ebx\n in: nop\n lea -8(%rbp), %rsp\n pop %rbx\n pop %rbp\n ret",
    );
    let row = code.row(&["f"], EXACT, "in").unwrap();
    assert_eq!((cfa(&row), rule(&row, "rbx")), (("rbp", 16), Some(Rule::Offset(-24))));
    let row = code.row(&[], EXACT, "in").unwrap();
    assert_eq!((cfa(&row), rule(&row, "rbx")), (("rbp", 16), Some(Rule::Offset(-24))));
}

#[test]
fn a_return_address_that_was_overwritten_is_not_believed() {
    let code = Assembled::new("f: nop\n mov %rax, (%rsp)\n in: ret\n g: push %rax\n ret");
    assert_eq!(code.row(&["f"], EXACT, "in").unwrap_err(), Why::Undecided);
    assert_eq!(code.row(&[], EXACT, "g").unwrap_err(), Why::Undecided);
}

#[test]
fn a_register_that_was_overwritten_without_being_saved_is_lost() {
    let code = Assembled::new("f: xor %ebx, %ebx\n in: ret");
    assert_eq!(rule(&code.row(&["f"], EXACT, "in").unwrap(), "rbx"), Some(Rule::Undefined));
}

#[test]
fn a_call_that_only_pushes_is_a_push() {
    let code = Assembled::new("f: call 1f\n 1: pop %rax\n in: ret");
    assert_eq!(cfa(&code.row(&["f"], EXACT, "in").unwrap()), ("rsp", 8));
}

#[test]
fn what_stands_behind_a_call_that_never_returns_is_another_function() {
    let code = Assembled::new(
        "f: push %rbx\n test %eax, %eax\n je 1f\n mid: pop %rbx\n ret\n 1: call abort\n .p2align 4\n g: push %r12\n push %r13\n pop %r13\n pop %r12\n ret\n abort: hlt",
    );
    assert_eq!(cfa(&code.row(&[], EXACT, "mid").unwrap()), ("rsp", 16));
    let at = code.at("g");
    assert_eq!(
        code.row_with(Entries { functions: vec![at], ..Entries::default() }, CodeAddress::Return(at)).unwrap_err(),
        Why::Undecided
    );
}

#[test]
fn code_straight_from_the_entry_point_is_outermost_and_what_it_calls_is_not() {
    let code = Assembled::new(
        "start: xor %ebp, %ebp\n mov %rsp, %rdi\n call f\n back: jmp *%r12\n f: push %rbx\n in: pop %rbx\n ret",
    );
    let entries = Entries { functions: vec![], start: Some(code.at("start")), ..Entries::default() };
    for pc in [EXACT(code.at("start")), EXACT(code.at("back")), RETURN(code.at("back"))] {
        assert_eq!(code.row_with(entries.clone(), pc).unwrap().entry, Entry::Outermost(Root::EntryPoint));
    }
    let row = code.row_with(entries, EXACT(code.at("in"))).unwrap();
    assert_eq!((row.entry, cfa(&row), row.origin), (Entry::Called, ("rsp", 16), Origin::Analysed(Grade::FromEntry)));
}

#[test]
fn procedure_linkage_stubs_are_known_by_their_shape() {
    let code = Assembled::new(
        "plt0: pushq 0x2000(%rip)\n plt0b: jmp *0x2000(%rip)\n nopl 0(%rax)\n
s1: jmp *0x2000(%rip)\n s1b: pushq $0x12345\n s1c: jmp plt0\n
sec: endbr64\n secb: jmp *0x2000(%rip)",
    );
    let at = |label| cfa(&code.row(&[], EXACT, label).unwrap());
    assert_eq!([at("s1"), at("s1b"), at("s1c")], [("rsp", 8), ("rsp", 8), ("rsp", 16)]);
    assert_eq!([at("plt0"), at("plt0b")], [("rsp", 16), ("rsp", 24)]);
    assert_eq!([at("sec"), at("secb")], [("rsp", 8), ("rsp", 8)]);
}

#[test]
fn code_that_cannot_be_read_or_decoded_is_refused() {
    let code = Assembled::new("f: ret\n bad: .byte 6, 6, 6");
    assert_eq!(code.row_with(Entries::default(), EXACT(0x1000)).unwrap_err(), Why::NoText);
    assert!(code.row(&[], EXACT, "bad").is_err());
}

#[test]
fn a_function_is_followed_from_its_entry_and_not_beyond_its_range() {
    let code = Assembled::new("f: push %rax\n in: pop %rax\n jmp g\n g: nop\n ret");
    let memory = code.memory();
    let text = Text::new(&memory);
    let end = code.at("g");
    let mut reached = Vec::new();
    each_state(&text, code.at("f"), &|pc| pc < end, |at, state| reached.push((at, state.get(SP))));
    assert!(reached.contains(&(code.at("in"), Value::Sum(Base::Cfa, -16))));
    assert!(reached.iter().all(|(at, _)| *at < end));
}
