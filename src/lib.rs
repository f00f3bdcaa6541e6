//! To be written.

mod fold;
pub mod image;
pub mod report;
pub mod snapshot;
pub mod symbol;
