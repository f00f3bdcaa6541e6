//! Our parent's process, whose threads stand because it asked them to (`surestack_capture::threads`): read by a child that
//! it forked, through files that it opened itself, so that nobody need allow tracing.

use super::facts::Facts;
use super::hold::sharers;
use super::memory::Handed;
use super::{StoppedProcess, refused};
use crate::error::Error;
use crate::image::Find;
use crate::snapshot::{Absence, Absent, Gap, Snapshot, Thread};
use std::io;
use std::os::fd::RawFd;
use surestack_walk::{Layout, Register, Regs, Stop};

/// The memory of the process that opens it, for a child forked later.
#[derive(Debug)]
pub struct OwnMemoryFiles(Handed);

impl OwnMemoryFiles {
    /// Of this process.
    ///
    /// # Errors
    /// [`Error::Process`] when the system does not let it read itself.
    pub fn open() -> Result<Self, Error> {
        let refused = refused(std::process::id(), "opening its own memory");
        Handed::open("/proc/thread-self").map(Self).map_err(refused)
    }

    /// The descriptors that have to stay open.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.0.descriptors().collect()
    }
}

/// A thread as its process lists it.
#[derive(Clone, Copy)]
pub struct Listed {
    /// Its id.
    pub id: u32,
    /// Its registers, if it stands.
    pub stands: Stands,
}

/// Where the registers of a listed thread are.
#[derive(Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "there is one of these that is large")]
pub enum Stands {
    /// In a `ucontext_t` in the memory of the process, without the thread base.
    At {
        /// Its address.
        context: u64,
        /// The thread base.
        base: u64,
    },
    /// Here: the thread that asked stands in the call that asks.
    Here(Regs),
    /// Nowhere: it goes on running, or has exited.
    No,
}

/// A process whose threads stand because it asked them to.
pub struct ParkedProcess(StoppedProcess);

impl ParkedProcess {
    /// Process `pid`, read by the files of its thread `task`, which lives as long as this, and through what it handed over.
    ///
    /// # Errors
    /// [`Error::Process`] when it cannot be read.
    pub fn open(pid: u32, task: u32, find: Find, files: OwnMemoryFiles) -> Result<Self, Error> {
        StoppedProcess::open_through(pid, task, find, Some(files.0)).map(Self)
    }

    /// Its threads as they stand now; everything about it is read anew.
    ///
    /// # Errors
    /// [`Error::Process`] when it cannot be read any more.
    pub fn stand(&mut self, listed: &[Listed]) -> Result<(), Error> {
        self.0.refresh()?;
        let (pid, inside) = (self.0.pid, self.0.task);
        let snapshot = self.0.snapshot_mut();
        (snapshot.threads, snapshot.absent, snapshot.gaps) = (vec![], vec![], vec![]);
        for thread in listed {
            snapshot.add(thread);
        }
        snapshot.threads.sort_by_key(|thread| thread.id != pid);
        let sharing = sharers::of(pid, inside);
        let sharers = sharing.tasks.into_iter();
        snapshot.absent.extend(sharers.map(|id| Absent { id, name: None, why: Absence::SharesMemory }));
        snapshot.gaps.extend(sharing.unknown);
        let runs = |task: &Absent| task.why != Absence::Exited;
        snapshot.space.may_change = snapshot.absent.iter().any(runs) || !snapshot.gaps.is_empty();
        Ok(())
    }

    /// The process as it stands.
    pub fn snapshot(&self) -> &Snapshot {
        self.0.snapshot()
    }

    /// Whether nothing was mapped or unmapped since; as long as something runs that may do so nobody knows.
    pub fn is_mapped_as_read(&self) -> bool {
        !self.snapshot().space.may_change && self.0.is_mapped_as_read()
    }
}

impl Snapshot {
    fn add(&mut self, listed: &Listed) {
        let id = listed.id;
        let facts = Facts::of(id);
        let name = facts.as_ref().ok().map(|facts| facts.name.clone());
        let regs = match listed.stands {
            Stands::At { context, base } => self.interrupted(context, base),
            Stands::Here(regs) => Some(regs),
            Stands::No => {
                // Not to know is not to be dead.
                let is_gone = |error: &io::Error| {
                    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
                };
                let is_dead = facts.as_ref().map_or_else(is_gone, Facts::is_dead);
                let why = if is_dead { Absence::Exited } else { Absence::Running };
                self.absent.push(Absent { id, name, why });
                return;
            }
        };
        match regs {
            Some(regs) => self.threads.push(Thread { id, name, regs, stop: Stop::default(), signal: None }),
            None => self.gaps.push(Gap::Unchecked { what: format!("the registers of thread {id}") }),
        }
    }

    /// The registers that a signal interrupted, as live ones.
    fn interrupted(&self, context: u64, base: u64) -> Option<Regs> {
        /// What there is where no system call is being made: the kernel decided how it goes on when it delivered the signal.
        const NO_CALL: u64 = u64::MAX;
        let Layout { fields, .. } = &self.arch.signal_frame.registers;
        let mut regs = Regs::new();
        for &(register, offset, width) in *fields {
            let at = context.checked_add(u64::from(offset))?;
            regs.set(register, self.memory.value(at, width).ok()?);
        }
        regs.set(Register::THREAD, base);
        regs.set(Register::SYSCALL, NO_CALL);
        Some(regs)
    }
}
