//! To be written.

pub mod image;
pub mod report;
pub mod snapshot;
pub mod symbol;
