//! Execution of functions with symbols for values, from their entries on, until nothing changes.
//!
//! **Why what is `Proven` is proven.** An instruction's state is the join of the states on all ways that lead to it: from
//! the function's entry, from calls into its middle, from landing pads, through jump tables, and from the other functions
//! that jump into this one. A way that cannot be followed is a jump to where nobody knows. Such a jump with nothing left of
//! the frame (the stack pointer at the return address, all registers restored) is a call in tail position: the ABI
//! says what its target may expect, and no function does that to itself. Any other may lead to every instruction of these
//! functions, so that only rows which the state at the jump fulfils as well stay proven. Code that no way leads to is
//! believed where its rows say what holds, `Assumed`, and so is everything it leads to, unless every jump
//! was followed: then it is dead.
//!
//! What is believed: a callee keeps the registers it must keep and the stack pointer; a store through a pointer
//! that does not come from the frame does not hit a saved register.

use super::claim::{Cfa, Claim, Saved, expression};
use super::code::{Callee, Code, NONE, Step, Way};
use super::compare::{Finding, Match, Moment, compare};
use super::correct::correct;
use super::noreturn::{Return, Returns};
use super::{Proven, Source, leaving};
use crate::analysis::jump_table::{self, Table};
use crate::analysis::{Base, CALLEE_SAVED, Op, SP, State, Value};
use gimli::{Encoding, Format, Operation};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use surestack_walk::{Memory, RowProof};

const WORD: i64 = 8;
/// How often the average instruction may be executed: joins lose something each time, and there is little to lose.
const ROUNDS: usize = 64;
/// Instructions before a jump among which its table is looked for.
const BEFORE: usize = 32;

/// Where what is known comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    /// A row's own claim.
    Claim,
    /// An entry of the function.
    Entry,
}

#[derive(Clone, Debug)]
struct Known {
    state: State,
    ground: Ground,
}

/// One execution.
pub struct Run<'r, 'm> {
    source: &'r Source<'m>,
    code: &'r Code,
    returns: &'r Returns,
    /// By instruction: what is known where control comes from elsewhere.
    known: HashMap<usize, Known>,
    queue: BTreeSet<usize>,
    /// By instruction: from where it was last executed.
    owner: Vec<u32>,
    found: Vec<Option<(Finding, Ground)>>,
    /// By instruction: what holds where a row says something else.
    contradicted: HashMap<usize, State>,
    /// By instruction: the states at jumps whose targets are not known.
    lost: BTreeMap<usize, Known>,
    tables: HashMap<usize, Option<Vec<u64>>>,
    /// The jumps by which functions go on in another frame.
    leaving: BTreeSet<usize>,
    /// Instructions where what they saved is being overwritten.
    rewritten: HashSet<usize>,
    left: usize,
    /// Whether code that no way leads to is dead.
    dead: bool,
    incomplete: bool,
}

impl<'r, 'm> Run<'r, 'm> {
    /// An execution of `code`.
    pub fn new(source: &'r Source<'m>, code: &'r Code, returns: &'r Returns) -> Self {
        let count = code.steps.len();
        Self {
            source,
            code,
            returns,
            known: HashMap::new(),
            queue: BTreeSet::new(),
            owner: vec![NONE; count],
            found: vec![None; count],
            contradicted: HashMap::new(),
            lost: BTreeMap::new(),
            tables: HashMap::new(),
            leaving: BTreeSet::new(),
            rewritten: HashSet::new(),
            left: count.saturating_mul(ROUNDS),
            dead: false,
            incomplete: code.unreadable || code.members.iter().any(|member| member.open || member.sites.is_none()),
        }
    }

    /// Executes everything. Returns what became of each instruction, in the order of [`Code::steps`].
    pub fn finish(&mut self) -> Vec<Proven> {
        self.enter();
        self.drain();
        self.dead = !self.incomplete && self.lost.is_empty() && self.code.labels.is_empty();
        self.labels();
        self.seed();
        let comes_back = |callee| self.returns.ask(self.source, callee) != Return::Never;
        self.rewritten = leaving::rewritten(self.code, &self.leaving, &comes_back);
        let steps = self.code.steps.iter().enumerate();
        steps.map(|(index, step)| self.proven(index, step)).collect()
    }

