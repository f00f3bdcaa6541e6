//! One report, step by step. Whatever a step could not do, the next one is tried.
//!
//! ```text
//!   0 known     whether this is the end of a panic that was reported
//!   1 begin     who, when, which signal, registers
//!   2 trace     the crashed thread, frame by frame as they come
//!   3 message   what the program said before it died
//!   4 mappings  what is mapped around the fault, the pc and the stack pointer
//!   5 modules
//!   6 recorder  the flight recorder's last moments
//!   7 words     the same as text
//!   8 threads   all others
//!   9 finish    the file gets its name
//! ```

use crate::context::{ARCH, Interrupted, stop};
use crate::crashed::{Crashed, Search};
use crate::entry;
use crate::file::File;
use crate::helper;
use crate::kept::Kept;
use crate::leave::signal as number;
use crate::mapping::{Mapped, Mappings};
use crate::memory::OwnMemory;
use crate::message::PANICS;
use crate::plan::{Initial, Plan, Words};
use crate::record::{Failure, Gap, Item, MessageKind, Name, Occasion, Signature, ThreadState, Writer};
use crate::recorder;
use crate::request::{self, Requested};
use crate::stack::{Fault, HandlerStack};
use crate::surroundings::Surroundings;
use crate::syscall::{self, Clock, Errno};
use crate::text::Text;
use crate::trace::{Stopped, Traced, trace};
use crate::unchanged;
use crate::words::is_overflow;
use surestack_module_map::Record;
use surestack_signal_frame::Signal;
use surestack_walk::{Marker, Memory, Register, Registry, Regs, Sign};

/// The steps, in their order.
pub(crate) const STEPS: core::ops::RangeInclusive<u32> = 0..=9;
/// Number of our marker in what frames say of themselves.
pub const MARKER: u16 = 1;
/// Longest path of a program that is kept.
const PROGRAM: usize = 1024;
/// Longest message that is kept.
const MESSAGE: usize = 4096;

/// A report that is being made. Lives on the stack that it is made on.
pub(crate) struct Report<'p> {
    pub plan: &'p Plan,
    pub stack: &'p HandlerStack,
    pub interrupted: Interrupted,
    pub signal: i32,
    pub requested: Option<Requested>,
    /// Whether there is a report of this already.
    pub is_known: bool,
    pub information: Signal,
    pub regs: Regs,
    pub process: u32,
    pub thread: u32,
    pub name: [u8; 16],
    pub began: u64,
    pub realtime: u64,
    pub record: Writer<File>,
    pub text: Text,
    pub kept: Kept,
    pub traced: Option<Traced>,
    pub doubts: usize,
    pub overflow: bool,
    pub signature: Signature,
    /// Modules that frames lie in.
    pub seen: Seen,
    pub program: Program,
    pub message: [u8; MESSAGE],
    pub message_length: usize,
    pub around: Surroundings<'p>,
}

impl<'p> Report<'p> {
    pub fn new(plan: &'p Plan, stack: &'p HandlerStack, signal: i32, interrupted: Interrupted, began: u64) -> Self {
        let process = syscall::process_id();
        // A forked child's own maps are another file.
        let maps =
            if process == plan.process { plan.maps } else { syscall::open_at(-100, c"/proc/self/maps", 0, 0).ok() };
        Self {
            plan,
            stack,
            interrupted,
            signal,
            // SAFETY: the handler has not returned.
            requested: if signal == plan.request { request::of(&unsafe { interrupted.information() }) } else { None },
            is_known: false,
            information: Signal::default(),
            regs: Regs::new(),
            process,
            thread: syscall::thread_id(),
            name: [0; 16],
            began,
            realtime: 0,
            record: Writer::new(File::new(plan, process)),
            text: Text::new(plan.text, began.saturating_add(plan.budget)),
            kept: Kept::new(),
            traced: None,
            doubts: 0,
            overflow: false,
            signature: Signature::new(),
            seen: Seen::new(),
            program: Program { bytes: [0; PROGRAM], length: 0 },
            message: [0; MESSAGE],
            message_length: 0,
            around: Surroundings::new(plan.modules, Mappings::new(maps)),
        }
    }

    /// Does a step.
    pub fn step(&mut self, step: u32) {
        if self.is_known {
            return;
        }
        match step {
            0 => {
                self.known();
                return self.copy_program();
            }
            1 => self.begin(),
            2 => self.trace(),
            3 => self.message(),
            4 => self.mappings(),
            5 => self.modules(),
            6 => recorder::record(self),
            7 => self.words(),
            8 => self.threads(),
            _ => self.finish(),
        }
        // What was written is out before the next step can fail; the short ones go out together.
        if !matches!(step, 3 | 4) {
            let _ = self.record.flush();
        }
    }

