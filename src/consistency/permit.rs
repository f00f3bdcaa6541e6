//! The decision over a live process, and the leave to act on it.

use super::check::{Examined, Request, examine_until};
use super::decision::Overall;
use super::target::Target;
use super::world::Obstacle;
use crate::error::Error;
use crate::snapshot::process::hold::Hold;
use crate::trace::Known;

/// Whether what `request` names can be replaced in a process that is held.
///
/// # Errors
/// As [`examine`](super::examine).
pub fn check<'h>(hold: &'h Hold, known: &Known, request: &Request<'_>) -> Result<Checked<'h>, Error> {
    let changed = || {
        let threads = (!hold.still_holds()).then_some(Obstacle::ThreadsChanged);
        let modules = (!hold.is_mapped_as_read()).then_some(Obstacle::ModulesChanged);
        threads.into_iter().chain(modules).collect()
    };
    let examined = examine_until(hold.snapshot(), known, request, changed)?;
    Ok(Checked { hold, examined })
}

/// What was decided over a process that is held.
pub struct Checked<'h> {
    hold: &'h Hold,
    examined: Examined,
}

impl<'h> Checked<'h> {
    /// What was found and decided.
    pub fn examined(&self) -> &Examined {
        &self.examined
    }

    /// Leave to replace the targets, if that is what was decided and the process is still held.
    pub fn permit(&self) -> Option<Permit<'h>> {
        let may = self.examined.decision.overall == Overall::Apply;
        let permit = Permit { hold: self.hold, targets: self.examined.targets.clone() };
        (may && permit.holds()).then_some(permit)
    }
}

/// Leave to replace functions of a process, for as long as it is held.
///
/// Only [`Checked::permit`] gives one:
///
/// ```compile_fail,E0451
/// use surestack::{consistency::Permit, snapshot::process::hold::Hold};
///
/// fn forged(hold: &Hold) -> Permit<'_> {
///     Permit { hold, targets: vec![] }
/// }
/// ```
///
/// It cannot outlive the hold:
///
/// ```compile_fail,E0505
/// use surestack::consistency::{Permit, Request, check};
/// use surestack::snapshot::process::hold::Hold;
/// use surestack::trace::Known;
///
/// fn kept(hold: Hold) -> bool {
///     let checked = check(&hold, &Known::default(), &Request::default()).unwrap();
///     let permit = checked.permit().unwrap();
///     hold.resume();
///     permit.holds()
/// }
/// ```
///
/// and is used like this:
///
/// ```no_run
/// use surestack::consistency::{Named, Request, check};
/// use surestack::snapshot::process::hold::{Hold, Options};
/// use surestack::trace::Known;
///
/// let hold = Hold::stop(1234, &Options::default())?;
/// let request = Request { names: Named::list("work\nlibc.so.6:read vouch")?, ..Request::default() };
/// if let Some(permit) = check(&hold, &Known::default(), &request)?.permit()
///     && permit.holds()
/// {
///     println!("{} functions may be replaced while this process is held", permit.targets().len());
/// }
/// # Ok::<(), surestack::Error>(())
/// ```
pub struct Permit<'h> {
    hold: &'h Hold,
    targets: Vec<Target>,
}

impl Permit<'_> {
    /// Whether the process is still held as it was when this was decided. To be asked right before acting.
    pub fn holds(&self) -> bool {
        self.hold.still_holds()
    }

    /// What may be replaced.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}
