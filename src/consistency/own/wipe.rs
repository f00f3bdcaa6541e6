//! Addresses that lead into targets, cleared before their memory is given back: the next search would find them there.

use crate::consistency::Examined;
use crate::consistency::decision::{Overall, Reason, Standing};
use crate::consistency::target::Version;
use crate::consistency::trace::State;
use crate::consistency::world::Obstacle;
use std::ops::Range;
use surestack_walk::CodeAddress;

/// Clears every such address.
pub(super) fn wipe(examined: &mut Examined) {
    let Examined { targets, traces, searched, decision } = examined;
    for target in targets {
        target.overwritten.iter_mut().for_each(range);
        let later = match &mut target.live {
            Version::Original => None,
            Version::Patched(parts) | Version::Reverting(parts) => Some(parts),
        };
        target.parts.iter_mut().chain(later.into_iter().flatten()).for_each(|part| range(&mut part.range));
    }
    for trace in traces {
        let both = match &mut trace.state {
            State::Held(trace) => [Some(trace), None],
            State::InCall { behind, anew } => [Some(behind), Some(anew)],
            State::Running | State::Gone => [None, None],
        };
        for trace in both.into_iter().flatten() {
            trace.frames.iter_mut().for_each(|frame| pc(&mut frame.pc));
            trace.doubts.iter_mut().for_each(clear);
        }
    }
    for answer in &mut decision.threads {
        match &mut answer.standing {
            Standing::Blocked { hits, wait, doubts } => {
                hits.iter_mut().for_each(|hit| pc(&mut hit.pc));
                wait.iter_mut().for_each(|wait| word(&mut wait.pc));
                doubts.iter_mut().for_each(clear);
            }
            Standing::Untrusted { doubts, .. } => doubts.iter_mut().for_each(clear),
            Standing::Clear | Standing::Running | Standing::Gone => {}
        }
    }
    searched.iter_mut().flat_map(|searched| &mut searched.obstacles).for_each(obstacle);
    if let Overall::RetryLater(reasons) | Overall::Refuse(reasons) = &mut decision.overall {
        for reason in reasons {
            if let Reason::Process(found) = reason {
                obstacle(found);
            }
        }
    }
}

fn obstacle(obstacle: &mut Obstacle) {
    match obstacle {
        Obstacle::Setjmp { at, .. } | Obstacle::Undecoded { at, .. } => word(at),
        Obstacle::Unlisted { value, .. } => word(value),
        _ => {}
    }
}

fn pc(pc: &mut CodeAddress) {
    clear(pc);
}

fn range(range: &mut Range<u64>) {
    word(&mut range.start);
    word(&mut range.end);
}

fn word(word: &mut u64) {
    clear(word);
}

/// Makes every byte of a value 0, so that it cannot be told that nobody reads it again.
fn clear<T: Copy>(value: &mut T) {
    let bytes = std::ptr::from_mut(value).cast::<u8>();
    for offset in 0..size_of::<T>() {
        // SAFETY: all bytes of a value that is ours; who owned it is being dropped and does not look at it again.
        unsafe { bytes.add(offset).write_volatile(0) };
    }
}
