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
//! Where what holds is not known well enough, a row is believed too, as far as those behind it follow, and is `Assumed`.
//!
//! What is believed: a callee keeps the registers it must keep and the stack pointer; a store through a pointer
//! that does not come from the frame does not hit a saved register; what is taken from the stack pointer (`sub %rax, %rsp`)
//! is no negative number; only calls throw, as all code does that was not compiled with `-fnon-call-exceptions`; a function
//! whose last bytes are those of a call, a return or a jump ends there; and what more functions jump to than a part of a
//! function ever has hosts keeps to the ABI like one that is called.

mod indirect;

use super::believe::claimed;
use super::claim::{Cfa, Claim};
use super::code::{Callee, Code, NONE, Step, Way};
use super::compare::{Finding, Match, Moment, compare};
use super::correct::correct;
use super::layout::Layout;
use super::lsda;
use super::noreturn::{Return, Returns};
use super::{Proofs, Proven, Source, leaving};
use crate::analysis::{Base, CALLEE_SAVED, Op, SP, State, Value};
use crate::kept::Multiply;
use indirect::Jump;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasherDefault;
use surestack_walk::RowProof;

const WORD: i64 = 8;
/// How often the average instruction may be executed: joins lose something each time, and there is little to lose.
const ROUNDS: usize = 64;

