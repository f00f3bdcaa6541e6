//! An ELF file: its segments, sections, build ID and unwind information.

use std::fmt;
use surestack_walk::{Section, UnwindSections};

/// The contents of an ELF file.
#[derive(Debug)]
pub struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Where its unwind information lies. Linked addresses.
    pub fn unwind(&self) -> UnwindSections<'_> {
        let _: Option<Section<'_>> = None;
        let _ = &self.bytes;
        UnwindSections::default()
    }
}

/// The build ID of an ELF file (`NT_GNU_BUILD_ID`), of any length.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BuildId(pub Vec<u8>);

impl fmt::Display for BuildId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
