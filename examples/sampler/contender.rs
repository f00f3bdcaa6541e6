//! What whoever takes samples must be able to do.

use std::ffi::c_void;
use surestack::walk::CodeAddress;

/// Frames that there is room for.
pub const FRAMES: usize = 128;

/// Somebody who takes stack traces in a signal handler.
pub trait Contender: Send {
    /// What the handler keeps of a sample; made before it is taken.
    type Trace: Clone + Send;

    /// What is needed as long as a thread is sampled.
    type Known;

    /// A trace of nobody.
    const EMPTY: Self::Trace;

    /// For the process, before its threads are sampled; or why it cannot be.
    fn prepare() -> Result<(), String>;

    /// For this thread, which has its alternate stack after this.
    fn enter() -> Self::Known;

    /// What the handler uses on this thread, with room for so many samples.
    fn of_this_thread(room: usize) -> Self;

    /// Takes a trace of what a signal interrupted. Called in its handler: no lock, no allocation.
    ///
    /// # Safety
    /// `context` is the third argument of the handler.
    unsafe fn take(&mut self, context: *const c_void, trace: &mut Self::Trace);

    /// Looks closer, where it wants to; not counted as the cost of the sample.
    ///
    /// # Safety
    /// As for [`Contender::take`].
    unsafe fn look_closer(&mut self, _context: *const c_void) {}

    /// What a trace says, at leisure.
    fn frames(trace: &Self::Trace) -> Frames;

    /// What came of looking closer, for the table.
    fn judged(_threads: &[&Self]) -> Result<String, surestack::Error> {
        Ok("—".to_owned())
    }
}

/// A stack, innermost frame first.
pub struct Frames {
    /// Its pcs.
    pub pcs: Vec<CodeAddress>,
    /// Whether these are all, by the word of who took them; `None` where there is no telling.
    pub complete: Option<bool>,
}

/// Room for the pcs of others.
#[derive(Clone)]
pub struct Pcs {
    /// Innermost first.
    pub pcs: [u64; FRAMES],
    /// How many there are.
    pub depth: usize,
}

impl Pcs {
    /// Of nobody.
    pub const EMPTY: Self = Self { pcs: [0; FRAMES], depth: 0 };

    /// The first was interrupted, the others are return addresses.
    pub fn code(&self) -> Vec<CodeAddress> {
        let pcs = self.pcs.iter().take(self.depth).enumerate();
        pcs.map(|(at, pc)| if at == 0 { CodeAddress::Exact(*pc) } else { CodeAddress::Return(*pc) }).collect()
    }
}