    /// Keeps why a step came to nothing.
    pub fn failed(&mut self, step: u32, fault: Fault) {
        let Fault { signal, code, address, pc } = fault;
        let step = u16::try_from(step).unwrap_or(u16::MAX);
        self.put(&Item::StepFailed { step, failure: Failure::Fault { signal, code, address, pc } });
        let _ = self.record.flush();
    }

    pub(crate) fn put(&mut self, item: &Item<'_>) {
        // What is refused is counted by the writer, and said at the end.
        let _ = self.record.put(item);
    }

    /// When the report must be done.
    pub fn deadline(&self) -> u64 {
        self.began.saturating_add(self.plan.budget)
    }

    fn known(&mut self) {
        // SAFETY: the handler has not returned.
        let (regs, signal) = unsafe { (self.interrupted.registers(), self.interrupted.signal()) };
        self.regs = regs.unwrap_or_default();
        self.information = signal.unwrap_or(Signal { number: self.signal, ..Signal::default() });
        if let Some(loader) = &self.plan.loader {
            self.around.learn(loader);
        }
        if self.signal != number::ABRT {
            return;
        }
        let Some(panic) = PANICS.of(self.thread).filter(|panic| panic.is_reported()) else { return };
        let mut search = Search { panic, found: false };
        let markers = markers();
        let registry = Registry { markers: &markers, ..Registry::default() };
        let thread = Stopped { arch: ARCH, regs: &self.regs, stop: stop(&self.information) };
        // SAFETY: the thread is this one.
        unsafe { trace(&self.around, &registry, thread, &mut search) };
        self.is_known = search.found;
    }

    /// Once, so that whatever is wrong with the place ends no other step.
    fn copy_program(&mut self) {
        let bytes = self.plan.program.to_bytes();
        self.program.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.program.length = bytes.len();
    }

    fn begin(&mut self) {
        self.realtime = syscall::now(Clock::Real);
        // SAFETY: the handler has not returned.
        let info = unsafe { self.interrupted.information() };
        let _ = self.record.begin(ARCH);
        self.put(&Item::Occasion(self.requested.map_or(Occasion::Signal, |requested| requested.occasion)));
        let _ = self.record.put(&Item::Process {
            pid: self.process,
            ppid: syscall::parent_id(),
            tid: self.thread,
            uid: syscall::user_id(),
            realtime: self.realtime,
            monotonic: self.began,
            page: 4096,
            exe: self.program.path(),
        });
        let Initial { sp, auxv } = self.plan.initial;
        self.put(&Item::Initial { sp, auxv });
        self.put(&Item::Signal { tid: self.thread, info: &info });
        let (tid, regs) = (self.thread, self.regs);
        self.put(&Item::Registers { tid, regs });
        self.name = syscall::thread_name();
        let (name, pc, sp) = (self.name, regs.get(Register::PC), regs.get(ARCH.sp));
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let name = name.get(..length).unwrap_or_default();
        self.put(&Item::Thread { tid, state: ThreadState::Crashed, pc, sp, name });
    }

    /// Names the file. Without a name it is lost with the process.
    fn give_name(&mut self) {
        const MILLISECOND: u64 = 1_000_000;
        const TRIES: u64 = 32;
        let signature = self.traced.map_or(0, |traced| self.signature.value(traced.believed));
        let mut refused = Ok(());
        for later in 0..TRIES {
            // Two of the same kind in one millisecond: the second one is a little later.
            let name = Name::new(self.realtime.saturating_add(later * MILLISECOND), self.process, signature);
            refused = self.record.sink().name(name);
            if refused != Err(Errno::EEXIST) {
                break;
            }
        }
        if let Err(error) = refused {
            self.put(&Item::Gap { what: Gap::Place, number: u64::from(error.0.unsigned_abs()) });
        }
    }

