//! Rows from instructions, for code that has no unwind information. x86_64.
//!
//! The code is executed with symbols for values: what each register and stack slot holds is an entry value, an address
//! counted from the canonical frame address, or unknown. Two ways lead to a row:
//!
//! ```text
//!   entry ──────────► pc              the ABI says what registers hold at the entry   Grade::FromEntry
//!                     pc ──────► ret  where `ret` finds its address, seen from the pc  Grade::ToReturn
//! ```
//!
//! What it believes: a callee hands back callee-saved registers and the stack pointer, and a store through an unknown
//! pointer does not hit a saved register. What it never does: guess. Paths that disagree are [`Why::Undecided`].

pub mod entries;
mod flow;
pub mod jump_table;
mod op;
mod row;
mod text;
mod value;

pub use flow::{Flow, Limits, Visit};
pub(crate) use op::Op;
pub use row::{agrees, loses_frame, outermost};
pub use text::Text;
pub use value::{Base, CALLEE_SAVED, FP, SP, State, Value, number};

use entries::{Entries, plt_entry};
use std::collections::HashSet;
use surestack_cfi::{Origin, Row};
use surestack_walk::{CodeAddress, Grade, Root, Why};

/// Most instructions on the way to the returns.
const TO_RETURN: usize = 2_000;
/// Most instructions followed from a module's own entries, in one round: crt code has a few hundred. A module that lost its
/// tables would otherwise be followed whole, with a look into what is left of them at each instruction.
const FROM_ENTRIES: usize = 4_000;
/// Most instructions executed in one function: interpreters' main loops have ten thousand.
const FUNCTION: usize = 200_000;
/// Most instructions of one function that a symbol table names.
const FROM_SYMBOL: usize = 20_000;
/// How deep direct calls are followed from the known entries: crt code needs two.
const ROUNDS: usize = 8;

/// The code without unwind information that the known entries of one module reach.
#[derive(Default)]
pub struct Reached {
    /// From functions, which are called.
    called: Flow,
    /// From the entry point, which nobody calls.
    started: Flow,
    /// Where functions begin.
    begins: HashSet<u64>,
    /// Where functions begin by symbol tables, ascending. Each is followed only when a pc in it is asked for.
    named: Vec<u64>,
}

impl Reached {
    /// Follows `entries`, and every direct call found on the way, through the code for which `uncovered` holds.
    pub fn new(text: &Text<'_>, entries: &Entries, uncovered: &dyn Fn(u64) -> bool) -> Self {
        let follow = |starts: Vec<u64>, begins: &HashSet<u64>| {
            let limits = Limits { steps: FROM_ENTRIES, inside: uncovered, begins: &|at| begins.contains(&at) };
            let starts = starts.into_iter().filter(|start| uncovered(*start));
            Flow::follow(text, starts.map(|start| (start, State::at_entry())).collect(), &limits)
        };
        let mut begins: HashSet<u64> = entries.functions.iter().copied().collect();
        let started = follow(entries.start.into_iter().collect(), &begins);
        begins.extend(&started.calls);
        // A function found late may be what lies behind a call that does not come back: follow all anew.
        let mut called = Flow::default();
        for _ in 0..ROUNDS {
            let mut starts: Vec<u64> = begins.iter().copied().collect();
            starts.sort_unstable();
            called = follow(starts, &begins);
            let known = begins.len();
            begins.extend(&called.calls);
            if begins.len() == known {
                break;
            }
        }
        Self { called, started, begins, named: entries.named.clone() }
    }

    /// Whether a function is known to begin at `address`.
    fn begins(&self, address: u64) -> bool {
        self.begins.contains(&address) || self.named.binary_search(&address).is_ok()
    }

    /// The row at `pc`, if the function that symbol tables name there leads to it.
    fn named_row(&self, text: &Text<'_>, pc: CodeAddress) -> Option<Row<'static>> {
        let after = self.named.partition_point(|start| *start <= pc.lookup());
        let start = *self.named.get(after.checked_sub(1)?)?;
        let end = self.named.get(after).copied().unwrap_or(u64::MAX);
        let limits =
            Limits { steps: FROM_SYMBOL, inside: &|at| (start..end).contains(&at), begins: &|at| self.begins(at) };
        let flow = Flow::follow(text, vec![(start, State::at_entry())], &limits);
        let row = row::from_entry(&visited(&flow, pc)?, pc)?;
        Some(Row { origin: Origin::Analysed(Grade::FromSymbol), ..row })
    }

    /// The row at `pc`, if an entry leads there.
    fn row(&self, pc: CodeAddress) -> Option<Result<Row<'static>, Why>> {
        match (visited(&self.started, pc), visited(&self.called, pc)) {
            // Code that is both called and the beginning of everything.
            (Some(_), Some(_)) => Some(Err(Why::Undecided)),
            (Some(_), None) => Some(Ok(outermost(pc, Root::EntryPoint))),
            (None, Some(state)) if row::is_past_return(&state) => None,
            (None, Some(state)) => Some(row::from_entry(&state, pc).ok_or(Why::Undecided)),
            (None, None) => None,
        }
    }
}

/// What holds at `pc`, if the flow came there.
fn visited(flow: &Flow, pc: CodeAddress) -> Option<State> {
    let visit = match pc {
        CodeAddress::Exact(address) => flow.at(address),
        CodeAddress::Return(address) => flow.call_before(address),
    };
    visit.map(|visit| visit.state.clone())
}

/// The row for `pc` in code without unwind information.
///
/// # Errors
/// [`Why::NoText`] where the code cannot be read, [`Why::Undecided`] where it does not say.
pub fn row(text: &Text<'_>, pc: CodeAddress, reached: &Reached) -> Result<Row<'static>, Why> {
    if let Some(row) = reached.row(pc) {
        return row;
    }
    if let Some(row) = reached.named_row(text, pc) {
        return Ok(row);
    }
    if text.instruction(pc.value()).is_none() {
        return Err(Why::NoText);
    }
    if let CodeAddress::Exact(address) = pc
        && let Some(state) = plt_entry(text, address)
    {
        return row::from_entry(&state, pc).ok_or(Why::Undecided);
    }
    to_return(text, pc, &|at| reached.begins(at)).ok_or(Why::Undecided)
}

/// The row for `pc` from the way to the function's returns.
fn to_return(text: &Text<'_>, pc: CodeAddress, begins: &dyn Fn(u64) -> bool) -> Option<Row<'static>> {
    let from = pc.value();
    // Behind a call that did not come back lies another function, or nothing.
    if !pc.is_exact() && (begins(from) || flow::padded(text, from)) {
        return None;
    }
    let limits = Limits { steps: TO_RETURN, inside: &|_| true, begins };
    let mut start = State::anywhere();
    if !pc.is_exact() {
        start.called();
    }
    let flow = Flow::follow(text, vec![(from, start)], &limits);
    row::to_return(&flow, pc)
}

/// Follows the function that begins at `entry` and lies where `inside` holds, and shows what holds at each instruction.
pub fn each_state(text: &Text<'_>, entry: u64, inside: &dyn Fn(u64) -> bool, mut see: impl FnMut(u64, &State)) {
    let limits = Limits { steps: FUNCTION, inside, begins: &|_| false };
    let flow = Flow::follow(text, vec![(entry, State::at_entry())], &limits);
    flow.visits().for_each(|(address, visit)| see(address, &visit.state));
}
