//! Which code an address belongs to.

/// The mapped code of a target.
pub trait Modules {
    /// The module whose mapping covers `address`.
    fn find(&self, address: u64) -> Option<Module<'_>>;

    /// What kind of memory lies at `address`.
    fn mapping(&self, address: u64) -> Mapping;

    /// The page of the kernel's probes that covers `address`.
    fn probe(&self, _address: u64) -> Option<ProbePage> {
        None
    }

    /// Counts the changes of what is mapped; `None` while it is being changed. A target that holds still has one for ever.
    fn generation(&self) -> Option<u64> {
        Some(0)
    }
}

/// Code that the kernel maps for probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePage {
    /// Its first address.
    pub start: u64,
    /// What it is for.
    pub kind: ProbeKind,
}

/// What a page of the kernel's probes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// Linux `[uprobes]`: instructions executed out of line, and at its first byte what probed functions return to. The
    /// address to which they return in truth is the kernel's secret.
    Return,
    /// Linux `[uprobes-trampoline]`: called in place of a nop.
    Nop,
}

/// What kind of memory lies at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Mapped and executable.
    Code,
    /// Mapped, not executable.
    Data,
    /// Nothing is mapped there.
    Nothing,
    /// The target does not say.
    Unknown,
}

/// An ELF file mapped in the target.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// Position in the snapshot's list of modules.
    pub index: usize,
    /// First mapped address.
    pub start: u64,
    /// One past the last mapped address.
    pub end: u64,
    /// Load bias: mapped address minus linked address.
    pub bias: u64,
    /// Where its unwind information lies.
    pub unwind: UnwindSections<'a>,
}

/// A module's sections with unwind information. Addresses are linked addresses: add the bias.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnwindSections<'a> {
    /// `.eh_frame_hdr`, or what PT_GNU_EH_FRAME points at.
    pub eh_frame_hdr: Option<Section<'a>>,
    /// `.eh_frame`; may be longer than the section when found through the header.
    pub eh_frame: Option<Section<'a>>,
    /// `.debug_frame`.
    pub debug_frame: Option<Section<'a>>,
    /// A search table for it in the form of `.eh_frame_hdr`; no linker writes one, a reader of files may.
    pub debug_frame_hdr: Option<Section<'a>>,
    /// Linked address of `.text`, for text-relative pointers.
    pub text: Option<u64>,
    /// Linked address of `.got`, for data-relative pointers.
    pub got: Option<u64>,
}

/// Bytes of an image with their linked address.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Linked address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A target about whose code nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoModules;

impl Modules for NoModules {
    fn find(&self, _address: u64) -> Option<Module<'_>> {
        None
    }

    fn mapping(&self, _address: u64) -> Mapping {
        Mapping::Unknown
    }
}
