//! What threads said when they panicked, kept where a handler finds it.
//!
//! The panic hook writes, outside of any handler; a handler of any thread reads, whatever it interrupted. A message is taken,
//! written, and then shown by one store of its state, which has the thread's id and counts how often the place was used. A
//! reader that finds another state behind the text than before it has read two messages at once, and says that there is none.
//! The oldest message makes room for the next.
//!
//! A panic that ends in an abort raises SIGABRT in the frame of std that called the hook. Its report is made already then:
//! see [`Message::is_in`].

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Bytes of a message that are kept.
pub const TEXT: usize = 4096 - 40;
/// Messages that are kept.
const MESSAGES: usize = 16;
/// The thread id of a message that is being written: none is so high.
const TAKEN: u32 = u32::MAX;
/// The half of a state that has the thread's id.
const LOW: u64 = 0xffff_ffff;

/// A message. 4 KiB.
#[derive(Debug)]
pub struct Message {
    /// The thread's id in the lower half (0: none yet, [`TAKEN`]), how often the place was used in the upper.
    state: AtomicU64,
    /// An address in the frame that called the hook.
    inside: AtomicU64,
    /// Where that frame's return address lies, and what it is; 0 before a report was made.
    frame: [AtomicU64; 2],
    length: AtomicU32,
    text: [AtomicU8; TEXT],
}

/// Where a return address lies, and what it is: what tells one call of a function from all others that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where it lies.
    pub return_slot: u64,
    /// What it is.
    pub return_address: u64,
}

impl Message {
    const fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            inside: AtomicU64::new(0),
            frame: [const { AtomicU64::new(0) }; 2],
            length: AtomicU32::new(0),
            text: [const { AtomicU8::new(0) }; TEXT],
        }
    }

    /// The thread that said it.
    fn thread(&self) -> Option<u32> {
        u32::try_from(self.state.load(Ordering::Acquire) & LOW).ok().filter(|thread| ![0, TAKEN].contains(thread))
    }

    fn take(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let taken = (state & !LOW) | u64::from(TAKEN);
        // Acquire pairs with the Release in `show`: what was written before lies behind us.
        state & LOW != u64::from(TAKEN)
            && self.state.compare_exchange(state, taken, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn show(&self, thread: u32, text: &[u8], inside: u64) {
        // Whoever reads a byte of what follows sees in its second look that the place was taken.
        fence(Ordering::Release);
        self.text.iter().zip(text).for_each(|(place, byte)| place.store(*byte, Ordering::Relaxed));
        let length = u32::try_from(text.len().min(TEXT)).unwrap_or(0);
        self.length.store(length, Ordering::Relaxed);
        self.inside.store(inside, Ordering::Relaxed);
        self.frame.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let turn = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Pairs with the Acquire in `read`.
        self.state.store((turn << 32) | u64::from(thread), Ordering::Release);
    }

    /// The text, as much of it as there is room for: how long it is. Nothing if it is being written anew.
    pub fn read(&self, into: &mut [u8]) -> Option<usize> {
        let before = self.state.load(Ordering::Acquire);
        if [0, u64::from(TAKEN)].contains(&(before & LOW)) {
            return None;
        }
        let length = usize::try_from(self.length.load(Ordering::Relaxed)).ok()?.min(TEXT).min(into.len());
        self.text
            .iter()
            .zip(into.iter_mut().take(length))
            .for_each(|(byte, place)| *place = byte.load(Ordering::Relaxed));
        // Pairs with the fence in `show`.
        fence(Ordering::Acquire);
        (self.state.load(Ordering::Relaxed) == before).then_some(length)
    }

    /// An address in the frame that called the hook, and that is still there when the panic ends in an abort: std's own,
    /// whatever hooks have called each other in between.
    pub fn inside(&self) -> u64 {
        self.inside.load(Ordering::Relaxed)
    }

    /// Remembers that the panic was reported, and which frame [`Message::inside`] is in: its return address, and where.
    pub fn reported(&self, frame: Call) {
        let [slot, address] = &self.frame;
        address.store(frame.return_address, Ordering::Relaxed);
        slot.store(frame.return_slot, Ordering::Relaxed);
    }

    /// Whether there is a report of it.
    pub fn is_reported(&self) -> bool {
        self.frame.first().is_some_and(|slot| slot.load(Ordering::Relaxed) != 0)
    }

    /// Whether a trace of the same thread, of which this is one call, comes of a panic that was reported: then it has the
    /// frame that called the hook. A panic that was caught has left that frame, and another one there calls the hook again,
    /// which makes this another message.
    pub fn is_in(&self, call: Call) -> bool {
        let [slot, address] = &self.frame;
        let frame = Call { return_slot: slot.load(Ordering::Relaxed), return_address: address.load(Ordering::Relaxed) };
        frame.return_slot != 0 && frame == call
    }
}

/// The messages of the latest panics.
#[derive(Debug)]
pub struct Messages {
    places: [Message; MESSAGES],
    next: AtomicUsize,
}

/// Those of this process.
pub static PANICS: Messages = Messages::new();

impl Default for Messages {
    fn default() -> Self {
        Self::new()
    }
}

impl Messages {
    /// None.
    pub const fn new() -> Self {
        Self { places: [const { Message::new() }; MESSAGES], next: AtomicUsize::new(0) }
    }

    /// Keeps what a thread says as it panics, in place of what it said before. `inside` is an address in the frame that
    /// called the hook. Nothing where so many threads panic at once that each place is being written.
    pub fn keep(&self, thread: u32, text: &[u8], inside: u64) -> Option<&Message> {
        let own = self.of(thread).filter(|message| message.take());
        let place = own.or_else(|| {
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            let order = (0..MESSAGES).filter_map(|more| self.places.get(first.wrapping_add(more) % MESSAGES));
            order.into_iter().find(|message| message.take())
        })?;
        place.show(thread, text, inside);
        Some(place)
    }

    /// What a thread said last.
    pub fn of(&self, thread: u32) -> Option<&Message> {
        self.places.iter().find(|message| message.thread() == Some(thread))
    }
}
