//! A target that holds still: everything a walk and a report ask of a core file or a stopped process.
//!
//! Whatever it was read from, a snapshot is this one struct: readers fill it in, consumers only look at it.

pub mod core_file;
pub mod initial_stack;
mod placement;
pub mod process;
pub mod record;
pub mod recorder;
mod registers;
mod restart;

use crate::image::{BuildId, Image};
use std::path::PathBuf;
use std::sync::Arc;
use surestack_walk::{
    Arch, Mapping, Memory, Module, Modules, ProbeKind, ProbePage, Regs, Stack, StackKind, Stacks, Stop,
};

/// A target that holds still.
pub struct Snapshot {
    /// The machine it runs on.
    pub arch: &'static Arch,
    /// The process as a whole.
    pub process: Process,
    /// Its threads, the one that took the fatal signal first.
    pub threads: Vec<Thread>,
    /// Tasks that run in this memory and whose registers could not be had.
    pub absent: Vec<Absent>,
    /// What is mapped where.
    pub space: AddressSpace,
    /// Its memory.
    pub memory: Box<dyn Memory>,
    /// What is missing from it, for the report; empty when it is whole.
    pub gaps: Vec<Gap>,
    /// Bits of a code address that hold a signature, as the target says, beside the architecture's own.
    pub signed_bits: u64,
}

/// Facts about the process as a whole.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Process id, where it is known.
    pub pid: Option<u32>,
    /// Name of the program, at most 15 bytes (`pr_fname`).
    pub name: Option<String>,
    /// The beginning of its command line (`pr_psargs`).
    pub arguments: Option<String>,
    /// The user it runs as, where that is known.
    pub user: Option<u32>,
    /// The auxiliary vector, in the kernel's order.
    pub auxv: Vec<(u64, u64)>,
    /// The stack pointer with which it began, where the target says so; else it is looked for on the stack.
    pub initial_sp: Option<u64>,
}

impl Process {
    /// The value of an auxiliary vector entry (`AT_*`).
    pub fn aux(&self, tag: u64) -> Option<u64> {
        self.auxv.iter().find(|(found, _)| *found == tag).map(|&(_, value)| value)
    }
}

/// The auxiliary vector in these bytes, up to its `AT_NULL`.
fn auxv(bytes: &[u8]) -> Vec<(u64, u64)> {
    let (words, _) = bytes.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let pair = |&[tag, value]: &[[u8; 8]; 2]| (u64::from_le_bytes(tag), u64::from_le_bytes(value));
    pairs.iter().map(pair).take_while(|&(tag, _)| tag != 0).collect()
}

/// One thread.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Kernel thread id.
    pub id: u32,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// Its registers.
    pub regs: Regs,
    /// Why it is not running.
    pub stop: Stop,
    /// The whole of the signal it took, where it is known.
    pub signal: Option<SignalInfo>,
}

/// A task whose stack is not in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Kernel thread id.
    pub id: u32,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// Why it is not there.
    pub why: Absence,
}

/// Why a task is not in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// It did not stop in time.
    Running,
    /// It has exited: it has no stack any more.
    Exited,
    /// It is no thread of the process and shares its memory: a vfork child, a task made by clone with `CLONE_VM`.
    SharesMemory,
    /// It was asked to record itself and did not answer in time.
    Silent,
    /// It was not asked to record itself: there was no room or no time, or it was not wanted.
    NotAsked,
    /// It could not be asked to record itself.
    Refused,
    /// Nothing of it is left in a record.
    Lost,
}

