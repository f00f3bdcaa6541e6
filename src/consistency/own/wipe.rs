//! Addresses that lead into targets, cleared before their memory is given back: the next search would find them there.
//!
//! Whole lists are cleared, not values: what a variant does not use holds whatever lay on the stack before, and that was
//! the last address that was read.

use crate::consistency::decision::{Decision, Overall, Reason, Standing};
use crate::consistency::target::{Target, Version};
use crate::consistency::trace::{State, Trace};
use crate::consistency::{Examined, Searched};
use std::mem::MaybeUninit;

/// Drops it, and leaves no address behind.
pub(super) fn wipe(examined: Examined) {
    let Examined { targets, traces, searched, decision } = examined;
    clear(targets, |Target { parts, live, .. }| {
        clear(parts, drop);
        match live {
            Version::Original => {}
            Version::Patched(parts) | Version::Reverting(parts) => clear(parts, drop),
        }
    });
    clear(traces, |trace| match trace.state {
        State::Held(trace) => wipe_trace(trace),
        State::InCall { behind, anew } => [behind, anew].into_iter().for_each(wipe_trace),
        State::Running | State::Gone => {}
    });
    if let Some(Searched { obstacles, .. }) = searched {
        clear(obstacles, drop);
    }
    let Decision { threads, overall } = decision;
    clear(threads, |answer| match answer.standing {
        Standing::Blocked { hits, doubts, .. } => {
            clear(hits, drop);
            clear(doubts, drop);
        }
        Standing::Untrusted { doubts, .. } => clear(doubts, drop),
        Standing::Clear | Standing::Running | Standing::Gone => {}
    });
    if let Overall::RetryLater(reasons) | Overall::Refuse(reasons) = overall {
        clear::<Reason>(reasons, drop);
    }
}

fn wipe_trace(trace: Trace) {
    clear(trace.frames, drop);
    clear(trace.doubts, drop);
    clear(trace.saved, drop);
}

/// Takes each item out of a list, and makes every byte of where they lay 0.
fn clear<T>(mut list: Vec<T>, item: impl FnMut(T)) {
    list.drain(..).for_each(item);
    for place in list.spare_capacity_mut() {
        let start = std::ptr::from_mut(place).cast::<MaybeUninit<u8>>();
        for offset in 0..size_of::<T>() {
            // SAFETY: within the place, of which nothing is in use. Volatile, since it is about to be given back.
            unsafe { start.add(offset).write_volatile(MaybeUninit::new(0)) };
        }
    }
}