    fn trace(&mut self) {
        let deadline = self.began.saturating_add(self.plan.budget / 2);
        let thread = Stopped { arch: ARCH, regs: &self.regs, stop: stop(&self.information) };
        let markers = markers();
        let registry = Registry { markers: &markers, ..Registry::default() };
        let panicked = self.requested.filter(|requested| requested.occasion == Occasion::Panic);
        let mut crashed = Crashed {
            record: &mut self.record,
            kept: &mut self.kept,
            doubts: &mut self.doubts,
            signature: &mut self.signature,
            modules: self.plan.modules,
            seen: &mut self.seen,
            program: self.program.path(),
            panic: panicked.and_then(|_| PANICS.of(self.thread)),
            tid: self.thread,
            early: Name::new(self.realtime, self.process, 0),
            deadline,
        };
        // SAFETY: the thread is this one. If another unmaps its stack there is nothing to be done.
        let traced = unsafe { trace(&self.around, &registry, thread, &mut crashed) };
        let counts = (traced.frames, self.doubts);
        let _ = self.record.end(self.thread, Some(traced.end), traced.verdict, counts);
        self.traced = Some(traced);
        self.put(&Item::Signature(self.signature.value(traced.believed)));
        self.give_name();
    }

    fn message(&mut self) {
        let memory = checked();
        let (kind, place) = match self.requested {
            Some(requested) => (MessageKind::Panic, Ok(Some(requested.message))),
            None if self.signal == number::ABRT => (MessageKind::Abort, self.last_words(&memory)),
            None => return,
        };
        let place = match place {
            Ok(Some(place)) => place,
            Ok(None) => return,
            Err(address) => return self.put(&Item::Gap { what: Gap::Message, number: address }),
        };
        let (at, length) = place;
        let room = self.message.get_mut(..length.min(MESSAGE)).unwrap_or_default();
        if memory.read(at, room).is_err() {
            return self.put(&Item::Gap { what: Gap::Message, number: at });
        }
        self.message_length = room.iter().position(|byte| *byte == 0).unwrap_or(room.len());
        let text = self.message.get(..self.message_length).unwrap_or_default();
        if !text.is_empty() {
            let _ = self.record.put(&Item::Message { kind, text });
        }
    }

    /// Where libc left what it had to say before it aborts: address and length, or the address that cannot be read.
    fn last_words(&self, memory: &OwnMemory<'_>) -> Result<Option<(u64, usize)>, u64> {
        let Some(place) = self.plan.abort_message.and_then(|place| u64::try_from(place).ok()) else { return Ok(None) };
        // struct abort_msg_s { unsigned int size; char msg[]; }, glibc's include/stdlib.h. The size is of both.
        let message = memory.word(place).map_err(|_| place)?;
        if message == 0 {
            return Ok(None);
        }
        let size = memory.value(message, 4).map_err(|_| message)?;
        let length = usize::try_from(size).unwrap_or_default().saturating_sub(4);
        Ok(Some((message.saturating_add(4), length)))
    }

    fn mappings(&mut self) {
        let sp = self.regs.get(ARCH.sp);
        let fault = Some(self.information.detail).filter(|_| self.information.code > 0);
        let mut last: Option<Mapped> = None;
        let mut of_fault = None;
        for (index, address) in [fault, sp, self.regs.get(Register::PC)].into_iter().enumerate() {
            let Some(address) = address else { continue };
            match self.around.mappings().at(address) {
                Ok(Some(mapped)) if last != Some(mapped) => {
                    let Mapped { low, high, flags, offset, inode, name } = mapped;
                    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                    let path = name.get(..length).unwrap_or_default();
                    self.put(&Item::Mapping { low, high, offset, inode, permissions: flags, path });
                    last = Some(mapped);
                }
                Ok(_) => {}
                Err(error) => {
                    let number = u64::from(error.0.unsigned_abs());
                    self.put(&Item::Gap { what: Gap::Mappings, number });
                    return;
                }
            }
            if index == 0 {
                of_fault = self.around.mappings().at(address).ok().flatten();
            }
        }
        let of_sp = sp.and_then(|sp| self.around.mappings().at(sp).ok().flatten());
        self.overflow = is_overflow(&self.information, sp.unwrap_or_default(), of_fault, of_sp);
    }

    fn modules(&mut self) {
        let mut index = 0_usize;
        loop {
            match self.plan.modules.at(index) {
                Ok(Some(module)) if self.around.late().replaces(module) => {}
                Ok(Some(module)) => {
                    // The loader does not name the program itself.
                    let path = if module.path.is_empty() { self.program.path() } else { module.path };
                    let Record { start, end, bias, build_id, .. } = *module;
                    let _ = self.record.put(&Item::Module { start, end, bias, build_id, path });
                }
                Ok(None) => return self.late_modules(),
                Err(_) => {
                    let number = u64::try_from(index).unwrap_or(u64::MAX);
                    return self.put(&Item::Gap { what: Gap::Modules, number });
                }
            }
            index = index.saturating_add(1);
        }
    }