    /// After [`Run::finish`]: the rows that would be right where the frame or a register is contradicted, as far as that is
    /// proven.
    pub fn corrections(&self) -> BTreeMap<u64, Claim> {
        if self.left == 0 || self.incomplete || self.lost.values().any(|known| known.ground != Ground::Entry) {
            return BTreeMap::new();
        }
        let corrected = |(index, state): (&usize, &State)| {
            let step = self.code.steps.get(*index)?;
            let (finding, ground) = self.found.get(*index).copied().flatten()?;
            if !finding.is_wrong() || ground != Ground::Entry || self.rewritten.contains(index) {
                return None;
            }
            let lost = self.lost.values().map(|known| &known.state);
            let claim = correct(self.source, step, moment(step), [state].into_iter().chain(lost))?;
            Some((step.at, claim))
        };
        self.contradicted.iter().filter_map(corrected).collect()
    }

    /// The entries that the ABI knows.
    fn enter(&mut self) {
        let entry = Known { state: State::at_entry(), ground: Ground::Entry };
        for member in &self.code.members {
            let first = self.code.steps.get(member.first);
            let claim = first.and_then(|step| self.claim(step));
            // A part of a function that begins with a landing pad has a `nop` first, since pad 0 means none.
            let before_pad = first.is_some_and(|step| step.filler && step.length == 1 && self.is_pad(step.end()));
            if claim.is_some_and(Claim::is_entry) && !before_pad && !member.signal {
                self.join(member.first, &entry);
            }
        }
        // Behind the first entry of a lazily bound table, which pushes, every 16 bytes are a function.
        for member in self.code.members.iter().filter(|member| member.linkage) {
            let lazy = self.code.steps.get(member.first).is_some_and(|step| matches!(step.op, Op::PushLoad(_)));
            let starts = (member.extent.start..member.extent.end).step_by(16).skip(1).filter(|_| lazy);
            for index in starts.filter_map(|start| self.code.find(start)) {
                self.join(index, &entry);
            }
        }
        for (index, step) in self.code.steps.iter().enumerate().filter(|(_, step)| step.way == Way::Slot) {
            self.enter_stub(index, step, &entry);
        }
        // Functions in the middle of others: labels of assembly that are called.
        let calls = self.code.steps.iter().filter_map(|step| match step.way {
            Way::Call(Callee::Function(to)) => self.code.find(to),
            _ => None,
        });
        for target in calls.collect::<BTreeSet<_>>() {
            if self.code.members.iter().all(|member| member.first != target) {
                self.join(target, &entry);
            }
        }
    }

    /// A stub of a procedure linkage table, whose slot leads into its second half before it is bound.
    ///
    /// ```text
    ///   plt0:  push map(%rip); jmp *resolver(%rip)
    ///   stub:  [endbr64;] jmp *slot(%rip); push $n; jmp plt0
    /// ```
    fn enter_stub(&mut self, index: usize, step: &Step, entry: &Known) {
        let Some(member) = self.code.member(step.at).filter(|member| member.linkage) else { return };
        let at = |index: Option<usize>| index.and_then(|index| self.code.steps.get(index));
        if matches!(at(index.checked_sub(1)).map(|before| before.op), Some(Op::PushLoad(_))) {
            return;
        }
        let marked = index.checked_sub(1).filter(|before| *before >= member.first);
        let marked = marked.filter(|before| {
            at(Some(*before)).is_some_and(|before| before.length == 4 && before.op == Op::Nothing && !before.filler)
        });
        let second = index.checked_add(1).filter(|next| at(Some(*next)).is_some_and(|next| next.op == Op::PushOther));
        for index in [marked, Some(index), second].into_iter().flatten() {
            self.join(index, entry);
        }
    }

