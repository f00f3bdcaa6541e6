//! Does the fast path ever say anything else than the full evaluator?
//!
//! [`objects`] asks its tables and rules at every address of real files, and has them followed on drawn stacks; [`stepped`]
//! keeps its cache and its memory while programs run. What they are held against is the full walk over the same target.

pub mod document;
pub mod object;
pub mod objects;
pub mod seen;
pub mod stepped;
pub mod tables;
pub mod tally;
pub mod world;
