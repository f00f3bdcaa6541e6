//! A report that is asked for, of a panic or of nothing but the wish: the thread queues a signal to itself, and all that
//! follows is as for a crash, but that the thread goes on.

use crate::context::SIGINFO;
use crate::plan::Plan;
use crate::record::Occasion;
use crate::report::checked;
use crate::syscall::{self, Answer, Errno};
use surestack_walk::Memory;

/// `si_code` of a signal that was queued with a value.
const SI_QUEUE: i32 = -1;
/// Where `si_pid` and `si_value` are in a `siginfo_t`.
const SENDER: usize = 16;
const VALUE: usize = 24;

/// What is asked for. Lies on the stack of whoever asks, who waits for the answer.
#[repr(C)]
struct Request {
    /// Its own address, so that another's value is not taken for one.
    own: u64,
    occasion: u64,
    message: u64,
    length: u64,
}

/// What a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requested {
    /// Why a report is wanted.
    pub occasion: Occasion,
    /// Address and length of what the program says about it.
    pub message: (u64, usize),
}

/// Has a report made of this thread, here and now. The thread goes on.
///
/// # Errors
/// Where the kernel does not queue the signal.
pub fn request(plan: &Plan, occasion: Occasion, message: &[u8]) -> Answer {
    let mut request = Request {
        own: 0,
        occasion: match occasion {
            Occasion::Panic => 1,
            Occasion::Signal | Occasion::Requested => 0,
        },
        message: u64::try_from(message.as_ptr().expose_provenance()).unwrap_or_default(),
        length: u64::try_from(message.len()).unwrap_or_default(),
    };
    request.own = u64::try_from((&raw const request).expose_provenance()).unwrap_or_default();
    let process = syscall::process_id();
    let mut information = [0_u8; SIGINFO];
    let words = [
        (0, plan.request.to_le_bytes()),
        (8, SI_QUEUE.to_le_bytes()),
        (SENDER, process.cast_signed().to_le_bytes()),
        (SENDER + 4, syscall::user_id().cast_signed().to_le_bytes()),
    ];
    for (at, word) in words {
        put(&mut information, at, &word);
    }
    put(&mut information, VALUE, &request.own.to_le_bytes());
    let bit = u32::try_from(plan.request).ok().and_then(|signal| signal.checked_sub(1)).ok_or(Errno(22))?;
    if syscall::pending()? & 1_u64 << bit != 0 {
        // Somebody sent it and means to wait for it: unblocked, it would be the end of the program.
        return Err(Errno::EAGAIN);
    }
    let blocked = syscall::unblock(1_u64 << bit)?;
    // SAFETY: our own handler answers it, before this call returns.
    let queued = unsafe { syscall::queue_signal(process, syscall::thread_id(), plan.request, &information) };
    syscall::set_blocked(blocked)?;
    // It is read by the handler alone.
    core::hint::black_box(&request);
    queued
}

/// The request that came with a signal of the plan's number; none if somebody else sent it.
pub(crate) fn of(information: &[u8; SIGINFO]) -> Option<Requested> {
    let word = |at: usize| {
        information.get(at..).and_then(|rest| rest.first_chunk::<4>()).map(|word| i32::from_le_bytes(*word))
    };
    let value = u64::from_le_bytes(*information.get(VALUE..)?.first_chunk()?);
    if word(8)? != SI_QUEUE || u32::try_from(word(SENDER)?) != Ok(syscall::process_id()) {
        return None;
    }
    let memory = checked();
    let [own, occasion, message, length] = [0, 8, 16, 24].map(|offset| memory.word(value.checked_add(offset)?).ok());
    if own? != value {
        return None;
    }
    let occasion = if occasion? == 1 { Occasion::Panic } else { Occasion::Requested };
    Some(Requested { occasion, message: (message?, usize::try_from(length?).ok()?) })
}

fn put(bytes: &mut [u8; SIGINFO], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..) {
        room.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    }
}