    /// Says of which modules with frames in them the code is what their file has.
    fn unchanged(&mut self) {
        // A forked child's is another file.
        let pagemap = self.plan.pagemap.filter(|_| self.process == self.plan.process);
        let mut index = 0_usize;
        while let Ok(Some(module)) = self.plan.modules.at(index) {
            for (low, high) in module.code.iter().filter_map(|(low, high)| self.seen.part(index, *low, *high)) {
                if !self.around.late().replaces(module) && unchanged::is_unchanged(pagemap, low, high) {
                    let _ = self.record.put(&Item::Unchanged { low, high });
                }
            }
            index = index.saturating_add(1);
        }
    }

    fn late_modules(&mut self) {
        for (index, module) in self.around.late().all() {
            let Record { start, end, bias, .. } = *module;
            let path = self.around.late().path(index);
            let _ = self.record.put(&Item::Module { start, end, bias, build_id: &[], path });
        }
    }

    fn words(&mut self) {
        if self.plan.words != Words::None {
            crate::page::write(self);
        }
    }

    fn threads(&mut self) {
        crate::others::record(self, 8);
    }

    /// Says where the record is.
    fn say_where(&mut self) {
        let Some(name) = self.record.sink().named() else { return };
        if self.plan.words != Words::None {
            self.text.text("recorded: `surestack report ").bytes(self.plan.place.to_bytes()).text("/");
            self.text.bytes(name.to_bytes()).text("` names all functions and judges the trace").end();
            self.text.flush();
        }
    }

    fn finish(&mut self) {
        let dropped = self.stack.dropped();
        if dropped > 0 {
            self.put(&Item::Gap { what: Gap::Signals, number: u64::from(dropped) });
        }
        let lost = self.record.lost();
        if lost > 0 {
            self.put(&Item::Gap { what: Gap::Bytes, number: lost });
        }
        self.unchanged();
        // Where the trace failed.
        if self.record.sink().named().is_none() {
            self.give_name();
        }
        let _ = self.record.flush();
        helper::run(self);
        let ns = syscall::now(Clock::Monotonic).saturating_sub(self.began);
        self.put(&Item::Done { ns });
        let _ = self.record.flush();
        self.say_where();
        self.record.sink().close();
    }
}

/// The program's path, as much of it as is kept.
pub(crate) struct Program {
    bytes: [u8; PROGRAM],
    length: usize,
}

impl Program {
    pub fn path(&self) -> &[u8] {
        self.bytes.get(..self.length.min(PROGRAM)).unwrap_or_default()
    }
}

/// Where in modules frames lie: by the module's position, the lowest and the highest address.
pub(crate) struct Seen([(u64, u64); SEEN]);

/// Modules for which that is kept.
const SEEN: usize = 64;

impl Seen {
    const fn new() -> Self {
        Self([(u64::MAX, 0); SEEN])
    }

    /// Adds a frame.
    pub fn insert(&mut self, index: usize, pc: u64) {
        if let Some((low, high)) = self.0.get_mut(index) {
            (*low, *high) = ((*low).min(pc), (*high).max(pc));
        }
    }

    /// What of the code from `low` to `high` the functions of those frames are in: pages, and no function is longer than
    /// there is room around. Of modules for which nothing is kept it is all.
    fn part(&self, index: usize, low: u64, high: u64) -> Option<(u64, u64)> {
        const ROOM: u64 = 1 << 17;
        const PAGE: u64 = 4096;
        let (first, last) = self.0.get(index).copied().unwrap_or((low, high));
        let begin = first.saturating_sub(ROOM) & !(PAGE - 1);
        let end = last.saturating_add(ROOM) & !(PAGE - 1);
        let (begin, end) = (begin.max(low), end.min(high));
        (begin < end).then_some((begin, end))
    }
}

/// The marker frames of our own entry.
pub fn markers() -> [Marker<'static>; 1] {
    let start = u64::try_from(entry::marker()).unwrap_or_default();
    [Marker { id: MARKER, sign: Sign::Function { start }, layout: &ARCH.signal_frame.registers }]
}

/// Memory of which nothing is known to be there.
pub(crate) fn checked() -> OwnMemory<'static> {
    // SAFETY: nothing is promised.
    unsafe { OwnMemory::new(&[]) }
}