    fn is_pad(&self, address: u64) -> bool {
        let mut sites = self.code.members.iter().flat_map(|member| member.sites.iter().flatten());
        sites.any(|site| site.pad == Some(address))
    }

    fn claim(&self, step: &Step) -> Option<&'r Claim> {
        self.code.claims.get(usize::try_from(step.claim).ok()?)
    }

    /// Code whose address is taken is entered by somebody, with what its rows say for all that is known.
    fn labels(&mut self) {
        for label in &self.code.labels {
            let Some(index) = self.code.find(*label) else { continue };
            if let Some(known) = self.claimed(index) {
                self.join(index, &known);
            }
        }
        self.drain();
    }

    /// Believes the rows of code to which no way leads.
    fn seed(&mut self) {
        for index in 0..self.code.steps.len() {
            if self.found.get(index).is_some_and(Option::is_some) {
                continue;
            }
            if let Some(known) = self.claimed(index) {
                self.known.insert(index, known);
                self.queue.insert(index);
                self.drain();
            }
        }
    }

    /// The state that the row of an instruction claims.
    fn claimed(&self, index: usize) -> Option<Known> {
        let claim = self.claim(self.code.steps.get(index)?)?;
        Some(Known { state: claimed(self.source, claim)?, ground: Ground::Claim })
    }

    /// Adds a way to the instruction at `index`.
    fn join(&mut self, index: usize, from: &Known) {
        if self.dead
            && self.found.get(index).is_some_and(|found| found.is_some_and(|(_, ground)| ground == Ground::Entry))
        {
            return;
        }
        match self.known.get_mut(&index) {
            Some(known) => {
                let lost = known.state.join(&from.state);
                let less = known.ground > from.ground;
                known.ground = known.ground.min(from.ground);
                if lost || less {
                    self.queue.insert(index);
                }
            }
            None => {
                self.known.insert(index, from.clone());
                self.queue.insert(index);
                // It was passed as one of several: what leads there is to be joined, not followed through.
                if let Some(owner) = self.owner.get(index).filter(|owner| **owner != NONE)
                    && let Ok(owner) = usize::try_from(*owner)
                {
                    self.queue.insert(owner);
                }
            }
        }
    }

    /// Adds a way to an address, if it is one of these functions'.
    fn join_at(&mut self, address: u64, from: &Known) {
        match self.code.find(address) {
            Some(index) => self.join(index, from),
            // In the middle of an instruction: what was decoded is not what runs.
            None if self.code.member(address).is_some() => self.incomplete = true,
            None => {}
        }
    }

    fn drain(&mut self) {
        while let Some(index) = self.queue.pop_first() {
            self.execute(index);
        }
    }

    /// Executes from one place on, up to the next.
    fn execute(&mut self, first: usize) {
        let Some(mut known) = self.known.get(&first).cloned() else { return };
        let owner = u32::try_from(first).unwrap_or(NONE);
        let mut index = first;
        let mut last: Option<(u32, Finding)> = None;
        while let Some(step) = self.code.steps.get(index) {
            if self.left == 0 {
                self.incomplete = true;
                return;
            }
            self.left -= 1;
            if index != first && (step.target || self.known.contains_key(&index)) {
                self.join(index, &known);
                return;
            }
            if index != first
                && self.dead
                && self.found.get(index).is_some_and(|found| found.is_some_and(|(_, ground)| ground == Ground::Entry))
            {
                return;
            }
            let finding = match last {
                Some((claim, finding)) if claim == step.claim && !matches!(step.way, Way::Call(_)) => Some(finding),
                _ => self.claim(step).map(|claim| compare(self.source, claim, &known.state, step.at, moment(step))),
            };
            if finding.is_some_and(Finding::is_wrong) {
                self.contradicted.insert(index, known.state.clone());
            }
            if let Some(slot) = self.found.get_mut(index) {
                *slot = finding.map(|finding| (finding, known.ground));
            }
            if let Some(slot) = self.owner.get_mut(index) {
                *slot = owner;
            }
            let keeps = matters(&step.op);
            last = finding.filter(|_| !keeps).map(|finding| (step.claim, finding));
            let Some(on) = self.leave(index, step, &mut known) else { return };
            index = on;
        }
    }

    /// Executes one instruction and sends what is known where control goes. Returns the next one, if control gets there.
    fn leave(&mut self, index: usize, step: &Step, known: &mut Known) -> Option<usize> {
        match step.way {
            Way::On => known.state.execute(step.op, step.at),
            Way::Jump(to) => {
                self.join_at(to, known);
                return None;
            }
            Way::Branch(to) => self.branch(index, step, to, known),
            Way::Call(callee) => {
                known.state.execute(step.op, step.at);
                self.throw(step, known);
                if !self.comes_back(index, step, callee, known) {
                    return None;
                }
            }
            Way::Indirect => {
                self.indirect(index, known);
                return None;
            }
            Way::Slot | Way::Return | Way::Stop => return None,
        }
        let next = index.checked_add(1)?;
        // Behind a gap lies another function.
        (self.code.steps.get(next)?.at == step.end()).then_some(next)
    }

    fn branch(&mut self, index: usize, step: &Step, to: u64, known: &mut Known) {
        let compared = index.checked_sub(1).and_then(|before| self.code.steps.get(before)?.compares_sp);
        if let (Some(other), true) = (compared, step.not_equal) {
            // A loop that touches every page of a large frame ends when the stack pointer is what it was to become.
            self.join_at(to, known);
            if known.state.get(SP) == Value::Unknown {
                known.state.set(SP, known.state.get(other));
            }
            return;
        }
        self.join_at(to, known);
        known.state.execute(step.op, step.at);
    }

    /// An exception that a call lets through.
    fn throw(&mut self, step: &Step, known: &Known) {
        let Some(member) = self.code.member(step.at) else { return };
        let Some(sites) = &member.sites else { return };
        let after = sites.partition_point(|site| site.start <= step.at);
        let site = after.checked_sub(1).and_then(|index| sites.get(index)).filter(|site| step.at < site.end);
        let Some(pad) = site.and_then(|site| site.pad) else { return };
        let mut thrown = known.clone();
        let popped = self.claim(step).map_or(0, |claim| claim.arguments);
        thrown.state.move_sp(i64::try_from(popped).unwrap_or(0));
        self.join_at(pad, &thrown);
    }

    /// Whether a call comes back, with `known` what holds then.
    fn comes_back(&mut self, index: usize, step: &Step, callee: Callee, known: &mut Known) -> bool {
        let rest = self.code.steps.get(index.saturating_add(1)..).unwrap_or_default();
        let Some(next) = rest.iter().find(|next| !next.filler) else { return true };
        if next.claim == step.claim {
            return true;
        }
        let whole = |claim: &Claim| compare(self.source, claim, &known.state, next.at, Moment::Before).is_whole();
        if self.claim(next).is_none_or(whole) {
            return true;
        }
        match self.returns.ask(self.source, callee) {
            Return::Never => false,
            Return::Perhaps => true,
            Return::Unknown => {
                // Perhaps it does not come back, and what follows is reached in another way, or not at all.
                let behind = index.saturating_add(1);
                if let Some(claimed) = self.claimed(behind) {
                    *known = claimed;
                    return true;
                }
                false
            }
        }
    }

    /// A jump to where a register or memory says.
    fn indirect(&mut self, index: usize, known: &Known) {
        if let Some(targets) = self.targets(index, known) {
            for target in targets {
                self.join_at(target, known);
            }
            self.lost.remove(&index);
        } else if is_undone(&known.state) {
            // A call in tail position.
        } else if self.is_return(index) {
            self.leaving.insert(index);
        } else {
            self.lost.insert(index, known.clone());
        }
    }

    /// `pop %rcx; jmp *%rcx`, which is `ret` without the shadow stack's consent: libgcc goes to landing pads by it.
    fn is_return(&self, index: usize) -> bool {
        let decoded = |index: usize| decode(self.source, self.code.steps.get(index)?);
        let (Some(jump), Some(pop)) = (decoded(index), index.checked_sub(1).and_then(decoded)) else { return false };
        pop.mnemonic() == Mnemonic::Pop && pop.next_ip() == jump.ip() && pop.op0_register() == jump.op0_register()
    }

    fn targets(&mut self, index: usize, known: &Known) -> Option<Vec<u64>> {
        if let Some(found) = self.tables.get(&index) {
            return found.clone();
        }
        let found = self.read_table(index, known);
        self.tables.insert(index, found.clone());
        found
    }

    fn read_table(&self, index: usize, known: &Known) -> Option<Vec<u64>> {
        let from = index.saturating_sub(BEFORE);
        let decoded: Vec<Instruction> =
            self.code.steps.get(from..=index)?.iter().filter_map(|step| decode(self.source, step)).collect();
        let (jump, before) = decoded.split_last()?;
        let by_state = self.table(jump, known).map(|table| (table, jump_table::bound(before, jump)));
        let (table, count) = by_state.or_else(|| jump_table::find(before, jump))?;
        // What cannot happen leads behind the function's last instruction.
        let is_end = |address: u64| self.code.members.iter().any(|member| member.extent.end == address);
        let inside = |address: u64| {
            let address = address.wrapping_sub(self.bias(table));
            self.code.find(address).is_some() || is_end(address)
        };
        // A comparison may belong to something else: then the table itself says where it ends.
        let counted = count.and_then(|count| jump_table::targets(self.source, table, Some(count), &inside));
        let found = counted.or_else(|| jump_table::targets(self.source, table, None, &inside))?;
        Some(found.into_iter().map(|address| address.wrapping_sub(self.bias(table))).collect())
    }

    /// What has to be subtracted from entries: absolute ones of a module that is loaded are the target's addresses.
    fn bias(&self, table: Table) -> u64 {
        match table.form {
            jump_table::Form::Relative => 0,
            jump_table::Form::Absolute => self.source.bias,
        }
    }

    /// The table through which `jump` jumps by what is known.
    fn table(&self, jump: &Instruction, known: &Known) -> Option<Table> {
        match known.state.get(crate::analysis::number(jump.op0_register())?) {
            Value::Target(table) => Some(table),
            _ => None,
        }
    }

    /// What became of one instruction.
    fn proven(&self, index: usize, step: &Step) -> Proven {
        let Some((finding, ground)) = self.found.get(index).copied().flatten() else { return Proven::UNREACHED };
        let mut proven =
            Proven { frame: RowProof::Undecided, saved: finding.saved, kept: finding.kept, wrong: 0, off: 0 };
        proven.frame = match (finding.frame, ground) {
            _ if self.left == 0 => RowProof::Undecided,
            (Match::Agrees, Ground::Entry) => RowProof::Proven,
            (Match::Agrees, Ground::Claim) | (Match::Outermost, _) => RowProof::Assumed,
            (Match::Differs, Ground::Entry) => {
                proven.off = finding.off;
                RowProof::Contradicted
            }
            _ => RowProof::Undecided,
        };
        if finding.frame == Match::Agrees && ground == Ground::Entry {
            proven.wrong = finding.wrong;
        }
        if self.rewritten.contains(&index) {
            (proven.saved, proven.kept) = (0, 0);
            if proven.frame == RowProof::Proven {
                proven.frame = RowProof::Assumed;
            }
        }
        if proven.frame == RowProof::Proven && self.incomplete {
            proven.frame = RowProof::Assumed;
        }
        if proven.frame == RowProof::Proven
            && let Some(claim) = self.claim(step).filter(|_| !self.lost.is_empty())
        {
            for known in self.lost.values() {
                let other = compare(self.source, claim, &known.state, step.at, Moment::Before);
                if other.frame != Match::Agrees || known.ground != Ground::Entry {
                    proven.frame = RowProof::Assumed;
                }
                proven.saved &= other.saved;
                proven.kept &= other.kept;
            }
        }
        proven
    }
}

