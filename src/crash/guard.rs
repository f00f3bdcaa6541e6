//! What is installed, and how it goes.

use super::alternate::{self, Armed};
use super::ask::{self, Why};
use super::builder::{AlternateStacks, Handler};
use super::error::InstallError;
use super::opened::Opened;
use super::signals::{self, Caught};
#[cfg(feature = "threads")]
use super::threads_created;
use super::{existing, panic, prepared};
use crate::previous;
use crate::this_process::{self, room};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use surestack_capture::{Threads, threads};

static INSTALLED: Mutex<Option<Installed>> = Mutex::new(None);
/// Signals that were ours and that somebody on top still passes on to us.
static BENEATH: Mutex<Vec<Caught>> = Mutex::new(Vec::new());

/// What uninstalling undoes.
struct Installed {
    caught: Vec<Caught>,
    armed: Vec<Armed>,
    opened: Opened,
    /// What other threads are asked with.
    threads: Option<threads::Installed>,
}

/// A thread that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Its id.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: Why,
}

/// Keeps the handler installed until it is dropped.
#[must_use = "the handler is uninstalled as soon as this is dropped: `let _guard = surestack::install()?;`"]
#[derive(Debug)]
pub struct Guard {
    standing: Standing,
    directory: Option<PathBuf>,
    unanswered: Vec<Unanswered>,
    beneath: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Installed,
    Inert,
}

/// What became of everything that was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uninstalled {
    /// Signals that do again what they did before.
    pub restored: Vec<i32>,
    /// Signals that somebody else has set meanwhile: that one stays, and what it passes on to us goes to who was there
    /// before us.
    pub beneath: Vec<i32>,
    /// Threads that keep the alternate stack they were given.
    pub unanswered: Vec<Unanswered>,
}

/// Installs what was checked.
pub(super) fn install(handler: Handler) -> Result<Guard, InstallError> {
    let mut installed = lock(&INSTALLED);
    if installed.is_some() {
        return Err(InstallError::Installed);
    }
    let opened = Opened::new(&handler)?;
    this_process::refresh();
    this_process::touch_memory();
    let directory = opened.directory().map(Path::to_owned);
    if let Some(directory) = &directory {
        // What cannot be removed is somebody else's, and no reason to do without a handler.
        let _ = previous::limit(directory, previous::Limits::default());
    }
    let (armed, unanswered) = arm(handler.alternate_stacks)?;
    // Without one, panics are reported only when they end in an abort.
    let request = ask::free_signal();
    let published = prepared::publish(&handler, &opened, request.unwrap_or(0));
    let mut now = Installed { caught: Vec::new(), armed, opened, threads: None };
    if let Err(source) = published {
        now.uninstall(&mut Vec::new());
        return Err(InstallError::System { what: "cannot make stacks for reports", source });
    }
    let mut beneath = lock(&BENEATH);
    for signal in handler.signals.iter().copied().chain(request) {
        let reaches_us = beneath.iter().position(|caught| caught.signal == signal && caught.may_be_reached());
        match reaches_us.map(|index| Ok(beneath.swap_remove(index))).unwrap_or_else(|| signals::catch(signal)) {
            Ok(caught) => now.caught.push(caught),
            Err(error) => {
                now.uninstall(&mut beneath);
                return Err(error);
            }
        }
    }
    // Where somebody else asks threads already, reports ask in the same way; without a signal they say so.
    if handler.threads == Threads::All {
        room::for_threads();
    }
    now.threads = (handler.threads == Threads::All).then(|| threads::install(None).ok()).flatten();
    let beneath = now.caught.iter().filter(|caught| !caught.is_on_top()).map(|caught| caught.signal).collect();
    // Our own loads may fail from now on, if both signals come to us.
    surestack_capture::arm([libc::SIGSEGV, libc::SIGBUS].iter().all(|signal| handler.signals.contains(signal)));
    panic::hook();
    *installed = Some(now);
    Ok(Guard { standing: Standing::Installed, directory, unanswered, beneath })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives alternate stacks to those who are to have one.
fn arm(who: AlternateStacks) -> Result<(Vec<Armed>, Vec<Unanswered>), InstallError> {
    if who == AlternateStacks::None {
        return Ok((Vec::new(), Vec::new()));
    }
    let this = alternate::arm_this_thread();
    let this = this.map_err(|source| InstallError::System { what: "cannot make an alternate stack", source })?;
    if who == AlternateStacks::This {
        return Ok((vec![this], Vec::new()));
    }
    // First, so that no thread is made in between that neither sees.
    #[cfg(feature = "threads")]
    threads_created::give(true);
    let (mut armed, unanswered) = existing::arm();
    armed.push(this);
    Ok((armed, unanswered))
}

impl Installed {
    fn uninstall(self, beneath: &mut Vec<Caught>) -> Uninstalled {
        let mut became = Uninstalled::default();
        drop(self.threads);
        panic::unhook();
        surestack_capture::arm(false);
        // In the opposite order.
        for caught in self.caught.into_iter().rev() {
            if caught.release() {
                became.restored.push(caught.signal);
            } else {
                beneath.push(caught);
            }
        }
        became.beneath = beneath.iter().map(|caught| caught.signal).collect();
        #[cfg(feature = "threads")]
        threads_created::give(false);
        became.unanswered = existing::disarm(&self.armed);
        prepared::withdraw(self.opened);
        became
    }
}

impl Guard {
    /// Of nothing.
    pub(super) const fn inert() -> Self {
        Self { standing: Standing::Inert, directory: None, unanswered: Vec::new(), beneath: Vec::new() }
    }

    /// Whether there is a handler: not where `SURESTACK_DISABLE` forbids it.
    pub fn is_installed(&self) -> bool {
        self.standing == Standing::Installed
    }

    /// Where reports are written. None if nobody said where, and the directory for temporary files is none to write to:
    /// then there is only the text.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Threads that have no alternate stack of ours: if one of them overflows its stack, there is no report.
    pub fn unanswered(&self) -> &[Unanswered] {
        &self.unanswered
    }

    /// Signals that reach us only through a handler that was set over an earlier one of ours.
    pub fn beneath(&self) -> &[i32] {
        &self.beneath
    }

    /// Leaves the handler installed as long as the process lives.
    pub fn keep(mut self) {
        self.standing = Standing::Inert;
    }

    /// Puts everything back as it was, and says what could not be. Dropping the guard does the same.
    pub fn uninstall(mut self) -> Uninstalled {
        self.leave()
    }

    fn leave(&mut self) -> Uninstalled {
        if std::mem::replace(&mut self.standing, Standing::Inert) == Standing::Inert {
            return Uninstalled::default();
        }
        let installed = lock(&INSTALLED).take();
        installed.map(|installed| installed.uninstall(&mut lock(&BENEATH))).unwrap_or_default()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.leave();
    }
}
