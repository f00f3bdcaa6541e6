//! What runs of a function when it is entered at some address, calls it makes aside.

use super::FileEvidence;
use crate::analysis::{Text, jump_table};
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use std::collections::HashMap;
use std::rc::Rc;
use surestack_cfi::CfaRule;
use surestack_walk::Mapping;

/// Most instructions of one function: interpreters' main loops have thirty thousand.
const BUDGET: usize = 200_000;
/// How far code without unwind information is followed from where it is entered.
const NEAR: u64 = 64 << 10;
/// Most words that all parts together may have.
const WORDS: usize = 2 << 20;

/// What runs of a function when it is entered at some address.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Code that may run, ascending.
    runs: Vec<(u64, u64)>,
    /// Where the calls in it return to, ascending.
    returns: Vec<u64>,
    /// Where control leaves to: jumps out of the function, and what lies behind it.
    pub exits: Vec<u64>,
    /// Words through which it jumps away.
    pub slots: Vec<u64>,
    /// Whether there are ways out of it that are not known.
    pub open: bool,
}

impl Part {
    /// Whether the instruction at `address` may run.
    pub fn runs(&self, address: u64) -> bool {
        let after = self.runs.partition_point(|(start, _)| *start <= address);
        after.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|(_, end)| address < *end)
    }

    /// Whether a call that may be made returns to `address`.
    pub fn calls_before(&self, address: u64) -> bool {
        self.returns.binary_search(&address).is_ok()
    }

    fn words(&self) -> usize {
        8 + 2 * self.runs.len() + self.returns.len() + self.exits.len() + self.slots.len()
    }
}

/// The parts that were looked at, by where they are entered.
#[derive(Default)]
pub(super) struct Parts {
    known: HashMap<u64, Rc<Part>>,
    words: usize,
}

impl Parts {
    fn keep(&mut self, entry: u64, part: Rc<Part>) {
        if self.words > WORDS {
            (self.known, self.words) = (HashMap::new(), 0);
        }
        self.words = self.words.saturating_add(part.words());
        self.known.insert(entry, part);
    }
}

impl FileEvidence<'_> {
    /// What runs when the code at `entry` is entered, up to where it leaves its function.
    pub(super) fn part(&self, entry: u64) -> Rc<Part> {
        if let Some(part) = self.answers.parts.borrow().known.get(&entry) {
            return Rc::clone(part);
        }
        let function = self.function(entry);
        let mut follow = Follow {
            evidence: self,
            text: self.text(),
            entry,
            function,
            seen: HashMap::new(),
            work: vec![entry],
            part: Part::default(),
            code: None,
            swept: false,
        };
        follow.all();
        let part = Rc::new(follow.finish());
        self.answers.parts.borrow_mut().keep(entry, Rc::clone(&part));
        part
    }

    /// Whether the code at `address` is entered with the frame of somebody else, as the parts are that compilers split off.
    pub(super) fn is_mid_frame(&self, address: u64) -> bool {
        let at_call = CfaRule::Register(self.arch.sp, 8);
        self.with_row(address, |row| row.function.0 == address && row.cfa != at_call) == Some(true)
    }
}

/// One function on the way.
struct Follow<'e, 's> {
    evidence: &'e FileEvidence<'s>,
    text: Text<'e>,
    entry: u64,
    function: Option<(u64, u64)>,
    /// Instructions that were reached, and their lengths.
    seen: HashMap<u64, usize>,
    work: Vec<u64>,
    part: Part,
    /// The function's instructions, one after the other, once they are needed.
    code: Option<Rc<Vec<Instruction>>>,
    /// Whether all of them were put onto the list.
    swept: bool,
}

impl Follow<'_, '_> {
    /// Follows everything, landing pads once something in front of them was reached.
    fn all(&mut self) {
        self.follow();
        if self.part.returns.is_empty() || self.function.is_none() {
            return;
        }
        let Some(mut sites) = self.evidence.call_sites(self.entry) else {
            self.part.open = true;
            return;
        };
        loop {
            let reached = |start: u64, end: u64| self.part.returns.iter().any(|back| start < *back && *back <= end);
            let pads: Vec<u64> =
                sites.iter().filter(|site| reached(site.start, site.end)).map(|site| site.pad).collect();
            if pads.is_empty() {
                return;
            }
            sites.retain(|site| !pads.contains(&site.pad));
            self.work.extend(pads);
            self.follow();
        }
    }

    fn follow(&mut self) {
        while let Some(mut at) = self.work.pop() {
            let mut before = None;
            loop {
                if !self.is_inside(at) {
                    self.part.exits.push(at);
                    break;
                }
                if self.seen.contains_key(&at) {
                    break;
                }
                if self.seen.len() == BUDGET {
                    self.part.open = true;
                    return;
                }
                let Some(instruction) = self.text.instruction(at) else {
                    self.part.open = true;
                    break;
                };
                self.seen.insert(at, instruction.len());
                let Some(on) = self.next(&instruction, before.as_ref()) else { break };
                before = Some(instruction);
                at = on;
            }
        }
    }

    fn is_inside(&self, address: u64) -> bool {
        match self.function {
            Some((start, end)) => (start..end).contains(&address),
            None => address.abs_diff(self.entry) < NEAR && self.evidence.function(address).is_none(),
        }
    }

