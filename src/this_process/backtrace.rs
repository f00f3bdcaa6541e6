//! The return addresses of our own thread, fast.

use std::ffi::c_void;
use std::fmt;
use std::ops::ControlFlow;
pub use surestack_capture::Layers;
use surestack_capture::{HereWords, Interrupted, chase, here_words};
use surestack_fast::{Passed, Take};
use surestack_walk::{CodeAddress, End, Error, Regs};

/// Says that a pc was interrupted.
const EXACT: u64 = 1 << 63;

/// The pcs of a stack, innermost first.
#[derive(Clone)]
pub struct Backtrace<const FRAMES: usize = 128> {
    pcs: [u64; FRAMES],
    depth: usize,
    end: Option<End>,
}

impl<const FRAMES: usize> Backtrace<FRAMES> {
    /// Of nobody.
    pub const EMPTY: Self = Self { pcs: [0; FRAMES], depth: 0, end: None };

    /// Of this thread, from where it is called.
    #[inline(always)]
    pub fn capture() -> Self {
        let mut backtrace = Self::EMPTY;
        backtrace.capture_here();
        backtrace
    }

    /// The same, in memory that is there already.
    #[inline(always)]
    pub fn capture_here(&mut self) {
        self.walk_here(&here_words());
    }

    /// The same with some layers of the fast path left out, for whoever measures them. The frames are the same.
    #[inline(always)]
    pub fn capture_with(&mut self, layers: Layers) {
        self.walk_here_with(&here_words(), layers);
    }

    #[inline(never)]
    fn walk_here(&mut self, here: &HereWords) {
        self.walk(here.first(), || here.registers(), Layers::All);
    }

    #[inline(never)]
    fn walk_here_with(&mut self, here: &HereWords, layers: Layers) {
        self.walk(here.first(), || here.registers(), layers);
    }

    /// Of what a signal interrupted, by the third argument of its handler.
    ///
    /// # Safety
    /// It is that, and the handler has not returned.
    pub unsafe fn capture_ucontext(&mut self, context: *const c_void) {
        let ucontext = context.expose_provenance();
        let interrupted = Interrupted { ucontext, siginfo: ucontext };
        // SAFETY: as the caller promises; the second address is not looked at.
        match unsafe { interrupted.first() } {
            // SAFETY: the same. What could be read once can be read again.
            Ok(first) => self.walk(first, || unsafe { interrupted.registers() }.unwrap_or_default(), Layers::All),
            Err(error) => (self.depth, self.end) = (0, Some(End::Stopped(error))),
        }
    }

    #[inline(always)]
    fn walk(&mut self, first: [u64; 3], regs: impl Fn() -> Regs, layers: Layers) {
        let [pc, ..] = first;
        (self.depth, self.end) = (0, None);
        let mut pcs = Pcs { pcs: &mut self.pcs, depth: 0 };
        // SAFETY: our own registers, or what the signal interrupted whose handler this is.
        let end = unsafe { chase(first, regs, super::modules(), layers, &mut pcs) };
        self.depth = pcs.depth;
        self.end = Some(match end {
            Ok(end) => end.unwrap_or(End::Stopped(Error::Budget { frames: FRAMES })),
            Err(_) => End::Stopped(Error::UnknownCode { pc }),
        });
    }

    /// The pcs, innermost first.
    pub fn frames(&self) -> impl Iterator<Item = CodeAddress> {
        self.pcs.iter().take(self.depth).map(|pc| match pc & EXACT {
            0 => CodeAddress::Return(*pc),
            _ => CodeAddress::Exact(pc & !EXACT),
        })
    }

    /// How many there are.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// How the walk ended; nothing if there was none.
    pub fn end(&self) -> Option<End> {
        self.end
    }
}

impl<const FRAMES: usize> fmt::Debug for Backtrace<FRAMES> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.frames()).finish()
    }
}

/// Keeps pcs alone.
struct Pcs<'p> {
    pcs: &'p mut [u64],
    depth: usize,
}

impl Take for Pcs<'_> {
    #[inline(always)]
    fn take(&mut self, frame: Passed) -> ControlFlow<()> {
        let Some(place) = self.pcs.get_mut(self.depth) else { return ControlFlow::Break(()) };
        *place = match frame.pc {
            CodeAddress::Return(pc) => pc,
            CodeAddress::Exact(pc) => pc | EXACT,
        };
        self.depth += 1;
        ControlFlow::Continue(())
    }

    #[inline(always)]
    fn room(&mut self) -> Option<&mut [u64]> {
        Some(self.pcs.get_mut(self.depth..).unwrap_or_default())
    }

    #[inline(always)]
    fn took(&mut self, count: usize) {
        self.depth += count;
    }

    #[inline(always)]
    fn take_called(&mut self, frames: impl ExactSizeIterator<Item = (u64, u64)>) -> usize {
        let places = self.pcs.get_mut(self.depth..).unwrap_or_default();
        let taken = frames.len().min(places.len());
        places.iter_mut().zip(frames).for_each(|(place, (pc, _))| *place = pc);
        self.depth += taken;
        taken
    }
}
