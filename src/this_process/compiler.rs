//! A thread that compiles tables, so that nobody waits for them.

use super::known_code::KnownCode;
use super::tables::{NoTable, compile};
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use surestack_fast::Table;
use surestack_module_map::Record;

/// What became of each module.
static STATE: Mutex<State> = Mutex::new(State { jobs: None, waiting: 0, done: Vec::new() });
static DONE: Condvar = Condvar::new();

struct State {
    /// Where modules go that are to be compiled; none before that is wanted.
    jobs: Option<Sender<&'static Record>>,
    waiting: usize,
    done: Vec<CompiledModule>,
}

/// A module, and its table.
#[derive(Clone, Copy, Debug)]
pub struct CompiledModule {
    /// The module.
    pub record: &'static Record,
    /// Its table, or why there is none.
    pub table: Result<&'static Table<'static>, NoTable>,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on modules are compiled, those of before as well. Whether a thread could be made for it.
///
/// # Errors
/// There is none, and rules are found one by one.
pub fn begin(known: impl Iterator<Item = &'static Record>) -> io::Result<()> {
    let mut state = state();
    if state.jobs.is_some() {
        return Ok(());
    }
    let (jobs, taken) = channel::<&'static Record>();
    Builder::new().name("surestack-tables".to_owned()).spawn(move || taken.into_iter().for_each(compiled))?;
    state.jobs = Some(jobs);
    drop(state);
    known.for_each(wants);
    Ok(())
}

/// A module that was registered: it is compiled, if that is wanted at all.
pub fn wants(record: &'static Record) {
    let mut state = state();
    if record.table.is_some_and(|table| table.table().is_none())
        && let Some(jobs) = &state.jobs
        && jobs.send(record).is_ok()
    {
        state.waiting += 1;
    }
}

fn compiled(record: &'static Record) {
    let there = record.table.and_then(|compiled| compiled.table());
    let table = match there {
        Some(table) => Ok(table),
        None => KnownCode::of(record).ok_or(NoTable::NoFile).and_then(|known| {
            let table: &'static Table<'static> =
                Box::leak(Box::new(compile(&record.unwind, |from, to| known.is_in(from, to))?));
            if let Some(compiled) = record.table {
                compiled.publish(table);
            }
            Ok(table)
        }),
    };
    let mut state = state();
    state.done.push(CompiledModule { record, table });
    state.waiting = state.waiting.saturating_sub(1);
    DONE.notify_all();
}

/// Waits until every module that was registered is compiled, and says what became of each.
pub fn finished() -> Vec<CompiledModule> {
    let mut state = state();
    while state.waiting > 0 {
        state = DONE.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.done.clone()
}
