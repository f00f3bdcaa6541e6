//! What is compared: anything that can say a call chain at a stop.

pub mod frame_pointer;
pub mod framehop;
#[cfg(feature = "peers")]
pub mod libdwfl;
#[cfg(feature = "peers")]
pub mod libunwind;
pub mod ours;

use crate::maps::{Maps, Module};
use crate::memory::Memory;
use libc::user_regs_struct;

/// A stopped thread, as a contender sees it. It may read the process by any means, and must not resume it.
#[derive(Clone, Copy)]
pub struct Stop<'a> {
    /// The process.
    pub pid: i32,
    /// The thread, in ptrace stop, traced by the calling thread.
    pub tid: i32,
    /// Its registers.
    pub registers: user_regs_struct,
    /// Changes whenever the process changes its mappings (but not when its stack grows).
    pub maps_generation: u64,
    /// Changes whenever `modules` does.
    pub modules_generation: u64,
    /// The mappings of the process.
    pub maps: &'a Maps,
    /// The files with code among them.
    pub modules: &'a [Module],
}

impl Stop<'_> {
    /// The memory of the process.
    pub fn memory(&self) -> Memory {
        Memory::of(self.pid)
    }
}

/// A contender's word on one stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The chain: pc first.
    pub pcs: Vec<u64>,
    /// Whether it vouches for the chain.
    pub trusted: bool,
    /// Why it does or does not.
    pub why: String,
}

/// Something that can be asked for a call chain.
pub trait Contender {
    /// Its name in the tables.
    fn name(&self) -> &str;
    /// The chain at this stop.
    fn ask(&mut self, stop: &Stop<'_>) -> Answer;
}

/// The longest chain anybody is asked for.
pub const MAX_FRAMES: usize = 4096;

/// Everybody who can be asked in this build.
pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(ours::Surestack::default()),
        Box::new(frame_pointer::FramePointer),
        Box::new(framehop::Framehop::default()),
        #[cfg(feature = "peers")]
        Box::new(libdwfl::Libdwfl::default()),
        #[cfg(feature = "peers")]
        Box::new(libunwind::Libunwind::default()),
    ]
}

/// Who is missing from this build, and what it would take.
pub fn missing() -> &'static [(&'static str, &'static str)] {
    if cfg!(feature = "peers") {
        &[]
    } else {
        &[("libdwfl", "build with --features peers"), ("libunwind", "build with --features peers")]
    }
}