/// A `siginfo_t`, as far as it is of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalInfo {
    /// `si_signo`.
    pub number: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`, for faults.
    pub address: Option<u64>,
    /// `si_pid` and `si_uid`, for signals that somebody sent.
    pub sender: Option<(u32, u32)>,
}

/// `si_code` of what the kernel sends without saying more: `int3`, a general protection fault.
const SI_KERNEL: i32 = 0x80;

impl SignalInfo {
    /// From `si_signo`, `si_code` and the word behind them, which is an address for a fault and pid and uid for a signal
    /// that somebody sent.
    pub fn from_words(number: i32, code: i32, detail: u64) -> Self {
        let is_fault = matches!(number, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP);
        // SI_USER, SI_TKILL and the rest of those at or below 0 were sent by somebody; SI_KERNEL is 0x80.
        let address = (is_fault && code > 0 && code != SI_KERNEL).then_some(detail);
        let half = |shift: u32| u32::try_from(detail >> shift & 0xffff_ffff).unwrap_or_default();
        let sender = (code <= 0).then(|| (half(0), half(32)));
        Self { number, code, address, sender }
    }
}

/// Something that is missing from a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// The file ends before the memory that its headers announce.
    Truncated {
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Memory was left out when the core was written, and no file could stand in for it.
    Filtered {
        /// First address.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// Memory of no file that the kernel did not write though it wrote other such memory: nothing was ever written there, or
    /// the program had it left out (`MADV_DONTDUMP`). Every core has some.
    Unwritten {
        /// How many mappings.
        mappings: usize,
        /// How many bytes in all.
        bytes: u64,
    },
    /// Something about a live process that could not be found out.
    Unchecked {
        /// What, in words.
        what: String,
    },
    /// A step of the handler that wrote a record came to nothing.
    StepFailed {
        /// Which, and why, in words.
        what: String,
    },
    /// Something that the handler which wrote a record could not record, or did elsewhere than it should.
    NotRecorded {
        /// What, in words.
        what: String,
    },
    /// A note or header that cannot be used, and why.
    Damaged {
        /// What it is, in words.
        what: String,
    },
}

/// What is mapped where.
#[derive(Debug, Default)]
pub struct AddressSpace {
    /// Every mapping, ascending by address, not overlapping.
    pub mappings: Vec<Mapped>,
    /// The ELF files among them, ascending by address.
    pub modules: Vec<LoadedModule>,
    /// Whether `mappings` is all there is; an address outside is then known to be unmapped.
    pub complete: bool,
    /// Whether something that runs may map and unmap while this is looked at.
    pub may_change: bool,
    /// Some address on the stack that the kernel made for the program's first thread, where it is known.
    pub main_stack: Option<u64>,
}

/// A mapping.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Whether it may be executed; `None` where the snapshot does not say.
    pub executable: Option<bool>,
    /// Whether it may be written.
    pub writable: Option<bool>,
    /// The file behind it, and the offset of `start` in it.
    pub file: Option<(PathBuf, u64)>,
    /// What the kernel mapped it for, if it is a page of its probes.
    pub probe: Option<ProbeKind>,
}

/// An ELF file mapped in the target.
#[derive(Clone, Debug)]
pub struct LoadedModule {
    /// First mapped address.
    pub start: u64,
    /// One past the last mapped address.
    pub end: u64,
    /// Load bias: mapped address minus linked address.
    pub bias: u64,
    /// Its path in the target; `[vdso]` for the vDSO.
    pub path: PathBuf,
    /// Its build ID, from the target's own memory.
    pub build_id: Option<BuildId>,
    /// The file's contents: from disk when proven to be the same file, or else what the target's memory holds of it.
    pub image: Option<Arc<Image>>,
    /// A separate file with its debug information, proven to belong to it.
    pub debug: Option<Arc<Image>>,
    /// How the image is known to be the right one, or why there is none.
    pub identity: Identity,
}

/// How a module's image is known to be the file that was mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It was opened through the target's own mapping (`/proc/PID/map_files`), or has the device and inode that are
    /// mapped: the very file.
    Mapped,
    /// The file on disk has the build ID that the target's memory shows.
    BuildId,
    /// No build ID; every byte of the file's read-only segments that the target's memory holds is the same there, or,
    /// where it holds none of them, its dynamic section.
    Bytes {
        /// How many bytes were compared.
        compared: u64,
    },
    /// The image was made from the target's memory.
    Memory,
    /// A file was found and nothing in the target tells whether it is the right one. It is not used.
    Unchecked,
    /// The file found is another one and not used; an image there is was made from the target's memory.
    Replaced {
        /// Build ID in the target's memory.
        wanted: Option<BuildId>,
        /// Build ID of the file found.
        found: Option<BuildId>,
    },
    /// No file was found.
    Missing,
}

impl AddressSpace {
    /// The mapping that covers `address`.
    pub fn mapped(&self, address: u64) -> Option<&Mapped> {
        let after = self.mappings.partition_point(|mapped| mapped.start <= address);
        self.mappings.get(after.checked_sub(1)?).filter(|mapped| address < mapped.end)
    }

    /// The module whose range covers `address`, with its position in `modules`.
    pub fn module(&self, address: u64) -> Option<(usize, &LoadedModule)> {
        let after = self.modules.partition_point(|module| module.start <= address);
        let index = after.checked_sub(1)?;
        self.modules.get(index).filter(|module| address < module.end).map(|module| (index, module))
    }
}

impl Modules for AddressSpace {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        let (index, module) = self.module(address)?;
        let mut unwind = module.image.as_ref().map(|image| image.unwind()).unwrap_or_default();
        if unwind.debug_frame.is_none()
            && let Some(debug) = &module.debug
        {
            let separate = debug.unwind();
            unwind.debug_frame = separate.debug_frame;
            unwind.debug_frame_hdr = separate.debug_frame_hdr;
        }
        Some(Module { index, start: module.start, end: module.end, bias: module.bias, unwind })
    }

    fn probe(&self, address: u64) -> Option<ProbePage> {
        let mapped = self.mapped(address)?;
        mapped.probe.map(|kind| ProbePage { start: mapped.start, kind })
    }

    fn generation(&self) -> Option<u64> {
        (!self.may_change).then_some(0)
    }

    fn mapping(&self, address: u64) -> Mapping {
        match self.mapped(address) {
            Some(Mapped { executable: Some(true), .. }) => Mapping::Code,
            Some(Mapped { executable: Some(false), .. }) => Mapping::Data,
            Some(Mapped { executable: None, .. }) => Mapping::Unknown,
            None if self.complete => Mapping::Nothing,
            None => Mapping::Unknown,
        }
    }
}

impl Stacks for AddressSpace {
    /// The writable mapping that holds `address`, or ends there.
    fn find(&self, address: u64) -> Option<Stack> {
        let is_main = |mapped: &Mapped| self.main_stack.is_some_and(|at| (mapped.start..mapped.end).contains(&at));
        let kind = |mapped: &Mapped| if is_main(mapped) { StackKind::Main } else { StackKind::Other };
        let stack = |mapped: &Mapped| Stack { low: mapped.start, high: mapped.end, kind: kind(mapped) };
        let below = || self.mapped(address.checked_sub(1)?).filter(|mapped| mapped.end == address);
        self.mapped(address).or_else(below).filter(|mapped| mapped.writable != Some(false)).map(stack)
    }
}
