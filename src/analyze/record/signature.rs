//! A signature of names, for who has symbols.

use crate::report::{Entry, FrameReport, ThreadReport};

/// How many functions it is made of.
const FUNCTIONS: usize = 8;
/// What the sum of nothing is (FNV-1a, 64 bits).
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// Functions between what went wrong and the signal, by how their names begin: where they come first they say that the
/// program aborted, which the signal says already.
const MACHINERY: [&str; 28] = [
    "syscall",
    "surestack",
    "<alloc::boxed::Box<",
    "core::ops::function::",
    "__pthread_kill",
    "pthread_kill",
    "__GI_raise",
    "raise",
    "gsignal",
    "__GI_abort",
    "abort",
    "__assert_fail",
    "__GI___assert_fail",
    "__libc_message",
    "malloc_printerr",
    "__fortify_fail",
    "__stack_chk_fail",
    "__cxxabiv1::",
    "std::terminate",
    "__gnu_cxx::__verbose_terminate_handler",
    "std::process::abort",
    "std::sys::",
    "std::panicking::",
    "std::rt::",
    "core::panicking::",
    "rust_panic",
    "rust_begin_unwind",
    "__rust",
];

/// The signature of a trace by the names of its functions: of the first eight that are believed, each once, what comes first
/// of `abort`'s and panics' own left out; the file name of the module, a zero byte and the name of the function, not of calls
/// inlined into it. Nothing where no function has a name.
///
/// Beside the signature of places it does not change when code moves, in another build of the same program.
pub(super) fn of_functions(thread: &ThreadReport) -> Option<u64> {
    let believed = thread.believed.max(1);
    let frames = thread.frames.iter().filter_map(|entry| match entry {
        Entry::Frame(frame) if frame.number < believed => Some(frame),
        _ => None,
    });
    let names = frames.map_while(named).skip_while(|(_, name)| is_machinery(name));
    let mut places: Vec<u64> = vec![];
    for (module, name) in names {
        let place = sum(sum(sum(BASIS, module.as_bytes()), &[0]), name.as_bytes());
        if places.len() < FUNCTIONS && !places.contains(&place) {
            places.push(place);
        }
    }
    let all = || places.iter().fold(BASIS, |all, place| sum(all, &place.to_le_bytes()));
    (!places.is_empty()).then(all)
}

/// The module and the function of a frame.
fn named(frame: &FrameReport) -> Option<(String, &str)> {
    let name = frame.symbol.functions.last().map(|function| function.name.as_str()).filter(|name| !name.is_empty())?;
    let module = frame.module.as_ref().and_then(|module| module.path.file_name());
    Some((module.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(), name))
}

fn is_machinery(name: &str) -> bool {
    MACHINERY.iter().any(|prefix| name.starts_with(prefix))
}

fn sum(so_far: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(so_far, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
