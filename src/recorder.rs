//! The flight recorder: what a program was doing, readable after any death.
//!
//! Reading: [`Recording::open`] for a file, [`Recording::read`] for whatever has its bytes (a core, a crash report), and
//! [`Follow`] for one that is still written.

mod events;
mod find;
mod follow;
pub mod json;
mod losses;
mod reader;
mod recording;
mod source;
pub mod text;

pub use events::{Event, FieldValue, ThreadEvents, merged};
pub use find::of_process;
pub use follow::{Follow, Followed};
pub use losses::Losses;
pub use recording::{Annotation, Recording, not_one};
pub use source::{Live, Source};
pub use surestack_recorder::decode::{Header, Refused};
