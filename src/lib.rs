//! To be written.

pub mod analysis;
pub mod error;
pub mod evidence;
mod fold;
pub mod image;
pub mod report;
pub mod rows;
pub mod snapshot;
pub mod symbol;
pub mod trace;
