//! One run through straight code: to where it branches for good.

use super::aim::{self, Aim, Reason};
use super::doom::Segment;
use super::execute::{execute, place};
use super::value::{State, Value};
use super::walk::{Callee, Came, Walk};
use super::{Edge, Offence};
use crate::analysis::{SP, number};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register as Name};

/// System calls that do not come back: `rt_sigreturn`, `exit`, `exit_group`.
const LAST: [u64; 3] = [15, 60, 231];

/// What comes behind an instruction.
enum Next {
    /// The next one.
    On,
    /// The next one, or another.
    Branch,
    /// Somebody is called first.
    Back,
    /// A panic.
    Escape,
    /// Anything else.
    End,
}

impl Walk<'_> {
    /// Executes the code of `node` from `start` on.
    pub fn run(&mut self, node: usize, start: u64) {
        let Some(mut state) = self.nodes.get(node).and_then(|found| found.blocks.get(&start)).cloned() else { return };
        let mut before: Vec<Instruction> = Vec::new();
        let (mut at, mut segment) = (start, start);
        loop {
            if at != start && self.nodes.get(node).is_some_and(|found| found.blocks.contains_key(&at)) {
                self.segment(node, segment).goes(at);
                return self.join(node, at, &state);
            }
            let here = Came { node, site: at, edge: Edge::Here };
            let stub = self.nodes.get(node).is_some_and(|found| found.stub);
            if !stub && self.binary.symbols.function(at).is_none() {
                return self.offend(Offence::Nameless, here);
            }
            let Some(bytes) = self.binary.code(at) else { return self.offend(Offence::NoCode(at), here) };
            let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
            if instruction.is_invalid() {
                return self.offend(Offence::Undecodable, here);
            }
            self.facts(here, &state, &instruction);
            for (address, edge) in self.references(&state, &instruction) {
                self.segment(node, segment).refers(address, Came { edge, ..here });
            }
            let next = instruction.next_ip();
            match self.step(here, &mut state, &before, &instruction) {
                Next::On => {}
                Next::Branch => {
                    self.segment(node, segment).goes(instruction.near_branch_target());
                    self.segment(node, segment).goes(next);
                    segment = next;
                }
                Next::Back => return self.segment(node, segment).goes(next),
                Next::Escape => return self.segment(node, segment).escapes(),
                Next::End => return self.segment(node, segment).leaves(),
            }
            if let Some(found) = self.nodes.get_mut(node) {
                found.frame.at(&state, &instruction);
            }
            before.push(instruction);
            at = instruction.next_ip();
        }
    }

    /// What an instruction touches, wherever control goes.
    fn facts(&mut self, here: Came, state: &State, instruction: &Instruction) {
        let touches = (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
        let is_idle = matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Lea);
        let segment = matches!(instruction.memory_segment(), Name::FS | Name::GS);
        let strings = matches!(instruction.segment_prefix(), Name::FS | Name::GS) && !touches && !is_idle;
        if touches && !is_idle && segment || strings && instruction.flow_control() == FlowControl::Next {
            self.thread("%fs or %gs", here);
        }
        let base = [Mnemonic::Rdfsbase, Mnemonic::Rdgsbase, Mnemonic::Wrfsbase, Mnemonic::Wrgsbase];
        if base.contains(&instruction.mnemonic()) {
            self.thread("the base of %fs or %gs", here);
        }
        if matches!(instruction.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter)
            || instruction.mnemonic() == Mnemonic::Int && instruction.immediate8() == 0x80
        {
            self.system_call(here.site, state.get(0));
        }
    }

    fn step(&mut self, here: Came, state: &mut State, before: &[Instruction], instruction: &Instruction) -> Next {
        let next = instruction.next_ip();
        match instruction.flow_control() {
            _ if matches!(instruction.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter) => {
                if matches!(state.get(0), Value::Known(numbers) if numbers.iter().all(|number| LAST.contains(number))) {
                    return Next::End;
                }
            }
            FlowControl::Next => {}
            FlowControl::Interrupt if instruction.mnemonic() == Mnemonic::Int && instruction.immediate8() == 0x80 => {}
            // Somebody may handle it, and it goes on.
            FlowControl::Interrupt if instruction.mnemonic() != Mnemonic::Int => {}
            FlowControl::Interrupt | FlowControl::Exception => return Next::End,
            FlowControl::XbeginXabortXend if instruction.mnemonic() != Mnemonic::Xbegin => {}
            FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                self.jump(here, instruction.near_branch_target(), Edge::Jump, state);
                settle(state, before, instruction);
                execute(self.binary, state, instruction, &mut self.factory);
                return Next::Branch;
            }
            FlowControl::UnconditionalBranch => {
                self.jump(here, instruction.near_branch_target(), Edge::Jump, state);
                return Next::End;
            }
            // `call .+5` only pushes.
            FlowControl::Call if instruction.near_branch_target() == next => {}
            FlowControl::Call => {
                let callee = self.call(here, instruction.near_branch_target(), Edge::Call, state);
                return self.come_back(here, state, next, &[callee]);
            }
            FlowControl::IndirectCall => {
                let aim = aim::aim(self.binary, state, before, instruction);
                let callees = self.callees_of(here, state, &aim);
                self.late(here, state, instruction, &aim);
                return self.come_back(here, state, next, &callees);
            }
            FlowControl::IndirectBranch => {
                let aim = aim::aim(self.binary, state, before, instruction);
                self.late(here, state, instruction, &aim);
                self.leave(here, state, &aim);
                return Next::End;
            }
            FlowControl::Return => {
                let aim = aim::back(state);
                let sp = state.get(SP).plus(8);
                state.set(SP, sp);
                self.leave(here, state, &aim);
                return Next::End;
            }
        }
        if instruction.mnemonic() == Mnemonic::Hlt {
            return Next::End;
        }
        if instruction.mnemonic() == Mnemonic::And
            && instruction.op0_register() == Name::RSP
            && let Some(found) = self.nodes.get_mut(here.node)
        {
            found.frame.aligned(state, instruction);
        }
        execute(self.binary, state, instruction, &mut self.factory);
        Next::On
    }

    /// A call of the function at `to`.
    fn call(&mut self, here: Came, to: u64, edge: Edge, state: &State) -> Callee {
        let callee = self.enter(to, &state.arguments(), Came { edge, ..here });
        self.deepen(here, &callee, state, 8);
        callee
    }

    /// `callee` begins with the stack pointer as it is, once so many bytes are pushed.
    fn deepen(&mut self, here: Came, callee: &Callee, state: &State, pushed: u64) {
        if let (Callee::Node(callee), Some(found)) = (callee, self.nodes.get_mut(here.node)) {
            let depth = found.frame.depth(state).map(|depth| depth.saturating_add(pushed));
            found.frame.calls(*callee, depth);
        }
    }

    /// Control comes back from any of `callees`.
    fn come_back(&mut self, here: Came, state: &State, next: u64, callees: &[Callee]) -> Next {
        let mut behind = state.clone();
        behind.called();
        for callee in callees {
            self.called(here.node, here.site, next, callee, &behind);
        }
        if callees.iter().all(|callee| matches!(callee, Callee::Escape)) { Next::Escape } else { Next::Back }
    }

    /// The piece of `node` that begins at `start`.
    fn segment(&mut self, node: usize, start: u64) -> &mut Segment {
        let found = self.nodes.get_mut(node).map(|found| found.segments.entry(start).or_default());
        found.unwrap_or(&mut self.nowhere)
    }

    /// Whom an indirect call calls.
    fn callees_of(&mut self, here: Came, state: &State, aim: &Aim) -> Vec<Callee> {
        match aim {
            Aim::To(targets) => {
                self.resolved.insert(here.site);
                targets.iter().map(|target| self.call(here, *target, Edge::Through, state)).collect()
            }
            Aim::Table(table, targets) => {
                self.resolved.insert(here.site);
                targets.iter().map(|target| self.call(here, *target, Edge::Table(*table), state)).collect()
            }
            Aim::Slot(slot) => {
                self.slot(here, *slot, state);
                vec![Callee::Back]
            }
            Aim::Back => vec![self.unknown(here, Reason::Return)],
            Aim::Unknown(reason) => vec![self.unknown(here, *reason)],
        }
    }

    fn unknown(&mut self, here: Came, reason: Reason) -> Callee {
        self.offend(Offence::Indirect(reason), here);
        Callee::Back
    }

    /// An indirect jump, or a return.
    fn leave(&mut self, here: Came, state: &State, aim: &Aim) {
        match aim {
            Aim::Back => self.returned(here.node, &state.handed_back()),
            Aim::To(targets) => {
                self.resolved.insert(here.site);
                targets.iter().for_each(|target| self.jump(here, *target, Edge::Through, state));
            }
            Aim::Table(table, targets) => {
                self.resolved.insert(here.site);
                targets.iter().for_each(|target| self.jump(here, *target, Edge::Table(*table), state));
            }
            Aim::Slot(slot) => {
                self.slot(here, *slot, state);
                self.returned(here.node, &[Value::Any, Value::Any]);
            }
            Aim::Unknown(reason) => {
                self.unknown(here, *reason);
                self.returned(here.node, &[Value::Any, Value::Any]);
            }
        }
    }

    /// A jump to `to`: within the function, into a part of it that lies elsewhere, or to another one.
    fn jump(&mut self, here: Came, to: u64, edge: Edge, state: &State) {
        let symbols = &self.binary.symbols;
        let start = |address: u64| symbols.function(address).map(|function| function.start);
        let same = start(here.site).is_some_and(|from| start(to) == Some(from));
        let sp = state.get(SP);
        let undone = sp == Value::Stack { base: 0, offset: 0 } && state.load(&sp) == Value::Return;
        if same || !undone && symbols.is_code(to) && symbols.function(to).is_some() {
            return self.join(here.node, to, state);
        }
        let callee = self.enter(to, &state.arguments(), Came { edge, ..here });
        self.deepen(here, &callee, state, 0);
        self.tail(here.node, &callee);
    }

    /// A call through a linkage slot that is not bound before it.
    fn late(&mut self, here: Came, state: &State, instruction: &Instruction, aim: &Aim) {
        let (Value::Known(places), Aim::To(targets)) = (place(state, instruction), aim) else { return };
        if instruction.op0_kind() == OpKind::Memory && places.iter().any(|place| self.binary.is_late(*place)) {
            let names: Vec<String> = targets.iter().map(|target| self.binary.describe(*target)).collect();
            self.offend(Offence::Late(names.join(", ")), here);
        }
    }
}

/// Behind `cmp %rsp,%r11; jne`, both are the same: the loop that touches every page of a large frame.
fn settle(state: &mut State, before: &[Instruction], branch: &Instruction) {
    let Some(compare) = before.last().filter(|_| branch.mnemonic() == Mnemonic::Jne) else { return };
    if compare.mnemonic() != Mnemonic::Cmp || compare.next_ip() != branch.ip() {
        return;
    }
    let other = match (compare.op0_register(), compare.op1_register()) {
        (Name::RSP, other) | (other, Name::RSP) => other,
        _ => return,
    };
    if let Some(value) =
        number(other).map(|other| state.get(other)).filter(|value| matches!(value, Value::Stack { .. }))
    {
        state.set(SP, value);
    }
}
