//! Forked children, and other programs in the place of this one.

use super::{Left, SCENE, Scene, check, command, flight, nothing_is_lost, numbers};
use libtest_mimic::Failed;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use surestack::recorder::{Recording, event, start};

pub const SCENES: &[Scene] = &[
    Scene { name: "a_forked_child_goes_on_in_slots_of_its_own", play: forks, judge: each_its_own },
    Scene {
        name: "children_forked_in_the_middle_of_events_disturb_none_of_their_parent",
        play: midst,
        judge: undisturbed,
    },
    Scene {
        name: "a_child_that_borrows_its_parents_memory_writes_into_its_parents_ring",
        play: borrows,
        judge: in_order,
    },
    Scene {
        name: "a_thread_whose_memory_was_borrowed_before_its_first_event_has_its_slot_in_its_own_name",
        play: borrows_first,
        judge: the_threads_own,
    },
    Scene {
        name: "the_file_stays_when_another_program_takes_over_and_nothing_is_open_there",
        play: exec,
        judge: stayed,
    },
];

/// Events of each process.
const EACH: u64 = 500;

/// Runs a child that then ends at once.
fn forked(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: one thread; the child ends without going back.
    match unsafe { libc::fork() } {
        0 => {
            child();
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    }
}

fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: fills `status`.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(status, 0, "the child {pid}");
}

fn forks(directory: &Path) {
    start(flight(directory)).unwrap();
    event!("before", number = 0_u64);
    let child = forked(|| {
        let grandchild = forked(|| (0..EACH).for_each(|number| event!("grandchild", number)));
        (0..EACH).for_each(|number| event!("child", number));
        wait_for(grandchild);
    });
    (0..EACH).for_each(|number| event!("parent", number));
    wait_for(child);
}

fn each_its_own(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    nothing_is_lost(&recording)?;
    let mut processes = Vec::new();
    for name in ["parent", "child", "grandchild"] {
        let thread = recording.threads.iter().find(|thread| !numbers(thread, name).is_empty());
        let thread = thread.ok_or_else(|| format!("no {name}"))?;
        check(thread.pid == thread.tid, || format!("thread {} of process {}", thread.tid, thread.pid))?;
        check(numbers(thread, name).into_iter().eq(0..EACH), || format!("{name}: {:?}", numbers(thread, name)))?;
        let others = thread.events.len() as u64 - EACH;
        check(others == u64::from(name == "parent"), || format!("{others} events of others with {name}"))?;
        processes.push(thread.pid);
    }
    processes.dedup();
    check(processes.len() == 3 && recording.threads.len() == 3, || format!("{processes:?}"))
}

/// How many children there have been.
static CHILDREN: AtomicU32 = AtomicU32::new(0);
/// How many of them there are to be.
const CHILDREN_WANTED: u32 = 60;

extern "C" fn fork_here(_: libc::c_int) {
    if CHILDREN.fetch_add(1, Ordering::Relaxed) >= CHILDREN_WANTED {
        return;
    }
    // SAFETY: the one thread was interrupted in the middle of an event, or beside it, and has no lock.
    if unsafe { libc::fork() } == 0 {
        // The child goes back to the event that was interrupted, and says so behind it.
        IS_CHILD.store(1, Ordering::Relaxed);
    }
}

static IS_CHILD: AtomicU32 = AtomicU32::new(0);

