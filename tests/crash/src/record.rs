//! What our own handler left: the records in a directory.

use std::fs;
use std::path::Path;
use surestack_capture::record::{Item, Items, ThreadState};
use surestack_walk::Register;

/// What one record says of the thread that crashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The pcs of its frames.
    pub frames: Vec<u64>,
    /// Its registers in the order of DWARF's numbers, then the pc, where all of them are there.
    pub registers: Option<[u64; 17]>,
    /// Threads that are in it.
    pub threads: usize,
    /// It ends as a record should.
    pub done: bool,
    /// Steps that came to nothing, and what else is amiss.
    pub troubles: Vec<String>,
}

/// The records in `directory`, whatever they are called.
pub fn all(directory: &Path) -> Vec<Left> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|e| e.path().is_file()).filter_map(|e| fs::read(e.path()).ok());
    files.filter_map(|bytes| read(&bytes)).collect()
}

/// One record; nothing if the bytes are not one.
pub fn read(bytes: &[u8]) -> Option<Left> {
    let items = Items::new(bytes);
    items.machine()?;
    let (mut left, mut crashed) = (Left::default(), None);
    for item in items {
        match item {
            Ok(Item::Signal { tid, .. }) => {
                crashed.get_or_insert(tid);
            }
            Ok(Item::Thread { tid, state, .. }) => {
                left.threads += 1;
                if state == ThreadState::Crashed {
                    crashed = Some(tid);
                }
            }
            Ok(Item::Registers { tid, regs }) if crashed.is_none_or(|c| c == tid) && left.registers.is_none() => {
                let value = |number: u8| regs.get(Register::general(number)?);
                let all: Option<Vec<u64>> = (0..16).map(value).chain([regs.get(Register::PC)]).collect();
                left.registers = all.and_then(|all| all.try_into().ok());
            }
            Ok(Item::Frame { tid, noted, .. }) if crashed.is_none_or(|c| c == tid) => {
                left.frames.push(noted.pc.value());
            }
            Ok(Item::StepFailed { step, failure }) => left.troubles.push(format!("step {step}: {failure:x?}")),
            Ok(Item::Gap { what, number }) => left.troubles.push(format!("{what:?} {number:#x}")),
            Ok(Item::Storm(storm)) => left.troubles.push(format!("{storm:x?}")),
            Ok(Item::Done { .. }) => left.done = true,
            Err(damage) => left.troubles.push(damage.to_string()),
            Ok(_) => {}
        }
    }
    Some(left)
}
