//! The decision over our own process: all other threads stand still while it is judged, and until the permit is used.
//!
//! ```text
//!   this process                                        its child, forked before anybody stands
//!   ─────────────                                       ───────────────────────────────────────
//!   opens its own memory ──────────────────────────────► opens the process through that
//!   park ─► list of threads ─► let go                    rehearsal: everything is looked at once, and what it learned
//!                                                        of files is kept; what it decided is forgotten
//!   park ─► list of threads ───────────────────────────► judges: the same code as `surestack check`
//!   apply: goes on holding ◄────────── one byte ────────
//!   Permit … dropped: all go on ─► the answer is read ◄─ the answer, in memory that both see
//! ```
//!
//! **Why a child.** Threads that stand may hold any lock there is: the allocator's, the loader's, stderr's. Between the moment
//! when the first stands and the moment when all are let go nothing may be done here that takes one, and judging allocates and
//! reads files. Trying again until nobody is in the allocator would never end in a program that allocates all the time, and
//! knows neither all allocators nor all locks. In a child made by `fork` before anybody stands the C library has put the
//! allocator in order; it judges at leisure, and reads our memory through a file that we opened, so that no right to trace is
//! needed. Its own memory is not ours, so what it writes down is not found by the search for stacks.
//!
//! What is promised: nobody waits without an end. Threads go on by themselves after [`Options::stand`], and the child is
//! killed. A thread that does not stand is [`Standing::Running`](super::Standing::Running) and allows nothing.
//!
//! What it can't do: hold threads that block all signals (`surestack check` from outside can), or wake what waits: some system
//! calls fail with `EINTR`, see [`surestack_capture::threads`]. While a [`Permit`] is held this thread must neither allocate
//! nor take a lock: whoever stands may have it, and goes on only when the time is over. An answer has addresses in it: keep none
//! in memory while the next question is asked, for the search finds them. [`Checked`] clears its own when it is dropped.

mod carry;
mod child;
mod judge;
mod mask;
mod shared;
mod wipe;

use super::check::{Examined, Request};
use super::decision::{Decision, Overall, Reason};
use super::world::Obstacle;
use crate::error::Error;
use crate::image::Find;
use crate::snapshot::process::parked::{Listed, OwnMemoryFiles, Stands};
use crate::this_process::room;
use carry::Carry;
use child::Child;
use mask::Mask;
use shared::{Full, Shared, Writer};
use std::ops::Deref;
use std::time::Duration;
use surestack_capture::threads::{self, Parked, Purpose, Refused, Standing, Times};
use surestack_capture::{here, syscall};
use surestack_walk::Regs;

/// Bytes for the list of threads, of which only what is used is ever there.
const LIST: usize = 64 << 20;
/// Bytes for an answer, likewise.
const ANSWER: usize = 256 << 20;

/// How our own process is checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long threads may take to stand still. Those that have not by then are counted as running.
    pub answer: Duration,
    /// How long they stand at most, from then on: for judging, and for using the permit. Then they go on by themselves.
    pub stand: Duration,
    /// How long may be spent before, while nobody stands, on reading files.
    pub prepare: Duration,
    /// Where debug files are looked for.
    pub find: Find,
}

impl Default for Options {
    fn default() -> Self {
        let [answer, stand, prepare] = [1, 10, 120].map(Duration::from_secs);
        Self { answer, stand, prepare, find: Find::default() }
    }
}

/// Whether what `request` names can be replaced in this process now. If so, all other threads stand until the answer is
/// asked for or dropped.
///
/// ```no_run
/// use surestack::consistency::{Named, Request, own};
///
/// let request = Request { names: Named::list("work vouch")?, ..Request::default() };
/// let checked = own::check_self(&request, &own::Options::default())?;
/// if let Some(permit) = checked.permit()
///     && permit.left() > std::time::Duration::from_millis(100)
/// {
///     // Everybody else stands. Neither allocate nor take a lock: write the jump.
/// }
/// println!("{:?}", checked.answer()?.decision.overall);
/// # Ok::<(), surestack::Error>(())
/// ```
///
/// # Errors
/// [`Error::Ourselves`] when threads cannot be asked, or the judging fails or takes too long, or names no target.
pub fn check_self(request: &Request<'_>, options: &Options) -> Result<Checked, Error> {
    prepare_threads()?;
    let no_room = || ourselves("there is no room in memory for the answer");
    let mut list = Shared::new(LIST).ok_or_else(no_room)?;
    let mut answer = Shared::new(ANSWER).ok_or_else(no_room)?;
    let files = OwnMemoryFiles::open()?;
    let kept = files.descriptors();
    let mask = Mask::all();
    let question = judge::Question { process: syscall::process_id(), thread: syscall::thread_id(), request, options };
    // SAFETY: the child judges, and ends.
    let child = unsafe { Child::fork(&kept, |socket| question.answer(socket, &list, &mut answer, files)) }
        .map_err(|error| ourselves(&format!("no child can be made that judges: {error}")))?;
    let stand = nanoseconds(options.stand);
    let times = Times { answer: nanoseconds(options.answer), stand: stand.saturating_add(nanoseconds(options.answer)) };

    // Twice: the first time for what has to be read and remembered, so that they stand for as short as can be.
    let parked = park(times)?;
    let written = write(&parked, &mut list, here());
    drop(parked);
    written.map_err(|Full| too_many())?;
    match child.ask(judge::REHEARSE, options.prepare) {
        Some(judge::FAILED) => return Err(Checked { held: None, child, mask, answer, changed: false }.refusal()),
        Some(_) => {}
        None => return Err(ourselves("reading its files took too long, or the child that does it was killed")),
    }

    // From here on nothing is allocated and no lock is taken until all are let go.
    let parked = park(times)?;
    let written = write(&parked, &mut list, here());
    let said = written.ok().and_then(|()| child.ask(judge::CHECK, options.stand));
    let is_whole = parked.is_complete();
    let may = said == Some(judge::APPLY);
    // Whoever is not held on is let go here.
    let held = (may && is_whole).then_some(parked);
    written.map_err(|Full| too_many())?;
    let checked = Checked { held, child, mask, answer, changed: may && !is_whole };
    match said {
        Some(judge::FAILED) => Err(checked.refusal()),
        Some(_) => Ok(checked),
        None => Err(ourselves("judging took longer than threads may stand, or the child that judges was killed")),
    }
}