/// Things by instruction.
type Places<T> = HashMap<usize, T, BuildHasherDefault<Multiply>>;

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
    layout: &'r Layout,
    returns: &'r Returns,
    /// By instruction: what is known where control comes from elsewhere.
    known: Vec<Option<Box<Known>>>,
    queue: BTreeSet<usize>,
    /// By instruction: from where it was last executed.
    owner: Vec<u32>,
    found: Vec<Option<(Finding, Ground)>>,
    /// By instruction: what holds where a row says something else.
    contradicted: Places<State>,
    /// By instruction: the states at jumps whose targets are not known.
    lost: BTreeMap<usize, Known>,
    tables: Places<Jump>,
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
    pub fn new(source: &'r Source<'m>, code: &'r Code, proofs: &'r Proofs) -> Self {
        let count = code.steps.len();
        Self {
            source,
            code,
            layout: &proofs.layout,
            returns: &proofs.returns,
            known: vec![None; count],
            queue: BTreeSet::new(),
            owner: vec![NONE; count],
            found: vec![None; count],
            contradicted: Places::default(),
            lost: BTreeMap::new(),
            tables: Places::default(),
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
        self.straighten();
        let labels = self.labels();
        self.dead = !self.incomplete && self.lost.is_empty() && labels.is_empty();
        self.enter_labels(&labels);
        self.seed();
        self.straighten();
        let comes_back = |callee| self.returns.ask(self.source, self.layout, callee) != Return::Never;
        self.rewritten = leaving::rewritten(self.code, &self.leaving, &comes_back);
        let steps = self.code.steps.iter().enumerate();
        let mut proven: Vec<Proven> = steps.map(|(index, step)| self.proven(index, step)).collect();
        self.believe(&mut proven);
        proven
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
            } else if (self.source.resolves)(member.extent.start) {
                let mut pushed = entry.clone();
                pushed.state.move_sp(-2 * WORD);
                self.join(member.first, &pushed);
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

    /// Believes the rows of code to which no way leads.
    fn seed(&mut self) {
        for index in 0..self.code.steps.len() {
            if self.found.get(index).is_some_and(Option::is_some) {
                continue;
            }
            if let Some(known) = self.claimed(index) {
                self.enter_at(index, known);
                self.queue.insert(index);
                self.drain();
            }
        }
    }

    /// Takes rows at their word where what holds is not known well enough, as far as those behind them follow.
    fn believe(&self, proven: &mut [Proven]) {
        let is_open = |index: usize, proven: &[Proven]| {
            let unknown =
                self.found.get(index).is_some_and(|found| found.is_some_and(|(it, _)| it.frame == Match::Unknown));
            unknown && proven.get(index).is_some_and(|proven| proven.frame == RowProof::Undecided) && self.left > 0
        };
        for first in 0..proven.len() {
            let Some(mut known) = is_open(first, proven).then(|| self.claimed(first)).flatten() else { continue };
            let mut next = Some(first);
            while let Some(index) = next.filter(|index| is_open(*index, proven))
                && let (Some(step), Some(slot)) = (self.code.steps.get(index), proven.get_mut(index))
                && let Some(claim) = self.claim(step)
                && compare(self.source, claim, &known.state, step.at, Moment::Before).frame == Match::Agrees
            {
                // What only fills space is counted apart when it is assumed.
                if !step.filler {
                    slot.frame = RowProof::Assumed;
                }
                known.state.execute(step.op, step.at);
                let goes_on = matches!(step.way, Way::On | Way::Branch(_) | Way::Call(_));
                next = self.code.after(index).filter(|_| goes_on);
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
        match self.known.get_mut(index).and_then(Option::as_mut) {
            Some(known) => {
                let lost = known.state.join(&from.state);
                let less = known.ground > from.ground;
                known.ground = known.ground.min(from.ground);
                if lost || less {
                    self.queue.insert(index);
                }
            }
            None => {
                self.enter_at(index, from.clone());
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
            None if self.code.member(address).is_some() => match self.code.find_unlocked(self.source, address) {
                Some(index) => self.join(index, from),
                None => self.incomplete = true,
            },
            None => {}
        }
    }

    /// What is known where control comes to the instruction at `index` from elsewhere.
    fn known_at(&self, index: usize) -> Option<&Known> {
        self.known.get(index)?.as_deref()
    }

    fn enter_at(&mut self, index: usize, known: Known) {
        if let Some(place) = self.known.get_mut(index) {
            *place = Some(Box::new(known));
        }
    }

    fn drain(&mut self) {
        while let Some(index) = self.queue.pop_first() {
            self.execute(index);
        }
    }

    /// Executes from one place on, up to the next.
    fn execute(&mut self, first: usize) {
        let Some(mut known) = self.known_at(first).cloned() else { return };
        let owner = u32::try_from(first).unwrap_or(NONE);
        let mut index = first;
        let mut last: Option<(u32, Moment, Finding)> = None;
        while let Some(step) = self.code.steps.get(index) {
            if self.left == 0 {
                self.incomplete = true;
                return;
            }
            self.left -= 1;
            if index != first && (step.target || self.known_at(index).is_some()) {
                self.join(index, &known);
                return;
            }
            if index != first
                && self.dead
                && self.found.get(index).is_some_and(|found| found.is_some_and(|(_, ground)| ground == Ground::Entry))
            {
                return;
            }
            let (finding, when) = match last {
                // What is so during a call is so before it and behind it.
                Some((claim, when, finding))
                    if claim == step.claim && (when == Moment::During || when == moment(step)) =>
                {
                    (Some(finding), when)
                }
                _ => {
                    let when = moment(step);
                    (self.claim(step).map(|claim| compare(self.source, claim, &known.state, step.at, when)), when)
                }
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
            let lasts = finding.filter(|finding| !self.matters(step, *finding, &known.state));
            last = lasts.map(|finding| (step.claim, when, finding));
            let Some(on) = self.leave(index, step, &mut known) else { return };
            index = on;
        }
    }

    /// Whether what the instruction at `step` does can make another finding of its row.
    fn matters(&self, step: &Step, finding: Finding, state: &State) -> bool {
        let Some(claim) = self.claim(step) else { return false };
        match step.op.writes_only() {
            // Nothing is known of where it writes, and it hits nothing that is.
            Some((to, size)) => state.place(to).is_some_and(|(base, offset)| {
                let is_plain = finding.frame == Match::Agrees && base == Base::Cfa && state.is_plain();
                !is_plain || claim.may_lie_in(offset, size)
            }),
            None => step.op.matters_to(claim.reads),
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
        self.code.after(index)
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
        let Some(pad) = lsda::pad(sites, step.at) else { return };
        let mut thrown = known.clone();
        let popped = self.claim(step).map_or(0, |claim| claim.arguments);
        thrown.state.move_sp(i64::try_from(popped).unwrap_or(0));
        self.join_at(pad, &thrown);
    }

    /// Whether a call comes back, with `known` what holds then.
    fn comes_back(&mut self, index: usize, step: &Step, callee: Callee, known: &mut Known) -> bool {
        // What follows may be a place where registers hold something else, of which jumps make use.
        if self.code.jumps && self.returns.ask(self.source, self.layout, callee) == Return::Never {
            return false;
        }
        let rest = self.code.steps.get(index.saturating_add(1)..).unwrap_or_default();
        let Some(next) = rest.iter().find(|next| !next.filler) else { return true };
        if next.claim == step.claim {
            return true;
        }
        let whole = |claim: &Claim| compare(self.source, claim, &known.state, next.at, Moment::Before).is_whole();
        if self.claim(next).is_none_or(whole) {
            return true;
        }
        match self.returns.ask(self.source, self.layout, callee) {
            Return::Never => false,
            Return::Perhaps if !self.says_popped(step, next, known) => true,
            Return::Perhaps | Return::Unknown => {
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

    /// Whether the row behind a call, and nothing else, says that the callee took words off the stack (`ret 16`): functions
    /// of `swiftasynccall` and of languages with tail calls take their own arguments off, and a callee may be anybody.
    fn says_popped(&self, step: &Step, next: &Step, known: &Known) -> bool {
        let (Some(during), Some(behind)) = (self.claim(step), self.claim(next)) else { return false };
        let (Cfa::Register(SP, before), Cfa::Register(SP, after)) = (during.cfa, behind.cfa) else { return false };
        let mut popped = known.state.clone();
        popped.move_sp(before.saturating_sub(after));
        before > after && compare(self.source, behind, &popped, next.at, Moment::Before).frame == Match::Agrees
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
                proven.frame = RowProof::Overwritten;
            }
        }
        if matches!(proven.frame, RowProof::Proven | RowProof::Overwritten) && self.incomplete {
            proven.frame = RowProof::Assumed;
        }
        if let Some(claim) = self.claim(step).filter(|_| !self.lost.is_empty()) {
            for known in self.lost.values() {
                let other = compare(self.source, claim, &known.state, step.at, Moment::Before);
                let is_whole = other.frame == Match::Agrees && known.ground == Ground::Entry;
                if matches!(proven.frame, RowProof::Proven | RowProof::Overwritten) && !is_whole {
                    proven.frame = RowProof::Assumed;
                }
                proven.saved &= other.saved;
                proven.kept &= other.kept;
            }
            // Such a jump may belong to code that installs another frame, and has written to where this one's registers lie.
            if proven.frame != RowProof::Proven {
                (proven.saved, proven.kept) = (0, 0);
            }
        }
        proven
    }
}

/// When the row at `step` is used.
fn moment(step: &Step) -> Moment {
    if matches!(step.way, Way::Call(_)) { Moment::During } else { Moment::Before }
}

/// Whether nothing is left of the frame.
fn is_undone(state: &State) -> bool {
    let kept = |number: &u8| state.get(*number) == Value::Sum(Base::Register(*number), 0);
    state.get(SP) == Value::Sum(Base::Cfa, -WORD)
        && state.load(Base::Cfa, -WORD) == Value::Word(Base::Cfa, -WORD)
        && CALLEE_SAVED.iter().all(kept)
}
