//! What the walk checks, whatever the unwinder.

use surestack_drawing::Stack;
use surestack_walk::{
    CodeAddress, End, Error, FoundBy, Link, Register, Regs, Root, Step, Target, Unwinder, Why, X86_64,
};

/// Follows the frame pointer without a question: `[fp]` is the caller's frame pointer, `[fp + 8]` its pc; a pc of 0 is
/// a root, an odd one is reached by a signal.
struct Chain;

impl Unwinder for Chain {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let fp = callee.need(target.arch.fp)?;
        let pc = target.memory.word(fp + 8)?;
        if pc == 0 {
            return Ok(Step::End(Root::Registered));
        }
        caller.forget();
        caller.set(target.arch.fp, target.memory.word(fp)?);
        caller.set(target.arch.sp, fp + 16);
        caller.set_saved(Register::PC, pc, fp + 8);
        caller.set_pc(CodeAddress::Return(pc));
        let link = if pc & 1 == 1 { Link::Signal } else { Link::Call };
        Ok(Step::Caller { cfa: fp + 16, return_slot: Some(fp + 8), link, found_by: FoundBy::Resolver })
    }
}

/// Spoils the caller and refuses.
struct Refuses(Why);

impl Unwinder for Refuses {
    fn step(&self, _: &Target<'_>, _: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        caller.set(Register::PC, 0xbad);
        Ok(Step::NotMine(self.0))
    }
}

/// Knows the code, and that what it knows is broken.
struct Broken;

impl Unwinder for Broken {
    fn step(&self, _: &Target<'_>, _: &Regs, _: &mut Regs) -> Result<Step, Error> {
        Err(Error::Misaligned { address: 1 })
    }
}

#[test]
fn a_walk_yields_the_first_frame_from_the_context_and_ends_at_the_root() {
    let trace = Stack::at(0x7000).words(&[0x7010, 0x40_2000, 0, 0]).walk(&[&Chain]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    assert_eq!(trace.found_by(), [FoundBy::Context, FoundBy::Resolver]);
    assert_eq!(trace.end, End::Root(Root::Registered));
}

#[test]
fn a_walk_ends_in_code_that_is_registered_as_outermost_and_goes_on_elsewhere() {
    let stack = || Stack::at(0x7000).words(&[0x7010, 0x40_2000, 0x7020, 0x40_3000, 0, 0]);
    let trace = stack().root_in(0x40_1fff..0x40_2000).walk(&[&Chain]);
    assert_eq!((trace.pcs().len(), trace.end), (2, End::Root(Root::Registered)));
    assert_eq!(
        stack().root_in(0x40_2000..0x40_2100).walk(&[&Chain]).pcs().len(),
        3,
        "a return address is looked up before"
    );
}

#[test]
fn a_frame_that_is_its_own_caller_stops_the_walk() {
    let trace = Stack::at(0x7000).words(&[0x7000, 0x40_2000]).walk(&[&Chain]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    assert_eq!(trace.end, End::Stopped(Error::NoProgress { cfa: 0x7010 }));
}

#[test]
fn a_caller_below_its_callee_on_the_same_stack_stops_the_walk() {
    let stack = Stack::at(0x7000).words(&[0x7020, 0x40_2000, 0, 0, 0x7010, 0x40_3000]).jump(0x7010);
    let trace = stack.words(&[0x7020, 0x40_4000]).walk(&[&Chain]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000, 0x40_3000]);
    assert_eq!(trace.end, End::Stopped(Error::BelowLast { cfa: 0x7020, last: 0x7030 }));
}

/// Two stacks, the lower one entered from the upper and back.
fn two_stacks(kind: u64) -> Stack {
    Stack::at(0x7000)
        .stack(0x2000..0x3000)
        .words(&[0x2000, 0x40_2000 + kind])
        .jump(0x2000)
        .words(&[0x7100, 0x40_3000 + kind])
        .jump(0x7100)
        .words(&[0, 0])
}

#[test]
fn a_caller_on_another_stack_may_lie_below() {
    for kind in [0, 1] {
        let trace = two_stacks(kind).walk(&[&Chain]);
        assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000 + kind, 0x40_3000 + kind]);
        assert_eq!(trace.end, End::Root(Root::Registered));
    }
}

