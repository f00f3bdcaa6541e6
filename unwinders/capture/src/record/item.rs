//! What a record can say.

use super::Storm;
use surestack_reliable::{Doubted, Noted, Verdict};
use surestack_walk::{End, Regs};

/// One fact.
///
/// Threads are named by the kernel's number; what belongs together stands in the record in the order of the walk, and
/// what different threads wrote may be mixed.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "the registers of a thread, and nothing to allocate them with")]
pub enum Item<'a> {
    /// Why the record was written.
    Occasion(Occasion),
    /// The process, and the thread that writes this.
    Process {
        /// Its number.
        pid: u32,
        /// Its parent's number.
        ppid: u32,
        /// The thread that writes.
        tid: u32,
        /// Its real user.
        uid: u32,
        /// Nanoseconds since 1970.
        realtime: u64,
        /// Nanoseconds of the monotonic clock.
        monotonic: u64,
        /// Bytes of a page.
        page: u64,
        /// Path of its program.
        exe: &'a [u8],
    },
    /// What the kernel put on the first thread's stack, by which its outermost frame is known.
    Initial {
        /// The stack pointer with which the program began (field 28 of `/proc/self/stat`), where it is known.
        sp: Option<u64>,
        /// The auxiliary vector as `/proc/self/auxv` has it.
        auxv: &'a [u8],
    },
    /// The signal that a thread took; behind one of its frames, the signal that interrupted that frame.
    Signal {
        /// The thread.
        tid: u32,
        /// The `siginfo_t` as the kernel gave it, 128 bytes.
        info: &'a [u8],
    },
    /// The registers of a thread where it was interrupted; behind one of its frames, those of that frame.
    Registers {
        /// The thread.
        tid: u32,
        /// Its registers. Where they were saved is not recorded.
        regs: Regs,
    },
    /// A thread, and what became of it.
    Thread {
        /// Its number.
        tid: u32,
        /// How it comes to be in the record, or why it has no trace.
        state: ThreadState,
        /// Where it is, if that is known without its help.
        pc: Option<u64>,
        /// Its stack pointer, if that is known without its help.
        sp: Option<u64>,
        /// What it calls itself.
        name: &'a [u8],
    },
    /// The next frame of a thread.
    Frame {
        /// The thread.
        tid: u32,
        /// Number of the frame, 0 for the innermost.
        index: usize,
        /// The frame.
        noted: Noted,
    },
    /// A doubt about a thread's trace.
    Doubted {
        /// The thread.
        tid: u32,
        /// The doubt and its frame.
        doubted: Doubted,
    },
    /// The end of a thread's trace.
    End {
        /// The thread.
        tid: u32,
        /// How the walk ended; `None` where it was broken off.
        end: Option<End>,
        /// What is believed of it by somebody who has no files.
        verdict: Verdict,
        /// How many frames it has.
        frames: usize,
        /// How many doubts there were, recorded or not.
        doubts: usize,
    },
    /// A module.
    Module {
        /// First mapped address.
        start: u64,
        /// One past the last mapped address.
        end: u64,
        /// Mapped address minus linked address.
        bias: u64,
        /// Its build ID; empty where it has none.
        build_id: &'a [u8],
        /// Its path.
        path: &'a [u8],
    },
    /// Code that is what its file has: whoever writes this asked the kernel whether it holds pages of its own there
    /// (`/proc/self/pagemap`, bit 61 of each page that is present), or compared it with a copy. Without it no trace through
    /// this code is reliable: nobody else can tell later.
    Unchanged {
        /// First address.
        low: u64,
        /// One past the last.
        high: u64,
    },
    /// What the program said before it died.
    Message {
        /// Who made it.
        kind: MessageKind,
        /// The text.
        text: &'a [u8],
    },
    /// A mapping of the process near an address that matters.
    Mapping {
        /// First address.
        low: u64,
        /// One past the last.
        high: u64,
        /// Where in the file it begins.
        offset: u64,
        /// The file's number; 0 where there is no file.
        inode: u64,
        /// Bits as `mmap` takes them: 1 read, 2 write, 4 execute.
        permissions: u8,
        /// The file's path, or what the kernel calls it.
        path: &'a [u8],
    },
    /// A piece of the flight recorder, as its memory was. Pieces of a thread are behind the thread's slot, which was copied
    /// before them.
    Recorder {
        /// Where in the recorder's file it lies (`surestack_recorder::layout`).
        at: u64,
        /// What is there.
        bytes: &'a [u8],
    },
    /// A step of the handler's that came to nothing. The next one was taken all the same.
    StepFailed {
        /// The number of the step.
        step: u16,
        /// What happened in it.
        failure: Failure,
    },
    /// Something that is not in the record.
    Gap {
        /// What.
        what: Gap,
        /// How many, or the number that says why.
        number: u64,
    },
    /// The signature of the crashed thread's trace.
    Signature(u64),
    /// A fault in the handler that nothing could be done about any more.
    Storm(Storm),
    /// The record is whole.
    Done {
        /// Nanoseconds since the signal was taken.
        ns: u64,
    },
}

/// Why a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// A signal.
    Signal,
    /// A panic.
    Panic,
    /// Somebody asked for it.
    Requested,
}

/// How a thread comes to be in a record, or why it has no trace there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadState {
    /// It took the signal.
    Crashed,
    /// It was asked and recorded itself.
    Answered,
    /// Another process read it.
    Read,
    /// It was asked and did not answer in time.
    Silent,
    /// It was gone when it was asked.
    Exited,
    /// It was not asked: there was no room or no time left, or it was not wanted.
    NotAsked,
    /// It could not be asked.
    Refused,
}

/// Who made a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Whoever called `abort`: the C library, its allocator, its stack protector.
    Abort,
    /// A failed `assert`.
    Assert,
    /// A panic.
    Panic,
}

/// What happened in a step that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It faulted.
    Fault {
        /// The signal.
        signal: i32,
        /// Its `si_code`.
        code: i32,
        /// The address that could not be touched.
        address: u64,
        /// Where in the handler.
        pc: u64,
    },
    /// It had no time left.
    TimedOut {
        /// The time it had, in nanoseconds.
        ns: u64,
    },
    /// The kernel refused what it needs.
    Refused {
        /// The error's number.
        errno: i32,
    },
}

/// Something that a record does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// Threads for which there was no room; how many.
    Threads,
    /// The list of threads could not be read; the error's number.
    ThreadList,
    /// The list of modules changed again and again while it was copied; how many were copied.
    Modules,
    /// The memory map could not be read; the error's number.
    Mappings,
    /// The message that the program left could not be read; its address.
    Message,
    /// The record could not be written where it belongs and went to the next best place; the error's number.
    Place,
    /// Bytes that could not be written; how many.
    Bytes,
    /// Signals that arrived while this was written and were dropped; how many.
    Signals,
    /// Other threads crashed as well and were not waited for; how many.
    Crashes,
    /// The thread had no alternate stack of ours, so that the handler ran on what there was; its stack pointer.
    AlternateStack,
    /// The thread has no storage of its own (it was made without the C library); its thread pointer.
    ThreadStorage,
    /// The whole budget was spent, and what was left to do was left out; the budget in nanoseconds.
    Budget,
    /// The helper process could not be started or did not finish; the error's number.
    Helper,
    /// The flight recorder's memory could not be read, as where its file was cut short; where in the file.
    Recorder,
    /// Threads that have events in the flight recorder and for which there was no room or no time; how many.
    RecorderThreads,
}
