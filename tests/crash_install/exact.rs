//! Uninstalling leaves everything as it was, and what cannot be installed is refused.

use super::system::{
    DISABLED, action, actions, alternate, enough, frame, given, in_pthread, join, overflow, pthread, set_alternate,
};
use super::{Scene, overflow_by_std, passes};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use surestack::crash::{AlternateStacks, FATAL, Handler, Helper, InstallError, Threads, Why};

pub fn scenes() -> Vec<Scene> {
    let scene = |name, play| Scene { name, variables: &[], play, judge: passes };
    vec![
        scene("uninstall_restores_actions_and_the_main_threads_alternate_stack_bit_for_bit", main_thread),
        scene("threads_that_were_there_get_alternate_stacks_and_their_own_back", existing_threads),
        scene("five_hundred_threads_that_were_there_are_all_answered_for", many_threads),
        scene("a_thread_that_runs_a_handler_on_its_alternate_stack_is_waited_for", in_handler),
        scene("installing_twice_is_refused_and_changes_nothing", twice),
        scene("settings_that_cannot_be_are_refused_and_change_nothing", bad_settings),
        scene("one_can_install_again_and_again", again),
        Scene {
            name: "the_environment_turns_it_off",
            variables: &[("SURESTACK_DISABLE", "1"), ("SURESTACK_BUDGET_MS", "0")],
            play: disabled,
            judge: passes,
        },
        Scene {
            name: "a_budget_of_nothing_in_the_environment_is_refused",
            variables: &[("SURESTACK_BUDGET_MS", "0")],
            play: no_budget,
            judge: passes,
        },
        Scene {
            name: "a_directory_in_the_environment_that_cannot_be_written_to_is_refused",
            variables: &[("SURESTACK_DIR", "/proc/none")],
            play: no_directory,
            judge: passes,
        },
        scene("what_is_opened_is_closed_on_exec_and_has_high_numbers", descriptors),
        Scene {
            name: "after_uninstall_rust_says_that_main_overflowed",
            variables: &[],
            play: overflow_on_main,
            judge: overflow_by_std,
        },
        Scene {
            name: "after_uninstall_rust_says_that_a_thread_overflowed",
            variables: &[],
            play: overflow_on_thread,
            judge: overflow_by_std,
        },
        Scene {
            name: "after_uninstall_rust_says_that_a_thread_overflowed_that_was_there_meanwhile",
            variables: &[],
            play: overflow_on_earlier_thread,
            judge: overflow_by_std,
        },
    ]
}

fn main_thread() {
    // Too small, so that it is replaced whatever std's is.
    set_alternate(vec![0_u8; frame()].leak().as_mut_ptr().cast(), frame());
    let before = (actions(), alternate());
    let each: Vec<_> = (1..=64).map(action).collect();
    let guard = surestack::install().unwrap();
    assert!(guard.is_installed() && guard.unanswered().is_empty(), "{guard:?}");
    // Two real-time signals: by which a thread asks for a report of itself, and is asked to stand still for another's.
    let asking = [libc::SIGRTMAX(), libc::SIGRTMAX() - 1];
    for (signal, before) in (1..=64).zip(&each) {
        assert_eq!(action(signal) != *before, FATAL.contains(&signal) || asking.contains(&signal), "signal {signal}");
    }
    // What Go asks of the handlers in a program that it is linked into.
    let on_stack = u64::try_from(libc::SA_ONSTACK | libc::SA_SIGINFO).unwrap();
    assert!(FATAL.iter().all(|signal| action(*signal)[1] & on_stack == on_stack));
    let (low, flags, size) = alternate();
    assert!(low != before.1.0 && flags == 0 && size >= given(), "{low:#x} {flags} {size}");
    let uninstalled = guard.uninstall();
    assert_eq!(uninstalled.restored.len(), FATAL.len() + 1);
    assert!(uninstalled.beneath.is_empty() && uninstalled.unanswered.is_empty(), "{uninstalled:?}");
    assert_eq!((actions(), alternate()), before);

    // Without alternate stacks, none is touched.
    let little = Handler::builder().alternate_stacks(AlternateStacks::None).threads(Threads::Crashed);
    let guard = little.signals(&[libc::SIGBUS]).install().unwrap();
    assert_eq!(alternate(), before.1);
    assert_eq!(actions().iter().zip(&before.0).filter(|(now, before)| now != before).count(), 2);
    drop(guard);
    assert_eq!((actions(), alternate()), before);
}

/// A thread that says what its alternate stack is, as often as it is asked.
struct Speaker {
    ask: Sender<()>,
    answer: Receiver<(usize, i32, usize)>,
}

