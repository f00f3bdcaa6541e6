//! Ours among other handlers, installed and uninstalled in any order.
//!
//! std's is there first, as in every Rust program. The others are as careless as most: whoever goes puts back what was there
//! when it came, whatever is there now.

use super::system::{action, child, overflow, set_action};
use super::{Scene, passes, text};
use std::ffi::{c_int, c_void};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::Mutex;
use surestack::Guard;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "in_every_order_of_installing_and_uninstalling_std_has_the_last_word",
            variables: &[],
            play: every_order,
            judge: all_by_std,
        },
        Scene {
            name: "in_every_order_of_installing_std_has_the_last_word",
            variables: &[],
            play: none_uninstalled,
            judge: six_by_std,
        },
        Scene {
            name: "a_signal_that_nobody_handled_before_us_takes_its_default_action_after_us",
            variables: &[],
            play: default_after_us,
            judge: passes,
        },
        Scene { name: "a_signal_that_is_given_twice_is_caught_once", variables: &[], play: given_twice, judge: passes },
        Scene { name: "a_signal_that_was_reset_over_ours_is_caught_again", variables: &[], play: reset, judge: passes },
        Scene {
            name: "installed_again_beneath_another_handler_ours_is_not_set_twice",
            variables: &[],
            play: beneath,
            judge: passes,
        },
    ]
}

/// Who handles signals besides std.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Ours,
    /// As C programs do: on the stack that the thread is on, and only this signal.
    C,
    /// As Go does: on the alternate stack, all signals blocked.
    Go,
}

const ORDERS: [[Who; 3]; 6] = [
    [Who::Ours, Who::C, Who::Go],
    [Who::Ours, Who::Go, Who::C],
    [Who::C, Who::Ours, Who::Go],
    [Who::C, Who::Go, Who::Ours],
    [Who::Go, Who::Ours, Who::C],
    [Who::Go, Who::C, Who::Ours],
];

/// What was there when each came: of C and of Go.
static BEFORE: Mutex<[[u64; 4]; 2]> = Mutex::new([[0; 4]; 2]);

/// Passes on to who was there before, of C (0) or Go (1).
fn pass_on(who: usize, signal: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.lock().unwrap()[who];
    match before[0] {
        0 | 1 => set_action(signal, before),
        // SAFETY: what was in force before is a handler of this kind: all of ours and std's have SA_SIGINFO.
        handler => unsafe {
            let handler = std::ptr::with_exposed_provenance::<c_void>(usize::try_from(handler).unwrap());
            std::mem::transmute::<*const c_void, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(handler)(
                signal,
                information,
                context,
            );
        },
    }
}

extern "C" fn c_handler(signal: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    pass_on(0, signal, information, context);
}

extern "C" fn go_handler(signal: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    pass_on(1, signal, information, context);
}

