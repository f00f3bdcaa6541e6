//! Finding out why a process cannot be stopped.

use super::super::facts::Facts;
use crate::error::Refusal;
use std::os::unix::fs::MetadataExt;

/// What `/proc` says against stopping `pid` before it is tried.
pub(super) fn beforehand(pid: u32, facts: &Facts) -> Option<Refusal> {
    if pid == std::process::id() {
        return Some(Refusal::Ourselves);
    }
    if facts.process != pid {
        return Some(Refusal::Thread { of: facts.process });
    }
    if facts.is_kernel {
        return Some(Refusal::Kernel);
    }
    traced(facts)
}

/// Why the system said no.
pub(super) fn denied(pid: u32) -> Refusal {
    let Ok(facts) = Facts::of(pid) else { return Refusal::Exited };
    traced(&facts).unwrap_or_else(|| Refusal::Denied { missing: missing(pid, &facts) })
}

fn traced(facts: &Facts) -> Option<Refusal> {
    let name = || Facts::of(facts.tracer).map_or_else(|_| "unknown".to_owned(), |tracer| tracer.name);
    (facts.tracer != 0).then(|| Refusal::Traced { by: facts.tracer, name: name() })
}

/// Which permission is missing, in the order in which the kernel asks.
fn missing(pid: u32, facts: &Facts) -> String {
    // SAFETY: asks for our own user, and cannot fail.
    let us = unsafe { libc::getuid() };
    let [real, effective, saved] = facts.users;
    if [real, effective, saved] != [us; 3] {
        return format!("it runs as user {effective} and we as user {us}; be that user, or have CAP_SYS_PTRACE (root)");
    }
    // The kernel gives the files of a process that must not be read to root.
    let owner = std::fs::metadata(format!("/proc/{pid}/stat")).map(|file| file.uid());
    if owner.is_ok_and(|owner| owner != effective) {
        return "it is not dumpable (a set-user-ID or unreadable program, or prctl(PR_SET_DUMPABLE)): CAP_SYS_PTRACE (root) \
                is needed"
            .to_owned();
    }
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match yama.trim() {
        "1" => {
            "ptrace scope is 1 (Yama): only children may be traced without CAP_SYS_PTRACE (root), or those that allow \
                it by prctl(PR_SET_PTRACER)"
                .to_owned()
        }
        "2" => "ptrace scope is 2 (Yama): CAP_SYS_PTRACE (root) is needed".to_owned(),
        "3" => "ptrace scope is 3 (Yama): nobody may trace until the next boot".to_owned(),
        _ => {
            "CAP_SYS_PTRACE in its user namespace, for it has capabilities or a group that we have not, or a security \
              module or seccomp filter forbids ptrace"
                .to_owned()
        }
    }
}
