//! The crash handlers that are compared.

/// One of them, as the victim knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// No handler but the one that every Rust program has, told to be silent.
    None,
    /// The same, told to print traces.
    Std,
    /// `backtrace::Backtrace::new()` in a handler on an alternate stack of 256 KiB.
    Backtrace,
    /// The crash-handler crate with a closure that writes the addresses that `backtrace` finds.
    CrashHandler,
    /// glibc's `backtrace()` and `backtrace_symbols_fd()` on the same stack.
    Glibc,
    /// `surestack::install()`.
    Ours,
}

/// Those that are compiled in, in the order of the table's columns.
pub const CONTENDERS: &[Contender] = &[
    Contender::Std,
    #[cfg(feature = "peers")]
    Contender::Backtrace,
    #[cfg(feature = "peers")]
    Contender::CrashHandler,
    #[cfg(feature = "peers")]
    Contender::Glibc,
    Contender::Ours,
];

impl Contender {
    /// The name by which the victim and the command line know it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::None => "none",
            Contender::Std => "std",
            Contender::Backtrace => "bt",
            Contender::CrashHandler => "crash-handler",
            Contender::Glibc => "glibc",
            Contender::Ours => "ours",
        }
    }

    /// The one of this name, if it is compiled in.
    pub fn named(name: &str) -> Option<Contender> {
        let all = [&[Contender::None], CONTENDERS].concat();
        all.into_iter().find(|c| c.name() == name)
    }

    /// The victim's program that has it.
    pub fn program(self) -> &'static str {
        match self {
            Contender::None | Contender::Std | Contender::Ours => "surestack-crash-victim",
            Contender::Backtrace | Contender::CrashHandler | Contender::Glibc => "surestack-crash-peers",
        }
    }

    /// What `RUST_BACKTRACE` is set to: std prints addresses, and we print each frame, only when asked for everything.
    pub fn rust_backtrace(self) -> &'static str {
        match self {
            Contender::Std | Contender::Ours => "full",
            _ => "0",
        }
    }
}