/// When the row at `step` is used.
fn moment(step: &Step) -> Moment {
    if matches!(step.way, Way::Call(_)) { Moment::During } else { Moment::Before }
}

/// Whether executing `op` can change how a row stands to what holds.
fn matters(op: &Op) -> bool {
    const KEPT: u16 = 1 << 3 | 1 << 5 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15 | 1 << 4;
    match op {
        Op::Nothing => false,
        Op::Store { .. } | Op::Both { .. } => true,
        // r10 holds the frame address while a frame is aligned, rdi the return address in vfork.
        other => other.changes() & (KEPT | 1 << 10 | 1 << 7 | 1 << 11 | 1 << 1 | 1 | 1 << 2) != 0,
    }
}

/// Whether nothing is left of the frame.
fn is_undone(state: &State) -> bool {
    let kept = |number: &u8| state.get(*number) == Value::Sum(Base::Register(*number), 0);
    state.get(SP) == Value::Sum(Base::Cfa, -WORD)
        && state.load(Base::Cfa, -WORD) == Value::Word(Base::Cfa, -WORD)
        && CALLEE_SAVED.iter().all(kept)
}

fn decode(source: &Source<'_>, step: &Step) -> Option<Instruction> {
    let mut bytes = [0; 16];
    let bytes = bytes.get_mut(..usize::from(step.length))?;
    source.read(step.at, bytes).ok()?;
    Some(Decoder::with_ip(64, bytes, step.at, DecoderOptions::NONE).decode())
}

