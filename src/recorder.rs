//! The flight recorder: what a program was doing, readable after any death.
//!
//! Started once, it keeps the last events of each thread and one value for each annotated key in memory that outlives the
//! process: a file, or memory that is in every crash report and core. Events are written from anywhere, signal handlers
//! included: no lock, no allocation, no wait.
//!
//! ```
//! use surestack::recorder::{self, Options, event};
//!
//! # let path = std::env::temp_dir().join(format!("surestack-doc-{}", std::process::id()));
//! recorder::start(Options::file(&path))?;
//! recorder::annotate("version", env!("CARGO_PKG_VERSION"));
//! event!("cache miss", key = 42, path = "/index");
//! event!(warn: "slow", took_ms = 117.5);
//! # std::fs::remove_file(path).unwrap();
//! # Ok::<(), recorder::StartError>(())
//! ```
//!
//! It is read by [`Recording::open`] from a file, [`Recording::read`] from whatever has its bytes (a core, a crash report), and
//! [`Follow`] while it is written.
//!
//! What becomes of it:
//!
//! | when | then |
//! |---|---|
//! | the process dies, of whatever, SIGKILL too | everything that was committed is there: all but the event in the middle of which it died; whole ones of handlers that had interrupted that are shown, and said to be not committed |
//! | a thread ends | its events stay, until no slot is free and another thread takes its slot, which is counted |
//! | more threads than slots | those beyond are refused, and counted with their events; nothing else is lost |
//! | fork | the child goes on in the same recorder, in slots of its own; its parent's rings are its parent's, also where a handler forks in the middle of an event |
//! | exec | the recorder ends as it is; the new program has nothing of it open |
//! | no room at the start | [`start`] fails, and says how much was needed |
//! | no room later, for a thread's ring | the thread is refused and counted; nothing faults |
//! | a handler leaves an event by `siglongjmp` | that event is lost, and counted with the next one that is written no deeper in the stack; those deeper are read from then on |
//! | the path is in use, or something else's | [`start`] fails, and says whose |
//! | somebody else makes the file shorter | the next event beyond its end kills the process: SIGBUS, as with any mapped file |

mod event;
mod find;
mod follow;
pub mod json;
#[cfg(feature = "log")]
pub mod log;
mod losses;
mod reader;
mod recorded;
mod recording;
mod source;
mod start;
pub mod text;
#[cfg(feature = "tracing")]
pub mod tracing;

#[doc(inline)]
pub use crate::event;
pub use event::annotate;
pub use find::of_process;
pub use follow::{Follow, Followed};
pub use losses::Losses;
pub use recorded::{Event, FieldValue, ThreadEvents, merged};
pub use recording::{Annotation, Recording, not_one};
pub use source::{Live, Source};
pub use start::{Full, Options, Recorder, StartError, start};
pub use surestack_recorder::decode::{Header, Refused};
pub use surestack_recorder::{Dropped, Field, Formatted, Site, Value, prepare_this_thread, write};

#[doc(hidden)]
pub use event::{enabled, level};