    /// The instruction that follows in time; other ways go onto the list.
    fn next(&mut self, instruction: &Instruction, before: Option<&Instruction>) -> Option<u64> {
        let on = instruction.next_ip();
        match instruction.flow_control() {
            // Privileged: in user space it is where a noreturn call is caught.
            FlowControl::Next => (instruction.mnemonic() != Mnemonic::Hlt).then_some(on),
            FlowControl::ConditionalBranch => {
                self.work.push(instruction.near_branch_target());
                Some(on)
            }
            FlowControl::UnconditionalBranch => {
                self.work.push(instruction.near_branch_target());
                None
            }
            FlowControl::Call | FlowControl::IndirectCall if instruction.mnemonic() == Mnemonic::Call => {
                self.called(instruction)
            }
            // `syscall`; a debugger's trap that somebody compiled in.
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt => Some(on),
            // An aborted transaction goes on at the target of its beginning.
            FlowControl::XbeginXabortXend => {
                if instruction.mnemonic() == Mnemonic::Xbegin {
                    self.work.push(instruction.near_branch_target());
                }
                Some(on)
            }
            FlowControl::IndirectBranch => {
                self.indirect(instruction);
                None
            }
            FlowControl::Return => {
                // `push; ret` is a jump.
                self.part.open |= before.is_some_and(makes_return_address);
                None
            }
            FlowControl::Exception => None,
        }
    }

    /// A call, which comes back.
    fn called(&mut self, call: &Instruction) -> Option<u64> {
        let on = call.next_ip();
        let target = call.near_branch_target();
        // A thunk that replaces an indirect jump calls code that drops the return address.
        let first = (target > on && target - on < 32).then(|| self.text.instruction(target)).flatten();
        self.part.open |= first.is_some_and(|first| writes_top(&first) || drops_word(&first));
        self.part.returns.push(on);
        // The last call of a function does not come back: what follows is another function, unless the frame goes on.
        let last = self.function.is_some_and(|(_, end)| end <= on);
        (!last || self.evidence.is_mid_frame(on)).then_some(on)
    }

    /// A jump through memory or a register.
    fn indirect(&mut self, jump: &Instruction) {
        if jump.is_ip_rel_memory_operand() {
            self.part.slots.push(jump.ip_rel_memory_address());
            return;
        }
        let code = self.code();
        let before = code.partition_point(|found| found.ip() < jump.ip());
        let Some(targets) = self.table(code.get(..before).unwrap_or_default(), jump) else {
            // A table of another form, or a call in tail position: all of this function, and nobody knows what else.
            self.part.open = true;
            let all = if self.swept { &[] } else { code.as_slice() };
            self.work.extend(all.iter().map(Instruction::ip));
            self.swept = true;
            return;
        };
        self.work.extend(targets);
    }

    /// Where `jump` leads, if it goes through a table that nobody writes; `before` are the instructions before it.
    fn table(&mut self, before: &[Instruction], jump: &Instruction) -> Option<Vec<u64>> {
        let (table, count) = jump_table::find(before, jump)?;
        if self.evidence.writable(table.address).is_some() {
            return None;
        }
        let memory = self.evidence.memory;
        let code = |at: u64| matches!(self.evidence.modules.mapping(at), Mapping::Code | Mapping::Unknown);
        if let Some(targets) = count.and_then(|count| jump_table::targets(memory, table, Some(count), &code)) {
            return Some(targets);
        }
        // Without a bounds check the end is a guess: there may be more.
        self.part.open = true;
        jump_table::targets(memory, table, None, &|at| self.is_inside(at))
    }

    /// The function's instructions, one after the other.
    fn code(&mut self) -> Rc<Vec<Instruction>> {
        if let Some(code) = &self.code {
            return Rc::clone(code);
        }
        let mut all = Vec::new();
        if let Some((start, end)) = self.function {
            let mut at = start;
            while at < end && all.len() < BUDGET {
                let Some(instruction) = self.text.instruction(at) else { break };
                at = instruction.next_ip();
                all.push(instruction);
            }
        }
        let all = Rc::new(all);
        self.code = Some(Rc::clone(&all));
        all
    }

    fn finish(mut self) -> Part {
        let mut seen: Vec<(u64, u64)> = self
            .seen
            .into_iter()
            .map(|(at, length)| (at, at.saturating_add(u64::try_from(length).unwrap_or(0))))
            .collect();
        seen.sort_unstable();
        for (start, end) in seen {
            match self.part.runs.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => self.part.runs.push((start, end)),
            }
        }
        for list in [&mut self.part.returns, &mut self.part.exits, &mut self.part.slots] {
            list.sort_unstable();
            list.dedup();
        }
        self.part
    }
}

/// Whether an instruction puts a word where `ret` will look for an address.
fn makes_return_address(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Push || writes_top(instruction)
}

/// Whether an instruction writes over the word on top of the stack.
fn writes_top(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() == Register::RSP
        && instruction.memory_displacement64() == 0
}

/// Whether an instruction takes a word off the stack.
fn drops_word(instruction: &Instruction) -> bool {
    let moves = matches!(instruction.mnemonic(), Mnemonic::Add | Mnemonic::Lea);
    instruction.mnemonic() == Mnemonic::Pop || moves && instruction.op0_register() == Register::RSP
}