impl Speaker {
    fn new(own: Option<usize>, blocked: bool) -> Self {
        let ((ask, asked), (say, answer)) = (channel(), channel());
        let speak = move || {
            if let Some(size) = own {
                set_alternate(vec![0_u8; size].leak().as_mut_ptr().cast(), size);
            }
            if blocked {
                // SAFETY: fills a set and sets it.
                unsafe {
                    let mut all = std::mem::zeroed();
                    libc::sigfillset(&raw mut all);
                    libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
                }
            }
            asked.into_iter().for_each(|()| say.send(alternate()).unwrap());
        };
        std::thread::Builder::new().name("speaker".into()).spawn(speak).unwrap();
        let speaker = Self { ask, answer };
        speaker.says();
        speaker
    }

    fn says(&self) -> (usize, i32, usize) {
        self.ask.send(()).unwrap();
        self.answer.recv().unwrap()
    }
}

static RAW: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static RAW_GO: AtomicU32 = AtomicU32::new(0);

/// Says at each turn what its alternate stack's flags are.
extern "C" fn raw(_: *mut c_void) -> *mut c_void {
    for turn in 1..=3 {
        while RAW_GO.load(Ordering::SeqCst) < turn {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (low, flags, _) = alternate();
        RAW[1].store(u32::from(low != 0), Ordering::SeqCst);
        RAW[0].store(turn << 8 | flags.cast_unsigned(), Ordering::SeqCst);
    }
    std::ptr::null_mut()
}

fn raw_says(turn: u32) -> u32 {
    RAW_GO.store(turn, Ordering::SeqCst);
    while RAW[0].load(Ordering::SeqCst) >> 8 != turn {
        std::thread::sleep(Duration::from_millis(1));
    }
    RAW[0].load(Ordering::SeqCst) & 0xff
}

fn existing_threads() {
    let ordinary: Vec<_> = (0..3).map(|_| Speaker::new(None, false)).collect();
    let (own, small) = (Speaker::new(Some(256 << 10), false), Speaker::new(Some(frame()), false));
    let blocked = Speaker::new(None, true);
    let raw = pthread(16 << 10, raw);
    assert_eq!(raw_says(1), DISABLED.cast_unsigned());
    let all = || ordinary.iter().chain([&own, &small, &blocked]).map(Speaker::says).collect::<Vec<_>>();
    let (before, actions_before) = (all(), actions());

    let guard = surestack::install().unwrap();
    let now = all();
    for (index, (before, (low, flags, size))) in before.iter().zip(&now).enumerate() {
        let kept = before.2 >= enough() || index == 5;
        assert_eq!(*before == (*low, *flags, *size), kept, "thread {index}: {before:?} {now:?}");
        assert!(kept || (*flags == 0 && *size >= given()), "thread {index}: {flags} {size}");
        assert_ne!((index, kept), (4, true), "too small to be kept");
    }
    assert_eq!((raw_says(2), RAW[1].load(Ordering::SeqCst)), (0, 1));
    let [unanswered] = guard.unanswered() else { panic!("{guard:?}") };
    assert_eq!((unanswered.name.as_str(), unanswered.why), ("speaker", Why::Blocked));
    for low in now.iter().take(3).map(|(low, ..)| *low as u64) {
        let found = surestack::crash::threads().find(low + 100).unwrap();
        assert!(found.alternate.low == low && found.stack.low < found.stack.high, "{found:?}");
    }

    let uninstalled = guard.uninstall();
    assert_eq!((all(), actions()), (before, actions_before));
    assert_eq!(raw_says(3), DISABLED.cast_unsigned());
    assert_eq!(uninstalled.unanswered, [], "the one that blocks signals has nothing of ours");
    assert_eq!(surestack::crash::threads().threads().count(), 0);
    join(raw);
}

fn many_threads() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..500 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_secs(1));
                }
            });
        }
        let guard = surestack::install().unwrap();
        assert_eq!(guard.unanswered(), []);
        assert_eq!(surestack::crash::threads().threads().count(), 501);
        assert_eq!(guard.uninstall().unanswered, []);
        assert_eq!(surestack::crash::threads().threads().count(), 0);
        stop.store(true, Ordering::Relaxed);
    });
}

static IN_HANDLER: AtomicBool = AtomicBool::new(false);

extern "C" fn slow(_: libc::c_int) {
    IN_HANDLER.store(true, Ordering::SeqCst);
    // SAFETY: sleeps.
    unsafe { libc::usleep(300_000) };
    IN_HANDLER.store(false, Ordering::SeqCst);
}

fn in_handler() {
    let (ask, asked) = channel::<()>();
    let guard = surestack::install().unwrap();
    let thread = std::thread::spawn(move || {
        // SAFETY: a handler that sleeps.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = (slow as *const ()).addr();
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
            libc::raise(libc::SIGUSR1);
        }
        asked.recv().unwrap();
        alternate()
    });
    while !IN_HANDLER.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let uninstalled = guard.uninstall();
    assert!(!IN_HANDLER.load(Ordering::SeqCst));
    assert_eq!(uninstalled.unanswered, []);
    ask.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), (0, DISABLED, 0));
}

