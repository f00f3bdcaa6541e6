//! To be written.

pub mod image;
pub mod snapshot;
