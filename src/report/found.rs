//! How a frame was found, in the words of each kind of report.

use surestack_walk::{FoundBy, Grade, RowSource, SignalSign};

/// A word or two, for the end of a line. A question mark says that nothing vouches for it.
pub(super) fn short(found_by: FoundBy) -> String {
    match found_by {
        FoundBy::Context => "context".to_owned(),
        FoundBy::Cfi(_) => "cfi".to_owned(),
        FoundBy::Analysed(_) => "analysed".to_owned(),
        FoundBy::Corrected => "corrected".to_owned(),
        FoundBy::SignalFrame(_) => "signal frame".to_owned(),
        FoundBy::Probe => "probe".to_owned(),
        FoundBy::Marker(id) => format!("marker {id}"),
        FoundBy::FramePointer => "frame pointer?".to_owned(),
        FoundBy::CallAtSp => "call at sp".to_owned(),
        FoundBy::Resolver => "resolver".to_owned(),
        FoundBy::Foreign(name) => format!("{name}?"),
    }
}

/// A sentence's worth, for explanations.
pub(super) fn full(found_by: FoundBy) -> String {
    let words = match found_by {
        FoundBy::Context => "the registers the thread was stopped with",
        FoundBy::Cfi(RowSource::EhFrame) => "call frame information in .eh_frame",
        FoundBy::Cfi(RowSource::DebugFrame) => "call frame information in .debug_frame",
        FoundBy::Cfi(RowSource::Table) => "call frame information, compiled to a table",
        FoundBy::Analysed(Grade::FromEntry) => "its callee's instructions, followed from the function's entry",
        FoundBy::Analysed(Grade::FromSymbol) => {
            "its callee's instructions, followed from where a symbol says it begins"
        }
        FoundBy::Analysed(Grade::ToReturn) => "its callee's instructions, followed to the function's returns",
        FoundBy::Corrected => "its callee's instructions, which contradict its call frame information",
        FoundBy::SignalFrame(SignalSign::Cfi) => {
            "the registers that the kernel saved: call frame information marks the signal frame"
        }
        FoundBy::SignalFrame(SignalSign::Bytes) => {
            "the registers that the kernel saved: the code above is a sigreturn trampoline"
        }
        FoundBy::Probe => "what the kernel's code for a probe pushed and left alone",
        FoundBy::Marker(id) => return format!("the entry registers behind marker {id}"),
        FoundBy::FramePointer => "a frame record that the frame pointer leads to; nothing vouches for it",
        FoundBy::CallAtSp => "the return address that a call has just left",
        FoundBy::Resolver => "a registered resolver of return addresses",
        FoundBy::Foreign(name) => return format!("{name}, which gives no evidence"),
    };
    words.to_owned()
}

/// The exact value in a JSON report.
pub(super) fn exact(found_by: FoundBy) -> String {
    let word = match found_by {
        FoundBy::Context => "context",
        FoundBy::Cfi(RowSource::EhFrame) => "cfi:eh_frame",
        FoundBy::Cfi(RowSource::DebugFrame) => "cfi:debug_frame",
        FoundBy::Cfi(RowSource::Table) => "cfi:table",
        FoundBy::Analysed(Grade::FromEntry) => "analysed:from_entry",
        FoundBy::Analysed(Grade::FromSymbol) => "analysed:from_symbol",
        FoundBy::Analysed(Grade::ToReturn) => "analysed:to_return",
        FoundBy::Corrected => "corrected",
        FoundBy::SignalFrame(SignalSign::Cfi) => "signal_frame:cfi",
        FoundBy::SignalFrame(SignalSign::Bytes) => "signal_frame:bytes",
        FoundBy::Probe => "probe",
        FoundBy::Marker(id) => return format!("marker:{id}"),
        FoundBy::FramePointer => "frame_pointer",
        FoundBy::CallAtSp => "call_at_sp",
        FoundBy::Resolver => "resolver",
        FoundBy::Foreign(name) => return format!("foreign:{name}"),
    };
    word.to_owned()
}

/// The nearest of the words that minidump tools use.
pub(super) fn trust(found_by: FoundBy) -> &'static str {
    match found_by {
        FoundBy::Context => "context",
        FoundBy::Cfi(_)
        | FoundBy::Analysed(_)
        | FoundBy::Corrected
        | FoundBy::SignalFrame(_)
        | FoundBy::Probe
        | FoundBy::Marker(_)
        | FoundBy::Resolver => "cfi",
        FoundBy::FramePointer => "frame_pointer",
        FoundBy::CallAtSp => "scan",
        FoundBy::Foreign(_) => "prewalked",
    }
}