/// The state of which every word of `claim` is true.
fn claimed(source: &Source<'_>, claim: &Claim) -> Option<State> {
    let mut state = State::at_entry();
    for number in (0..16).filter(|number| !CALLEE_SAVED.contains(number)) {
        state.set(number, Value::Unknown);
    }
    match claim.cfa {
        Cfa::Register(number, offset) => state.set(number, Value::Sum(Base::Cfa, offset.checked_neg()?)),
        Cfa::Expression(at) => {
            let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };
            let mut rest = expression(source, at)?;
            let first = Operation::parse(&mut rest, encoding).ok()?;
            let second = Operation::parse(&mut rest, encoding).ok()?;
            let (Operation::RegisterOffset { register, offset, .. }, Operation::Deref { .. }) = (first, second) else {
                return None;
            };
            let (number, base) = (super::claim::hardware(register)?, Base::Made(claim.start));
            state.set(number, Value::Sum(base, 0));
            state.store(base, offset, 8, Value::Sum(Base::Cfa, 0));
        }
        Cfa::Strange => return None,
    }
    let framed: Vec<u8> =
        (0..16).filter(|number| matches!(state.get(*number), Value::Sum(Base::Cfa | Base::Made(_), _))).collect();
    for (number, saved) in CALLEE_SAVED.into_iter().zip(claim.saved) {
        let entry = Value::Sum(Base::Register(number), 0);
        let place = match saved {
            Saved::Kept => continue,
            Saved::At(offset) => Some((Base::Cfa, offset)),
            Saved::AtExpression(at) => {
                let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };
                match Operation::parse(&mut expression(source, at)?, encoding).ok()? {
                    Operation::RegisterOffset { register, offset, .. } => {
                        match state.get(super::claim::hardware(register)?) {
                            Value::Sum(base, from) => Some((base, from.wrapping_add(offset))),
                            _ => None,
                        }
                    }
                    _ => None,
                }
            }
            Saved::In(other) => {
                state.set(other, entry);
                None
            }
            _ => None,
        };
        if !framed.contains(&number) {
            state.set(number, Value::Unknown);
        }
        if let Some((base, offset)) = place {
            state.store(base, offset, 8, entry);
        }
    }
    if let Saved::In(other) = claim.return_address {
        state.set(other, Value::Word(Base::Cfa, -WORD));
    }
    Some(state)
}
