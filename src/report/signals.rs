//! What the numbers in a `siginfo_t` are called.

/// `si_code` of signals that the kernel raised without saying more.
pub(super) const SI_KERNEL: i32 = 0x80;

const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// Whether a process can end by a signal: the others stop it, let it go on or do nothing (`signal(7)`).
pub(super) fn ends(number: i32) -> bool {
    let name = signal_name(number);
    !matches!(
        name.as_str(),
        "signal 0" | "SIGCHLD" | "SIGCONT" | "SIGSTOP" | "SIGTSTP" | "SIGTTIN" | "SIGTTOU" | "SIGURG" | "SIGWINCH"
    )
}

pub(super) const SIGILL: i32 = 4;
pub(super) const SIGTRAP: i32 = 5;
pub(super) const SIGABRT: i32 = 6;
pub(super) const SIGBUS: i32 = 7;
pub(super) const SIGFPE: i32 = 8;
pub(super) const SIGSEGV: i32 = 11;
pub(super) const SIGSYS: i32 = 31;

/// The name of a signal: `SIGSEGV`, or `signal 40` for one that has none.
pub(super) fn signal_name(number: i32) -> String {
    let named = usize::try_from(number).ok().and_then(|number| SIGNALS.get(number.checked_sub(1)?));
    named.map_or_else(|| format!("signal {number}"), |name| (*name).to_owned())
}

/// The name of an `si_code`, as `<signal.h>` has it.
pub(super) fn code_name(signal: i32, code: i32) -> Option<&'static str> {
    let general = match code {
        0 => "SI_USER",
        SI_KERNEL => "SI_KERNEL",
        -1 => "SI_QUEUE",
        -2 => "SI_TIMER",
        -3 => "SI_MESGQ",
        -4 => "SI_ASYNCIO",
        -5 => "SI_SIGIO",
        -6 => "SI_TKILL",
        _ => return special(signal, code),
    };
    Some(general)
}

/// Codes above zero mean something else for each signal; they count from 1.
fn special(signal: i32, code: i32) -> Option<&'static str> {
    let names: &[&str] = match signal {
        SIGILL => &[
            "ILL_ILLOPC",
            "ILL_ILLOPN",
            "ILL_ILLADR",
            "ILL_ILLTRP",
            "ILL_PRVOPC",
            "ILL_PRVREG",
            "ILL_COPROC",
            "ILL_BADSTK",
        ],
        SIGTRAP => &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT"],
        SIGBUS => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"],
        SIGFPE => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        SIGSEGV => &[
            "SEGV_MAPERR",
            "SEGV_ACCERR",
            "SEGV_BNDERR",
            "SEGV_PKUERR",
            "SEGV_ACCADI",
            "SEGV_ADIDERR",
            "SEGV_ADIPERR",
            "SEGV_MTEAERR",
            "SEGV_MTESERR",
            "SEGV_CPERR",
        ],
        SIGSYS => &["SYS_SECCOMP", "SYS_USER_DISPATCH"],
        _ => &[],
    };
    names.get(usize::try_from(code).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_signal_h() {
        assert_eq!(signal_name(11), "SIGSEGV");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(40), "signal 40");
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(code_name(SIGSEGV, 2), Some("SEGV_ACCERR"));
        assert_eq!(code_name(SIGFPE, 1), Some("FPE_INTDIV"));
        assert_eq!(code_name(SIGABRT, -6), Some("SI_TKILL"));
        assert_eq!(code_name(SIGABRT, 3), None);
    }
}