/// What was decided over our own process; if it is to apply, all other threads stand as long as this lives.
pub struct Checked {
    // Dropped in this order: all go on first.
    held: Option<Parked>,
    mask: Mask,
    child: Child,
    answer: Shared,
    /// Somebody appeared or went on while it was judged.
    changed: bool,
}

impl Checked {
    /// Leave to replace the targets, if that is what was decided and all threads still stand. Allocates nothing.
    pub fn permit(&self) -> Option<Permit<'_>> {
        self.held.as_ref().map(|parked| Permit { parked }).filter(Permit::holds)
    }

    /// Lets all threads go, and says what was found and decided.
    ///
    /// # Errors
    /// [`Error::Ourselves`] when the answer is more than there was room for.
    pub fn answer(self) -> Result<Answer, Error> {
        let changed = self.changed;
        let mut examined = self.read()?.map_err(|why| ourselves(&why))?;
        if changed {
            let reason = Reason::Process(Obstacle::ThreadsChanged);
            examined.decision.overall = Overall::RetryLater(vec![reason]);
        }
        Ok(Answer(examined))
    }

    fn refusal(self) -> Error {
        match self.read() {
            Ok(Ok(_)) => ourselves("the child that judges said two things"),
            Ok(Err(why)) => ourselves(&why),
            Err(error) => error,
        }
    }

    fn read(self) -> Result<Result<Examined, String>, Error> {
        let Self { held, mask, child, answer, .. } = self;
        drop(held);
        drop(mask);
        drop(child);
        // SAFETY: what the child wrote, as a whole, before it said so; it is no more.
        let read = unsafe { Carry::take(&mut answer.reader()) };
        read.ok_or_else(|| ourselves("the answer of the child that judges cannot be read"))
    }
}

/// What was found and decided. Clears its addresses when it is dropped.
pub struct Answer(Examined);

impl Deref for Answer {
    type Target = Examined;

    fn deref(&self) -> &Examined {
        &self.0
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let overall = Overall::RetryLater(vec![]);
        let nothing = Examined {
            targets: vec![],
            traces: vec![],
            searched: None,
            decision: Decision { threads: vec![], overall },
        };
        wipe::wipe(std::mem::replace(&mut self.0, nothing));
    }
}

/// Leave to replace functions of our own process, as long as all other threads stand.
///
/// It cannot outlive that:
///
/// ```compile_fail,E0505
/// use surestack::consistency::{Request, own};
///
/// let checked = own::check_self(&Request::default(), &own::Options::default()).unwrap();
/// let permit = checked.permit().unwrap();
/// let answer = checked.answer();
/// permit.holds();
/// ```
pub struct Permit<'c> {
    parked: &'c Parked,
}

impl Permit<'_> {
    /// Whether everybody still stands. To be asked right before acting, together with [`Permit::left`].
    pub fn holds(&self) -> bool {
        self.parked.is_complete()
    }

    /// How long they go on standing. Whoever has not acted by then must not.
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.parked.left())
    }
}

/// The signal with which threads are asked, and room for all there are.
fn prepare_threads() -> Result<(), Error> {
    match threads::install(None) {
        // For as long as the process lives: somebody who blocks signals may still have one queued.
        Ok(installed) => std::mem::forget(installed),
        // The crash handler did.
        Err(Refused::Twice) => {}
        Err(refused) => return Err(ourselves(&refused.to_string())),
    }
    room::for_threads();
    Ok(())
}

fn park(times: Times) -> Result<Parked, Error> {
    threads::park(Purpose::Check, times).map_err(|refused| ourselves(&refused.to_string()))
}

/// Writes down all threads, this one with its registers. Allocates nothing.
fn write(parked: &Parked, into: &mut Shared, regs: Regs) -> Result<(), Full> {
    let mut writer = into.writer();
    let mut written = Listed { id: syscall::thread_id(), stands: Stands::Here(regs) }.put_more(&mut writer);
    let listed = parked.each(|id, standing| {
        let stands = match standing {
            Standing::At { context, base, .. } => Stands::At { context: context as u64, base },
            _ => Stands::No,
        };
        written = written.and_then(|()| Listed { id, stands }.put_more(&mut writer));
    });
    written?;
    // Who is not listed cannot be judged, and then nobody is.
    listed.map_err(|_| Full)?;
    writer.put(false)
}

impl Listed {
    fn put_more(&self, into: &mut Writer<'_>) -> Result<(), Full> {
        into.put(true)?;
        self.put(into)
    }
}

fn too_many() -> Error {
    ourselves("its threads cannot be listed, or there are too many")
}

fn ourselves(why: &str) -> Error {
    Error::Ourselves { why: why.to_owned() }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
