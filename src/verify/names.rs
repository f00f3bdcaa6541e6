//! What is said of a function by its name alone.

use crate::proof::imports::Import;
use crate::symbol::demangle;

/// Functions that touch nothing but the memory they are given, and the marker function of a signal frame, to which nobody
/// returns: it is only there to be seen on the stack.
const HARMLESS: &[&str] = &["memcpy", "memset", "memmove", "memcmp", "bcmp", "strlen", "surestack_signal_frame"];

/// Functions that must not be called even where their code is in the file and could be followed: they take locks, allocate,
/// or look at state that the handler may have interrupted the writing of.
const FORBIDDEN: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "reallocarray",
    "strdup",
    "strndup",
    "printf",
    "fprintf",
    "sprintf",
    "snprintf",
    "vprintf",
    "vfprintf",
    "vsprintf",
    "vsnprintf",
    "dprintf",
    "vdprintf",
    "asprintf",
    "vasprintf",
    "puts",
    "fputs",
    "fputc",
    "putchar",
    "fwrite",
    "fread",
    "fopen",
    "fclose",
    "fflush",
    "fgets",
    "perror",
    "exit",
    "atexit",
    "getenv",
    "setenv",
    "syslog",
    "localtime",
    "mktime",
    "strftime",
    "strerror",
    "strsignal",
    "psignal",
    "dlopen",
    "dlsym",
    "dlclose",
    "dladdr",
    "dl_iterate_phdr",
    "backtrace",
    "backtrace_symbols",
    "backtrace_symbols_fd",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
    "pthread_cond_wait",
    "pthread_once",
    "pthread_getspecific",
    "pthread_setspecific",
    "pthread_key_create",
    "_Unwind_Backtrace",
    "_Unwind_RaiseException",
    "_Unwind_Resume",
    "__cxa_throw",
    "__cxa_begin_catch",
    "__cxa_allocate_exception",
    "__cxa_guard_acquire",
    "_Znwm",
    "_Znam",
    "_ZdlPv",
    "_ZdlPvm",
    "_ZdaPv",
];

/// Names in Rust's mangling whose source names are forbidden: the global allocator's entry points.
const FORBIDDEN_SOURCES: &[&str] =
    &["__rustc::__rust_alloc", "__rustc::__rust_alloc_zeroed", "__rustc::__rust_dealloc", "__rustc::__rust_realloc"];

/// The entries to a panic, or to the end of a program that found itself broken.
const ESCAPES: &[&str] =
    &["__stack_chk_fail", "__cxa_pure_virtual", "__cxa_deleted_virtual", "rust_begin_unwind", "__rust_start_panic"];
const ESCAPE_PATHS: &[&str] = &[
    "core::panicking::",
    "std::panicking::begin_panic",
    "std::panicking::rust_panic",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::slice::index::slice_",
    "core::slice::copy_from_slice_impl::len_mismatch_fail",
    "core::str::slice_error_fail",
    "core::cell::panic_already_",
    "__rustc::rust_begin_unwind",
    // Behind an allocation, which is not on the list.
    "alloc::alloc::handle_alloc_error",
    "alloc::raw_vec::handle_error",
    "alloc::raw_vec::capacity_overflow",
];

/// Where thread-local storage is found.
const THREAD: &[&str] = &["__tls_get_addr", "___tls_get_addr"];

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It may be called, and is not followed.
    Allowed,
    /// It is an entry to a panic.
    Escape,
    /// It must not be called.
    Forbidden,
    /// It finds thread-local storage.
    Thread,
    /// Nothing.
    Unknown,
}

/// What names say.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Names that the user allowed, mangled or as in the source; `*` at the end stands for anything.
    allowed: Vec<String>,
}

impl Rules {
    /// With these names allowed besides the harmless ones.
    pub fn new(allowed: &[String]) -> Self {
        Self { allowed: allowed.to_vec() }
    }

    /// What `symbol` says.
    pub fn judge(&self, symbol: &str) -> Judged {
        let source = demangle(symbol);
        if HARMLESS.contains(&symbol) || self.allowed.iter().any(|name| matches(name, symbol) || matches(name, &source))
        {
            Judged::Allowed
        } else if THREAD.contains(&symbol) {
            Judged::Thread
        } else if ESCAPES.contains(&symbol) || ESCAPE_PATHS.iter().any(|path| source.starts_with(path)) {
            Judged::Escape
        } else if FORBIDDEN.contains(&symbol) || FORBIDDEN_SOURCES.contains(&&*source) {
            Judged::Forbidden
        } else {
            Judged::Unknown
        }
    }
}

/// Whether `pattern` is `name`; `*` at its end stands for anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Whether a function of this name never returns.
pub(super) fn never_returns(symbol: &str) -> bool {
    Import { slot: 0, name: symbol.as_bytes() }.never_returns()
}