fn twice() {
    let guard = surestack::install().unwrap();
    let now = (actions(), alternate());
    let error = surestack::install().unwrap_err();
    assert!(matches!(error, InstallError::Installed), "{error}");
    assert_eq!((actions(), alternate()), now);
    drop(guard);
    drop(surestack::install().unwrap());
}

fn bad_settings() {
    let before = (actions(), alternate());
    let refused = |handler: Handler, said: &str| {
        let error = handler.install().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!((actions(), alternate()), before, "{said}");
    };
    let new = Handler::builder;
    refused(
        new().budget(Duration::ZERO),
        "a budget of 0ns leaves no time to write a report; give at least a millisecond",
    );
    refused(new().signals(&[libc::SIGSEGV, libc::SIGKILL]), "signal 9 cannot be caught; take it out of `signals`");
    refused(new().signals(&[0]), "signal 0 cannot be caught");
    refused(new().signals(&[]), "no signals were given");
    refused(
        new().directory("/proc/none"),
        "cannot write reports into /proc/none: No such file or directory (os error 2)",
    );
    refused(new().directory("/proc/self"), "cannot write reports into /proc/self");
    refused(new().directory("/dev/null"), "give a directory that this user may write to");
    refused(new().helper(Helper::Path("/dev/null".into())), "cannot run the helper /dev/null: it is no file");
    refused(new().helper(Helper::Path("/etc/passwd".into())), "cannot run the helper /etc/passwd: Permission denied");
    refused(new().helper(Helper::Path("/none".into())), "give the path of an executable file, or no helper");
}

fn again() {
    let before = (actions(), alternate());
    let mut mapped = 0;
    for turn in 0..20 {
        let guard = surestack::install().unwrap();
        extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
            std::ptr::null_mut()
        }
        in_pthread(16 << 10, nothing);
        drop(guard);
        assert_eq!((actions(), alternate()), before);
        let now = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        assert!(turn < 2 || now <= mapped, "more is mapped each time: {now} after {mapped}");
        mapped = now;
    }
}

fn disabled() {
    let before = (actions(), alternate());
    let guard = surestack::install().unwrap();
    assert!(!guard.is_installed());
    assert_eq!((actions(), alternate()), before);
    assert_eq!(guard.uninstall(), surestack::crash::Uninstalled::default());
}

fn no_budget() {
    let error = surestack::install().unwrap_err().to_string();
    assert!(error.contains("(SURESTACK_BUDGET_MS is what was set)"), "{error}");
}

fn no_directory() {
    let error = Handler::builder().directory(std::env::temp_dir()).install().unwrap_err().to_string();
    assert!(error.contains("/proc/none") && error.contains("(SURESTACK_DIR is what was set)"), "{error}");
}

/// Numbers and flags of what is open.
fn open() -> Vec<(i32, i32)> {
    let flags = |number: i32| {
        // SAFETY: asks for a number.
        (number, unsafe { libc::fcntl(number, libc::F_GETFD) })
    };
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    // What is listed while the list is read is the list itself.
    let listed = all.map(|entry| flags(entry.file_name().to_str().unwrap().parse().unwrap()));
    listed.collect::<Vec<_>>().into_iter().filter(|(number, _)| flags(*number).1 >= 0).collect()
}

fn descriptors() {
    let folder = std::env::temp_dir().join(format!("surestack-opened-{}", std::process::id()));
    let before = open();
    let guard = Handler::builder().threads(Threads::Crashed).directory(folder.join("made")).install().unwrap();
    assert_eq!(guard.directory(), Some(folder.join("made").as_path()));
    let now = open();
    let new: Vec<_> = now.iter().filter(|one| !before.contains(one)).collect();
    assert_eq!(new.len(), 7, "directory, record, second place, its directory, maps, pagemap, tasks: {new:?}");
    assert!(new.iter().all(|(number, flags)| *number >= 512 && *flags == libc::FD_CLOEXEC), "{new:?}");
    drop(guard);
    for _ in 0..5 {
        drop(Handler::builder().threads(Threads::Crashed).directory(&folder).install().unwrap());
    }
    assert!(open().len() <= now.len(), "{:?}", open());
    std::fs::remove_dir_all(folder).unwrap();
}

fn overflow_on_main() {
    drop(surestack::install().unwrap());
    overflow(0);
}

fn overflow_on_thread() {
    drop(surestack::install().unwrap());
    let _ = std::thread::spawn(|| overflow(0)).join();
}

fn overflow_on_earlier_thread() {
    let (go, gone) = channel::<()>();
    let thread = std::thread::spawn(move || {
        gone.recv().unwrap();
        overflow(0)
    });
    drop(surestack::install().unwrap());
    go.send(()).unwrap();
    let _ = thread.join();
}
