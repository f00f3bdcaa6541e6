//! A step from callee to caller, and how it was found.

use crate::{CodeAddress, Regs, Why};

/// What an unwinder answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The caller is filled in.
    Caller {
        /// Canonical frame address of the callee: its stack pointer before the call that entered it.
        cfa: u64,
        /// Where the return address lay, if it was in memory.
        return_slot: Option<u64>,
        /// What lies between the two frames.
        link: Link,
        /// How the caller was found.
        found_by: FoundBy,
    },
    /// The stack ends here: the callee is an outermost frame.
    End(Root),
    /// Nothing is known here about this code; ask the next unwinder.
    NotMine(Why),
}

/// What lies between a frame and its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// A call.
    Call,
    /// A signal: the callee is a sigreturn trampoline, the caller what was interrupted.
    Signal,
    /// An entry frame: the callee is entry code, the caller what was interrupted.
    Marker,
    /// A probe of the kernel's: the callee is the probe's code, the caller what it interrupted.
    Probe,
    /// A registered switch of stacks.
    Switch,
}

/// How a frame's registers came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// The registers the walk began with.
    Context,
    /// Call frame information.
    Cfi(RowSource),
    /// The instructions themselves; the code has no unwind information.
    Analysed(Grade),
    /// The instructions themselves; its unwind information contradicts them.
    Corrected,
    /// The registers that the kernel saved for a signal handler.
    SignalFrame(SignalSign),
    /// What the kernel's code for a probe pushed, and left in the registers.
    Probe,
    /// Entry registers behind the marker with this number.
    Marker(u16),
    /// A frame record, which nothing but its shape vouches for.
    FramePointer,
    /// The return address that a call had just pushed, or left in the link register.
    CallAtSp,
    /// A registered resolver of rewritten return addresses.
    Resolver,
    /// An unwinder that is not ours.
    Foreign(&'static str),
}

/// How far instructions vouch for the row that was made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grade {
    /// Followed from a known entry of the function, where the ABI says what registers hold.
    FromEntry,
    /// Followed from where a symbol table says that a function begins, which nothing confirms.
    FromSymbol,
    /// Followed from the pc to the function's returns, which all agree. Believes that a return does return.
    ToReturn,
}

/// Where a row came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowSource {
    /// `.eh_frame`.
    EhFrame,
    /// `.debug_frame`.
    DebugFrame,
    /// A compact table compiled from one of them.
    Table,
}

/// By what a signal frame was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalSign {
    /// The `S` augmentation of its call frame information.
    Cfi,
    /// The trampoline's bytes.
    Bytes,
}

/// Why a frame is said to be an outermost one. Whether it is at its right place is for [`crate::Evidence::root`] to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// Its unwind information says that it has no return address.
    UndefinedReturn,
    /// Code reached straight from the entry point of the program or its interpreter, which nobody calls.
    EntryPoint,
    /// The code to which the first function of a `makecontext` stack returns.
    ContextEntry,
    /// A range that the user registered.
    Registered,
    /// A function that a language's runtime puts at the foot of its stacks, known by its name alone.
    Named,
    /// The outermost marker record.
    Marker(u16),
}

/// A frame as the walk reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'w> {
    /// 0 for the innermost.
    pub index: usize,
    /// Its registers.
    pub regs: &'w Regs,
    /// Its pc.
    pub pc: CodeAddress,
    /// How it was found.
    pub found_by: FoundBy,
    /// What lies between it and its callee; [`Link::Call`] for the innermost frame.
    pub link: Link,
    /// Canonical frame address of its callee; none for the innermost frame.
    pub callee_cfa: Option<u64>,
    /// Where the return address that leads here lay.
    pub return_slot: Option<u64>,
}