fn set(signal: c_int, handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void), flags: c_int) {
    // SAFETY: a handler that may run at any instruction of the tests here.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (handler as *const ()).addr();
        action.sa_flags = libc::SA_SIGINFO | flags;
        if flags & libc::SA_RESTART != 0 {
            libc::sigfillset(&raw mut action.sa_mask);
        }
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

fn install(who: Who, guard: &mut Option<Guard>) {
    match who {
        Who::Ours => *guard = Some(surestack::install().unwrap()),
        Who::C => {
            BEFORE.lock().unwrap()[0] = action(libc::SIGSEGV);
            // An overflow must reach somebody, so this one has SA_ONSTACK too; most have not.
            set(libc::SIGSEGV, c_handler, libc::SA_ONSTACK);
        }
        Who::Go => {
            BEFORE.lock().unwrap()[1] = action(libc::SIGSEGV);
            set(libc::SIGSEGV, go_handler, libc::SA_ONSTACK | libc::SA_RESTART);
        }
    }
}

fn uninstall(who: Who, guard: &mut Option<Guard>) {
    match who {
        Who::Ours => drop(guard.take()),
        Who::C => set_action(libc::SIGSEGV, BEFORE.lock().unwrap()[0]),
        Who::Go => set_action(libc::SIGSEGV, BEFORE.lock().unwrap()[1]),
    }
}

/// How a child ends that did `first`, and then overflows its stack.
fn overflown(first: impl FnOnce()) -> i32 {
    child(|| {
        first();
        overflow(0);
    })
}

fn every_order() {
    for install_order in ORDERS {
        for uninstall_order in ORDERS {
            let status = overflown(|| {
                let mut guard = None;
                install_order.into_iter().for_each(|who| install(who, &mut guard));
                uninstall_order.into_iter().for_each(|who| uninstall(who, &mut guard));
            });
            let aborted = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT;
            assert!(aborted, "{install_order:?}, then {uninstall_order:?}: {status:#x}");
        }
    }
}

fn none_uninstalled() {
    for order in ORDERS {
        let status = overflown(|| {
            let mut guard = None;
            order.into_iter().for_each(|who| install(who, &mut guard));
            std::mem::forget(guard);
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{order:?}: {status:#x}");
    }
}

fn default_after_us() {
    for (signal, sent) in [(libc::SIGILL, false), (libc::SIGILL, true), (libc::SIGFPE, true), (libc::SIGABRT, true)] {
        let status = child(|| {
            let guard = surestack::install().unwrap();
            BEFORE.lock().unwrap()[0] = action(signal);
            set(signal, c_handler, 0);
            assert_eq!(guard.uninstall().beneath, [signal]);
            // SAFETY: this is how the child ends.
            unsafe {
                if sent {
                    libc::raise(signal);
                } else {
                    std::arch::asm!("ud2");
                }
            }
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal, "{signal} {sent}: {status:#x}");
    }
}

fn all_by_std(output: &Output) -> Result<(), String> {
    by_std(output, ORDERS.len() * ORDERS.len())
}

fn six_by_std(output: &Output) -> Result<(), String> {
    by_std(output, ORDERS.len())
}

fn by_std(output: &Output, times: usize) -> Result<(), String> {
    let said = text(output).matches("has overflowed its stack").count();
    if output.status.signal().is_none() && output.status.success() && said == times {
        return Ok(());
    }
    Err(format!("{}: {said} of {times}: {}", output.status, text(output)))
}

fn beneath() {
    let before = action(libc::SIGSEGV);
    let mut guard = None;
    install(Who::Ours, &mut guard);
    let ours = action(libc::SIGSEGV);
    install(Who::C, &mut guard);
    let on_top = action(libc::SIGSEGV);
    let uninstalled = guard.take().unwrap().uninstall();
    assert_eq!(uninstalled.beneath, [libc::SIGSEGV]);
    assert_eq!(action(libc::SIGSEGV), on_top);
    let again = surestack::install().unwrap();
    assert_eq!(again.beneath(), [libc::SIGSEGV]);
    assert_eq!(action(libc::SIGSEGV), on_top, "we are reached through the other");
    // The other goes: we are on top again, and can go as if nothing had happened.
    uninstall(Who::C, &mut guard);
    assert_eq!(action(libc::SIGSEGV), ours);
    let uninstalled = again.uninstall();
    assert!(uninstalled.beneath.is_empty() && uninstalled.restored.contains(&libc::SIGSEGV), "{uninstalled:?}");
    assert_eq!(action(libc::SIGSEGV), before);
}

fn given_twice() {
    let status = overflown(|| {
        let twice = [libc::SIGSEGV, libc::SIGBUS, libc::SIGSEGV];
        surestack::Handler::builder().signals(&twice).install().unwrap().keep();
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:#x}");
}

fn reset() {
    let guard = surestack::install().unwrap();
    let ours = action(libc::SIGSEGV);
    set_action(libc::SIGSEGV, [0; 4]);
    assert_eq!(guard.uninstall().beneath, [libc::SIGSEGV]);
    let again = surestack::install().unwrap();
    assert!(again.beneath().is_empty() && action(libc::SIGSEGV) == ours, "{again:?}");
    again.uninstall();
    assert_eq!(action(libc::SIGSEGV), [0; 4]);
}
