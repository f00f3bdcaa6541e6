//! All threads of our own process, stopped by asking them, and let go again.
//!
//! ```text
//!   asker                                         asked thread
//!   list /proc/self/task
//!   claim a slot, queue the signal with it  ───►  wherever it is: kernel's frame, `asked`
//!                                                 slot ◄ where its registers lie; Standing
//!   wait for answers, at most so long       ◄───  waits, at most until `stay_until`
//!   list again, until nobody is new
//!   walk each from its registers
//!   let go                                  ───►  returns to what it was doing
//! ```
//!
//! What is promised: nobody here waits without an end. A thread goes on by itself when the time is over, whatever became
//! of the asker, and says so in its slot. Who did not answer is named: because the signal is blocked, because it is in a
//! system call that no signal interrupts, because it waits for its vfork child. Nobody is left out for want of room:
//! [`Parked::each`] names those too.
//!
//! What it can't do: stop a thread that blocks the signal, or a task that shares the memory and is no thread of the process.
//! What an asked thread notices: a system call that waits is begun again (`SA_RESTART`), except those that the kernel never
//! begins again behind a handler and that then fail with `EINTR`: `nanosleep` (libc returns what is left), `poll`, `select`,
//! `epoll_wait`, `pause`, `sigtimedwait`, `semop`, `io_getevents`, sockets with a time limit (signal(7)).
//!
//! Writers of a slot's state, and what each may do:
//!
//! ```text
//!   Free ──asker──► Asked ──thread──► Standing ◄─asker─► Going ──thread──► Free
//!                     │                  └─thread, at the end of the time──► Left ──asker──► Free
//!                     └─asker, at the end──► Owed ──thread, late──► Free;  ──asker, next time──► Asked
//!   NotAsked: of those that are not asked, so that they are listed once.
//! ```

mod asked;
mod list;
mod parked;

pub use asked::{Installed, Refused, install};
pub use list::{Signals, ThreadName, has, name, state};
pub use parked::{Parked, Purpose, Standing, Times, park};

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Where one asked thread says how it stands.
#[derive(Debug)]
pub struct Slot {
    /// One of the constants below.
    state: AtomicU32,
    /// Which thread was asked.
    thread: AtomicU32,
    /// Address of its `ucontext_t`, once it stands.
    context: AtomicUsize,
    /// Its thread base, which the context does not have.
    base: AtomicU64,
    /// Its name, as it says itself: to read it elsewhere would take opening a file.
    name: [AtomicU64; 2],
}

const FREE: u32 = 0;
/// The signal was queued, and nothing has come back.
const ASKED: u32 = 1;
/// It waits, and its registers do not change.
const STANDING: u32 = 2;
/// It may go on.
const GOING: u32 = 3;
/// The time was over and it went on by itself.
const LEFT: u32 = 4;
/// The asker went on, and the signal is still queued.
const OWED: u32 = 5;
/// It was not asked: it blocks the signal, or the kernel queues no more.
const NOT_ASKED: u32 = 6;

impl Slot {
    /// Nobody's.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            state: AtomicU32::new(FREE),
            thread: AtomicU32::new(0),
            context: AtomicUsize::new(0),
            base: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; 2],
        }
    }

    fn become_if(&self, now: u32, next: u32) -> bool {
        // Release: what was written before, the context, is seen by who reads the state. Acquire: likewise here.
        self.state.compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Slots that were made together, and those that were made later. Never given back.
#[derive(Debug)]
pub struct Room {
    slots: &'static [Slot],
    next: AtomicPtr<Room>,
}

impl Room {
    /// These slots.
    #[must_use]
    pub const fn of(slots: &'static [Slot]) -> Self {
        Self { slots, next: AtomicPtr::new(core::ptr::null_mut()) }
    }
}

/// The first room.
static ROOMS: AtomicPtr<Room> = AtomicPtr::new(core::ptr::null_mut());
/// Until when, on the monotonic clock, those that stand go on standing.
static STAY_UNTIL: AtomicU64 = AtomicU64::new(0);
/// Counts answers; the asker waits for it to change.
static ANSWERS: AtomicU32 = AtomicU32::new(0);
/// Counts releases; those that stand wait for it to change.
static RELEASES: AtomicU32 = AtomicU32::new(0);
/// The thread that asks; 0 for nobody.
static ASKER: AtomicU32 = AtomicU32::new(0);

/// Makes room for more threads: any thread may, at any time, not in a handler that interrupted itself doing so.
pub fn add_room(room: &'static Room) {
    let new = core::ptr::from_ref(room).cast_mut();
    let mut place = &ROOMS;
    // At the end, so that numbers stay as they are. Release: its slots are seen by who sees it.
    while let Err(taken) = place.compare_exchange(core::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: rooms live for ever.
        place = unsafe { &(*taken).next };
    }
}

/// The signal that asks, as a mask: none while none does.
pub(crate) fn mask() -> u64 {
    let bit = asked::signal().ok().and_then(|signal| u32::try_from(signal).ok()?.checked_sub(1));
    bit.map_or(0, |bit| 1_u64 << bit)
}

/// For how many threads there is room.
pub fn room() -> usize {
    rooms().map(|room| room.slots.len()).fold(0, usize::saturating_add)
}

fn rooms() -> impl Iterator<Item = &'static Room> {
    let mut next = ROOMS.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: null, or a room, which lives for ever.
        let room = unsafe { next.as_ref() }?;
        next = room.next.load(Ordering::Acquire);
        Some(room)
    })
}

fn slots() -> impl Iterator<Item = &'static Slot> {
    rooms().flat_map(|room| room.slots)
}

/// The slot with this number.
fn slot(mut number: usize) -> Option<&'static Slot> {
    for room in rooms() {
        if let Some(slot) = room.slots.get(number) {
            return Some(slot);
        }
        number = number.checked_sub(room.slots.len())?;
    }
    None
}
