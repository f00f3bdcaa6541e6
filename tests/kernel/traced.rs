//! A process that this thread traces: stopped, looked at, and let run again.

use crate::bed::{Program, Running};
use std::time::Duration;
use surestack::image::Find;
use surestack::snapshot::Snapshot;
use surestack::snapshot::process::StoppedProcess;
use surestack::trace::Known;
use surestack_walk::Stop;

const INT3: u64 = 0xcc;
const SI_KERNEL: i32 = 0x80;

/// A traced process.
pub struct Traced {
    pid: libc::pid_t,
    stop: Stop,
    process: Option<(StoppedProcess, Known)>,
    _running: Option<Running>,
}

impl Traced {
    /// The process `pid`, which runs on until it is interrupted.
    pub fn seize(pid: u32) -> Self {
        let traced = Self::of(pid, None);
        traced.request(libc::PTRACE_SEIZE, 0, 0);
        traced
    }

    /// A program of which nothing but its start has run.
    pub fn spawn(program: &Program, what: &str) -> Self {
        let running = program.start_stopped(what);
        let traced = Self::of(running.pid(), Some(running));
        traced.wait();
        traced
    }

    fn of(pid: u32, running: Option<Running>) -> Self {
        let pid = libc::pid_t::try_from(pid).expect("a pid");
        Self { pid, stop: Stop::default(), process: None, _running: running }
    }

    fn request(&self, request: libc::c_uint, address: u64, data: u64) {
        // SAFETY: these requests take numbers.
        let done = unsafe { libc::ptrace(request, self.pid, address, data) };
        assert_ne!(done, -1, "ptrace {request}: {}", std::io::Error::last_os_error());
    }

    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is ours to write.
        assert_eq!(unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) }, self.pid);
        status
    }

    /// Lets it run so long, and stops it.
    pub fn interrupt(&mut self, after: Duration) {
        std::thread::sleep(after);
        self.request(libc::PTRACE_INTERRUPT, 0, 0);
        assert!(libc::WIFSTOPPED(self.wait()));
    }

    /// Plants a breakpoint at `address` and lets it run there; whether it came there.
    pub fn run_to(&mut self, address: u64) -> bool {
        // SAFETY: this request takes an address of the process and gives a word.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, address, 0) } as u64;
        self.request(libc::PTRACE_POKEDATA, address, word & !0xff | INT3);
        self.request(libc::PTRACE_CONT, 0, 0);
        self.stop = Stop { signal: libc::SIGTRAP, code: SI_KERNEL };
        let status = self.wait();
        libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP
    }

    /// Lets it run on, not traced any more, with a signal or 0.
    pub fn leave(self, signal: i32) {
        self.request(libc::PTRACE_DETACH, 0, u64::try_from(signal).expect("a signal"));
    }

    /// Executes one instruction, which may be stopped at but not run on from.
    pub fn step(&mut self) {
        self.request(libc::PTRACE_SINGLESTEP, 0, 0);
        assert!(libc::WIFSTOPPED(self.wait()));
        self.stop = Stop { signal: libc::SIGTRAP, code: libc::TRAP_TRACE };
    }

    /// Shows the stopped process, and lets one that was interrupted run on.
    pub fn look<T>(&mut self, look: impl FnOnce(&Snapshot, &Known) -> T) -> T {
        let id = u32::try_from(self.pid).expect("a pid");
        let mut block = [0; 216];
        // SAFETY: the block has the size of `struct user_regs_struct`.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, block.as_mut_ptr()) }, 0);
        let open = || (StoppedProcess::open(id, Find::default()).expect("it is stopped"), Known::default());
        let (process, known) = self.process.get_or_insert_with(open);
        let pc = u64::from_le_bytes(block[128..136].try_into().expect("a word"));
        if process.snapshot().space.mapped(pc).is_none() {
            // The kernel maps its page when the first probe is hit.
            process.refresh().expect("it is stopped");
            *known = Known::default();
        }
        known.ran_on();
        let seen = look(process.stopped_at(id, &block, self.stop).expect("its registers"), known);
        if self.stop.signal == 0 {
            self.request(libc::PTRACE_CONT, 0, 0);
        }
        seen
    }
}
