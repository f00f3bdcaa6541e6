//! The system calls that drive a traced process.

use crate::error::{Error, Result};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// A stop or an end, as `waitpid` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The task stopped on this signal; `event` is the ptrace event, or 0.
    Stopped {
        /// The stop's signal.
        signal: i32,
        /// `PTRACE_EVENT_*`, or 0.
        event: i32,
    },
    /// The task exited with this status.
    Exited(i32),
    /// The task was killed by this signal.
    Killed(i32),
}

/// Starts `command` traced by this thread, with addresses that do not change from run to run; it is stopped right
/// after its exec, before its first instruction.
pub fn spawn(command: &mut Command) -> Result<Child> {
    let prepare = || {
        // SAFETY: a plain system call that changes only this process's personality.
        let set = unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) };
        if set == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: PTRACE_TRACEME takes no pointers.
        match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: `prepare` makes two system calls, which are allowed between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn().map_err(|e| Error::system(format!("cannot start {:?}", command.get_program()), e))?;
    let pid = child.id() as i32;
    match wait(pid)? {
        (_, Wait::Stopped { .. }) => {}
        (_, end) => {
            return Err(Error::new(format!("process {pid} did not reach its exec: {end:?}")));
        }
    }
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACECLONE;
    request(libc::PTRACE_SETOPTIONS, pid, 0, options as u64)?;
    Ok(child)
}

/// Keeps this thread, and what it starts, on one processor: the stepper and what it steps take turns, and to wake each other
/// on another processor takes twice as long as the step.
pub fn stay_on(job: usize) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeros is the empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: the set is ours; the index is below its size on any machine with fewer than 1024 processors, else ignored.
    unsafe { libc::CPU_SET(job % processors, set) };
    // SAFETY: the set outlives the call. A refusal (a container's limits) costs time and nothing else.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

/// Waits for `pid`, or with -1 for any task that this thread traces.
pub fn wait(pid: i32) -> Result<(i32, Wait)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let tid = unsafe { libc::waitpid(pid, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        if tid >= 0 {
            let event = if libc::WIFEXITED(status) {
                Wait::Exited(libc::WEXITSTATUS(status))
            } else if libc::WIFSIGNALED(status) {
                Wait::Killed(libc::WTERMSIG(status))
            } else {
                Wait::Stopped { signal: libc::WSTOPSIG(status), event: status >> 16 }
            };
            return Ok((tid, event));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(Error::system("waitpid", error));
        }
    }
}

/// Lets `tid` execute one instruction, delivering `signal` first unless it is 0.
pub fn single_step(tid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_SINGLESTEP, tid, 0, signal as u64)
}

/// Lets `tid` run to its next stop.
pub fn resume(tid: i32) -> Result<()> {
    request(libc::PTRACE_CONT, tid, 0, 0)
}

/// Lets `tid` go on untraced, delivering `signal` first unless it is 0.
pub fn detach(tid: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_DETACH, tid, 0, signal as u64)
}

/// Writes a word into the text or data of a stopped task.
pub fn poke(tid: i32, address: u64, word: u64) -> Result<()> {
    request(libc::PTRACE_POKEDATA, tid, address, word)
}

/// The general registers of a stopped task.
pub fn registers(tid: i32) -> Result<libc::user_regs_struct> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    request(libc::PTRACE_GETREGS, tid, 0, registers.as_mut_ptr() as u64)?;
    // SAFETY: every bit pattern is a register block, and the kernel has filled it.
    Ok(unsafe { registers.assume_init() })
}

/// Changes the general registers of a stopped task.
pub fn set_registers(tid: i32, registers: &libc::user_regs_struct) -> Result<()> {
    request(libc::PTRACE_SETREGS, tid, 0, std::ptr::from_ref(registers) as u64)
}

/// Ends a traced process and collects what is left of it.
pub fn kill(pid: i32) {
    // SAFETY: a plain system call on a child of ours that was not yet waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    while let Ok((tid, event)) = wait(-1) {
        if tid == pid && !matches!(event, Wait::Stopped { .. }) {
            break;
        }
    }
}

fn request(request: libc::c_uint, tid: i32, address: u64, data: u64) -> Result<()> {
    // SAFETY: the requests used here read and write only through `data` where it is a pointer to a live register block
    // of the caller's; everything else is a number or an address in the traced process.
    let result = unsafe { libc::ptrace(request, tid, address as *mut libc::c_void, data as *mut libc::c_void) };
    match result {
        -1 => Err(Error::system(format!("ptrace request {request:#x} on {tid}"), io::Error::last_os_error())),
        _ => Ok(()),
    }
}
