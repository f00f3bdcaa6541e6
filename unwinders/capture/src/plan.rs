//! What was prepared at install, so that a report opens nothing, allocates nothing and asks nobody.
//!
//! A plan is made once, never changed and never given back; handlers find it by one atomic load. Another install makes
//! another plan.

use crate::late::Loader;
use crate::stack::HandlerStack;
use crate::syscall::{Descriptor, SignalAction};
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use surestack_module_map::ModuleMap;

/// When handlers that were there before are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chain {
    /// After the report, as if ours had not been there.
    #[default]
    After,
    /// Before it: for runtimes that make faults good (managed languages). A report is made if they changed nothing.
    Before,
    /// Never: after the report the default action is taken.
    Never,
}

/// Whose stacks are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// Every thread's.
    #[default]
    All,
    /// The crashed thread's alone.
    Crashed,
}

/// How much of a report is written as text at signal time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// Nothing.
    None,
    /// What happened, and the first frames.
    #[default]
    Short,
    /// All frames.
    Frames,
    /// Registers, modules and other threads too.
    Full,
}

/// What was prepared.
#[derive(Debug)]
pub struct Plan {
    /// The process that prepared it; a forked child is another.
    pub process: u32,
    /// Our modules.
    pub modules: &'static ModuleMap,
    /// Where to learn of modules that are not among them.
    pub loader: Option<Loader>,
    /// Stacks to make reports on.
    pub stacks: &'static [HandlerStack],
    /// The real-time signal by which a thread asks for a report of itself ([`crate::request`]).
    pub request: i32,
    /// Nanoseconds that a report may take.
    pub budget: u64,
    /// When other handlers are called.
    pub chain: Chain,
    /// Whose stacks are reported.
    pub threads: Threads,
    /// What is written as text.
    pub words: Words,
    /// Where text goes: standard error.
    pub text: Option<Descriptor>,
    /// An unnamed file for the text that standard error does not take, and the directory to name it in.
    pub second: Option<Second>,
    /// An unnamed file for the record.
    pub record: Option<Descriptor>,
    /// Whether that holds a record already.
    pub used: AtomicBool,
    /// The directory in which it gets its name.
    pub directory: Option<Descriptor>,
    /// That directory's path.
    pub place: &'static CStr,
    /// `/proc/self/maps`.
    pub maps: Option<Descriptor>,
    /// `/proc/self/pagemap`.
    pub pagemap: Option<Descriptor>,
    /// `/proc/self/task`.
    pub tasks: Option<Descriptor>,
    /// The stack pointer that the kernel gave the program (`/proc/self/stat`, field 28), and its auxiliary vector.
    pub initial: Initial,
    /// Address of the pointer that libc sets to its last words before it aborts (`__abort_msg`).
    pub abort_message: Option<usize>,
    /// Who is started when a report is made.
    pub helper: Option<Helper>,
    /// The program's path.
    pub program: &'static CStr,
}

/// The program, and what it is to write.
#[derive(Clone, Copy, Debug)]
pub struct Helper {
    /// Path of the program: `surestack`, or another that knows `crash-helper`.
    pub program: &'static CStr,
    /// Its option for each file to write, and the ending of the file's name.
    pub writes: &'static [(&'static CStr, &'static [u8])],
}

/// How the program was begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct Initial {
    /// Its first stack pointer, if the kernel tells.
    pub sp: Option<u64>,
    /// The auxiliary vector as the kernel wrote it (`/proc/self/auxv`).
    pub auxv: &'static [u8],
}

/// A place for text beside standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// An unnamed file.
    pub file: Descriptor,
    /// The directory in which it gets its name.
    pub directory: Descriptor,
}

static PLAN: AtomicPtr<Plan> = AtomicPtr::new(core::ptr::null_mut());
/// Whether reports are made. The last plan stays when they are not: signals are passed on from its stacks.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// From now on handlers follow this plan; with none they pass every signal on to the handler before.
pub fn publish(plan: Option<&'static Plan>) {
    if let Some(plan) = plan {
        PLAN.store(core::ptr::from_ref(plan).cast_mut(), Ordering::Release);
    }
    ACTIVE.store(plan.is_some(), Ordering::Release);
}

/// The plan in force.
pub fn plan() -> Option<&'static Plan> {
    last_plan().filter(|_| ACTIVE.load(Ordering::Acquire))
}

/// The plan that was in force last.
pub(crate) fn last_plan() -> Option<&'static Plan> {
    // SAFETY: null, or what was published, which lives for ever.
    unsafe { PLAN.load(Ordering::Acquire).as_ref() }
}

/// Signals there are.
const SIGNALS: usize = 65;

/// What each signal did before our handler was installed. It outlives the plan: the entry passes signals on when somebody
/// who was installed after us still calls it.
static BEFORE: [Before; SIGNALS] = [const { Before::new() }; SIGNALS];

struct Before {
    handler: AtomicUsize,
    flags: AtomicU64,
    restorer: AtomicUsize,
    mask: AtomicU64,
}

impl Before {
    const fn new() -> Self {
        Self {
            handler: AtomicUsize::new(0),
            flags: AtomicU64::new(0),
            restorer: AtomicUsize::new(0),
            mask: AtomicU64::new(0),
        }
    }
}

/// Remembers what a signal did before: to be called before our handler is in force.
pub fn remember(signal: i32, action: &SignalAction) {
    if let Some(before) = usize::try_from(signal).ok().and_then(|signal| BEFORE.get(signal)) {
        before.handler.store(action.handler, Ordering::Relaxed);
        before.flags.store(action.flags, Ordering::Relaxed);
        before.restorer.store(action.restorer, Ordering::Relaxed);
        before.mask.store(action.mask, Ordering::Release);
    }
}

/// What a signal did before.
pub fn remembered(signal: i32) -> SignalAction {
    let Some(before) = usize::try_from(signal).ok().and_then(|signal| BEFORE.get(signal)) else {
        return SignalAction::default();
    };
    let mask = before.mask.load(Ordering::Acquire);
    SignalAction {
        handler: before.handler.load(Ordering::Relaxed),
        flags: before.flags.load(Ordering::Relaxed),
        restorer: before.restorer.load(Ordering::Relaxed),
        mask,
    }
}