#[test]
fn going_round_between_two_stacks_is_bounded() {
    let stack = Stack::at(0x7000).stack(0x2000..0x3000).budget(10_000);
    let trace = stack.words(&[0x2000, 0x40_2000]).jump(0x2000).words(&[0x7000, 0x40_3000]).walk(&[&Chain]);
    assert!(matches!(trace.end, End::Stopped(Error::BelowLast { .. } | Error::NoProgress { .. })), "{:?}", trace.end);
    assert!(trace.frames.len() < 300, "{} frames", trace.frames.len());
}

#[test]
fn the_budget_ends_the_walk_with_a_name() {
    let words: Vec<u64> = (0..20).flat_map(|frame| [0x7000 + 16 * (frame + 1), 0x40_2000 + 16 * frame]).collect();
    let trace = Stack::at(0x7000).words(&words).budget(7).walk(&[&Chain]);
    assert_eq!((trace.frames.len(), trace.end), (7, End::Stopped(Error::Budget { frames: 7 })));
}

#[test]
fn code_that_no_unwinder_knows_stops_the_walk_and_keeps_every_reason() {
    let trace = Stack::at(0x7000).walk(&[&Refuses(Why::NoRow), &Refuses(Why::NotAfterCall)]);
    assert_eq!(trace.end, End::Stopped(Error::UnknownCode { pc: 0x40_1000 }));
    assert_eq!(trace.refusals, [(0, Why::NoRow), (1, Why::NotAfterCall)]);
}

#[test]
fn a_refusal_leaves_nothing_behind_for_the_next_unwinder() {
    let trace = Stack::at(0x7000).words(&[0x7010, 0x40_2000, 0, 0]).walk(&[&Refuses(Why::NoRow), &Chain]);
    assert_eq!(trace.pcs(), [0x40_1000, 0x40_2000]);
    assert_eq!(trace.refusals, [(0, Why::NoRow)], "of the last step");
}

/// Refuses the innermost frame, and is done with the next.
struct RefusesFirst;

impl Unwinder for RefusesFirst {
    fn step(&self, _: &Target<'_>, callee: &Regs, _: &mut Regs) -> Result<Step, Error> {
        let first = callee.pc().is_some_and(CodeAddress::is_exact);
        Ok(if first { Step::NotMine(Why::NoRow) } else { Step::End(Root::Registered) })
    }
}

#[test]
fn reasons_of_an_earlier_step_are_forgotten() {
    let trace = Stack::at(0x7000).words(&[0x7010, 0x40_2000]).walk(&[&RefusesFirst, &Chain]);
    assert_eq!((trace.pcs().len(), trace.end), (2, End::Root(Root::Registered)));
    assert_eq!(trace.refusals, []);
}

#[test]
fn an_error_ends_the_walk_though_another_unwinder_would_go_on() {
    let trace = Stack::at(0x7000).words(&[0x7010, 0x40_2000, 0, 0]).walk(&[&Broken, &Chain]);
    assert_eq!((trace.pcs(), trace.end), (vec![0x40_1000], End::Stopped(Error::Misaligned { address: 1 })));
}

#[test]
fn registers_without_a_pc_are_no_frame() {
    let stack = Stack::at(0x7000);
    stack.with(|target| {
        let mut regs = Regs::new();
        regs.set(X86_64.sp, 0x7000);
        let unwinders: [&dyn Unwinder; 1] = [&Chain];
        let mut walk = surestack_walk::Walk::new(target, &unwinders, regs, 9);
        assert!(walk.next().is_none());
        assert_eq!(walk.end(), Some(End::Stopped(Error::UnknownRegister { register: Register::PC })));
    });
}