fn midst(directory: &Path) {
    start(flight(directory).ring_size(16 << 20)).unwrap();
    // The places of events are described before.
    let say = |number: u64| event!("parent", number);
    say(0);
    interval(300, fork_here);
    let mut number = 1;
    loop {
        let is_last = CHILDREN.load(Ordering::Relaxed) >= CHILDREN_WANTED;
        if IS_CHILD.load(Ordering::Relaxed) != 0 {
            (0..3_u64).for_each(|number| event!("child", number));
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        if is_last {
            break;
        }
        say(number);
        number += 1;
    }
    interval(0, fork_here);
    // SAFETY: waits until there are none.
    while unsafe { libc::wait(ptr::null_mut()) } > 0 {}
    (0..10).for_each(|more| say(number + more));
    println!("{}", number + 10);
}

/// Has a handler called at this interval of microseconds.
pub fn interval(microseconds: libc::suseconds_t, handler: extern "C" fn(libc::c_int)) {
    let time = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: a handler that only does what handlers may.
    unsafe { libc::signal(libc::SIGALRM, handler as *const () as libc::sighandler_t) };
    // SAFETY: reads `timer`.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
}

fn undisturbed(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let count: u64 = left.said.trim().parse()?;
    let parent = recording.threads.iter().find(|thread| numbers(thread, "parent").len() > 100).ok_or("no parent")?;
    let said = numbers(parent, "parent");
    let missing: Vec<u64> = (0..count).filter(|number| said.binary_search(number).is_err()).take(20).collect();
    check(missing.is_empty() && said.len() as u64 == count, || format!("of {count} missing: {missing:?}"))?;
    let children = recording.threads.iter().filter(|thread| numbers(thread, "child") == [0, 1, 2]);
    let children = children.filter(|thread| thread.pid != parent.pid).count();
    check(children > 50, || format!("{children} children"))
}

/// What `vfork` and `posix_spawn` make: another process on this memory, for which this thread waits.
fn borrowed() {
    extern "C" fn child(_: *mut libc::c_void) -> libc::c_int {
        (1..=3_u64).for_each(|number| event!("said", number));
        0
    }
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child runs on a stack of its own, which is there until it ends.
    let pid = unsafe { libc::clone(child, stack.as_mut_ptr_range().end.cast(), flags, ptr::null_mut()) };
    wait_for(pid);
}

fn borrows(directory: &Path) {
    start(flight(directory)).unwrap();
    event!("said", number = 0_u64);
    borrowed();
    event!("said", number = 4_u64);
}

/// The first events of a thread, by a process that borrows its memory.
fn borrows_first(directory: &Path) {
    start(flight(directory)).unwrap();
    let thread = std::thread::spawn(|| {
        borrowed();
        event!("said", number = 4_u64);
    });
    thread.join().unwrap();
}

fn the_threads_own(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    let [_, thread] = &recording.threads[..] else { return Err(format!("{:?}", recording.threads).into()) };
    check(numbers(thread, "said") == [4] && thread.pid == recording.header.process, || format!("{thread:?}"))?;
    check(recording.losses.unplaced == 3, || format!("{:?}", recording.losses))
}

fn in_order(left: &Left) -> Result<(), Failed> {
    let recording = left.recording()?;
    nothing_is_lost(&recording)?;
    let [thread] = &recording.threads[..] else { return Err(format!("{:?}", recording.threads).into()) };
    check(numbers(thread, "said") == [0, 1, 2, 3, 4], || format!("{thread:?}"))
}

/// Says what it has open of the recorder before it, and starts its own in the same place.
fn exec(directory: &Path) {
    if std::env::args().nth(1).is_some() {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        let open = open.filter(|path| path.starts_with(directory)).count();
        let mapped = fs::read_to_string("/proc/self/maps").unwrap();
        println!("open: {open}, mapped: {}", mapped.contains(&*directory.to_string_lossy()));
        start(flight(directory)).unwrap();
        return event!("later", number = 1_u64);
    }
    start(flight(directory)).unwrap();
    (0..EACH).for_each(|number| event!("earlier", number));
    let scene = std::env::var(SCENE).unwrap();
    let error = command(&scene, directory).map(|mut command| command.arg("again").exec());
    panic!("{:?}", error.map_err(|failed| format!("{failed:?}")));
}

fn stayed(left: &Left) -> Result<(), Failed> {
    check(left.said == "open: 0, mapped: false\n", || left.said.clone())?;
    let said = |recording: &Recording, name: &str| -> Vec<u64> {
        recording.threads.iter().flat_map(|thread| numbers(thread, name)).collect()
    };
    check(said(&left.recording()?, "later") == [1], || "nothing later".to_owned())?;
    let earlier = said(&left.recording_of("flight.previous")?, "earlier");
    check(earlier.iter().copied().eq(0..EACH), || format!("{earlier:?}"))
}
