//! Stack unwinding you can trust: every frame says how it was found, every trace whether it could have left out a
//! function that will be returned to.
//!
//! **A report on a core file**, printed:
//!
//! ```no_run
//! use surestack::analyze::{self, Options};
//! use surestack::report::text::{Colour, Length, Text};
//!
//! let mut printer = Text::new(std::io::stdout(), Length::Full, Colour::Never);
//! analyze::core("core.1234".as_ref(), &Options::default(), &mut printer)?;
//! # Ok::<(), surestack::Error>(())
//! ```
//!
//! **The same, kept as a value** to look at:
//!
//! ```no_run
//! use surestack::{Verdict, analyze, report::Report};
//!
//! let mut report = Report::default();
//! analyze::core("core.1234".as_ref(), &analyze::Options::default(), &mut report)?;
//! let doubtful = report.threads.iter().filter(|thread| thread.verdict != Verdict::Reliable);
//! println!("{} threads cannot be trusted", doubtful.count());
//! # Ok::<(), surestack::Error>(())
//! ```
//!
//! **One thread of a process that you keep stopped**, its registers as ptrace gives them:
//!
//! ```no_run
//! use surestack::snapshot::process::StoppedProcess;
//! use surestack::trace::{Known, Tracer};
//! use surestack::{image::Find, walk::Stop};
//!
//! # let (pid, tid, registers) = (1, 1, [0; 216]);
//! let mut process = StoppedProcess::open(pid, Find::default())?;
//! let snapshot = process.stopped_at(tid, &registers, Stop::default())?;
//! let (known, thread) = (Known::default(), &snapshot.threads[0]);
//! let judged = Tracer::new(snapshot, &known).walk(&thread.regs, thread.stop, |frame| println!("{}", frame.pc));
//! println!("{:?}", judged.verdict);
//! # Ok::<(), surestack::Error>(())
//! ```
//!
//! What may run in a signal handler is in the crates under `unwinders/`, of which [`walk`] has the nouns; this crate
//! allocates.

pub mod analysis;
pub mod analyze;
pub mod check_cfi;
pub mod consistency;
mod corrected;
#[cfg(target_os = "linux")]
pub mod crash;
pub mod error;
pub mod evidence;
mod fold;
pub mod image;
mod kept;
pub mod marker;
pub mod previous;
pub mod proof;
#[cfg(target_os = "linux")]
pub mod recorder;
pub mod report;
pub mod rows;
pub mod serve;
pub mod snapshot;
pub mod symbol;
#[cfg(target_os = "linux")]
pub mod this_process;
mod thread_start;
pub mod trace;
pub mod verify;

#[cfg(target_os = "linux")]
pub use crash::{Guard, Handler, install};
pub use error::Error;
pub use previous::{previous_crash, previous_crash_in};
pub use surestack_reliable::{Doubt, Doubted, Verdict};
/// The nouns of stack walking: what an unwinder of your own is written against.
pub use surestack_walk as walk;
#[cfg(target_os = "linux")]
pub use this_process::refresh;
