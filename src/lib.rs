//! To be written.

pub mod analysis;
mod fold;
pub mod image;
pub mod report;
pub mod rows;
pub mod snapshot;
pub mod symbol;
