//! Stack unwinding you can trust.

pub mod analysis;
pub mod analyze;
mod corrected;
pub mod error;
pub mod evidence;
mod fold;
pub mod image;
pub mod marker;
pub mod report;
pub mod rows;
pub mod snapshot;
pub mod symbol;
pub mod trace;

pub use error::Error;
pub use surestack_reliable::{Doubt, Doubted, Verdict};
/// The nouns of stack walking: what an unwinder of your own is written against.
pub use surestack_walk as walk;
