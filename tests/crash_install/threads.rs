//! Threads that are made after installing.

use super::system::{DISABLED, alternate, frame, given, in_pthread, set_alternate};
use super::{Scene, passes};
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use surestack::crash::AlternateStacks;
use surestack::crash::Handler;

pub fn scenes() -> Vec<Scene> {
    let scene = |name, play| Scene { name, variables: &[], play, judge: passes };
    vec![
        scene("threads_made_later_have_an_alternate_stack_whoever_makes_them", made_later),
        scene("a_library_that_makes_threads_makes_them_with_alternate_stacks_and_they_end_as_they_want", by_library),
        scene("alternate_stacks_of_threads_that_ended_are_used_again", used_again),
        scene("only_the_installing_thread_is_given_one_if_that_is_asked_for", only_this),
        scene("threads_made_meanwhile_lose_theirs_at_uninstall", lose_theirs),
    ]
}

/// The size of this thread's alternate stack, 0 if it has none or the page below it can be read.
extern "C" fn size(_: *mut c_void) -> *mut c_void {
    let (low, flags, size) = alternate();
    if flags != 0 {
        return std::ptr::null_mut();
    }
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(low - 1), iov_len: 1 };
    // SAFETY: reads a byte of our own, if there is one.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    let thread = surestack::crash::threads().find(low as u64).expect("every thread is in the table");
    let here = (&raw const byte).addr() as u64;
    assert!((thread.stack.low..thread.stack.high).contains(&here), "{thread:x?} {here:#x}");
    std::ptr::without_provenance_mut(if read == 1 { 0 } else { size })
}

fn made_later() {
    let _guard = surestack::install().unwrap();
    let mut sizes = vec![std::thread::spawn(|| size(std::ptr::null_mut()).addr()).join().unwrap()];
    sizes.extend([16 << 10, 64 << 10, 8 << 20].map(|stack| in_pthread(stack, size).addr()));
    std::thread::scope(|scope| sizes.push(scope.spawn(|| size(std::ptr::null_mut()).addr()).join().unwrap()));
    assert!(sizes.iter().all(|size| *size >= given()), "{sizes:?}");
    assert_eq!(surestack::crash::threads_without(), 0);
}

/// In C: makes a thread with a function, and three that end in each way that there is.
const MAKER: &str = r#"
#include <pthread.h>
#include <unistd.h>
static void *leaves(void *unused) { (void)unused; pthread_exit((void *)1); }
static void *is_cancelled(void *unused) { (void)unused; for (;;) pause(); }
void *make(void *(*f)(void *)) {
    pthread_t t;
    void *result = 0;
    if (pthread_create(&t, 0, leaves, 0) || pthread_join(t, &result) || result != (void *)1) return 0;
    if (pthread_create(&t, 0, is_cancelled, 0) || pthread_cancel(t) || pthread_join(t, &result)) return 0;
    if (result != PTHREAD_CANCELED || pthread_create(&t, 0, f, 0) || pthread_join(t, &result)) return 0;
    return result;
}
"#;

fn by_library() {
    let _guard = surestack::install().unwrap();
    let folder = std::env::temp_dir().join(format!("surestack-install-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (source, library) = (folder.join("maker.c"), folder.join("libmaker.so"));
    std::fs::write(&source, MAKER).unwrap();
    let built = Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(built.success());
    let path = CString::new(library.as_os_str().as_bytes()).unwrap();
    // SAFETY: a library without initialisers, and a function of this kind in it.
    let make = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null());
        std::mem::transmute::<*mut c_void, extern "C" fn(extern "C" fn(*mut c_void) -> *mut c_void) -> *mut c_void>(
            libc::dlsym(library, c"make".as_ptr()),
        )
    };
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(surestack::this_process::differences().len(), 1, "the library is new");
    assert!(make(size).addr() >= given());
    assert_eq!(surestack::this_process::differences(), [""; 0], "who makes a thread has the library known");
}

fn used_again() {
    let _guard = surestack::install().unwrap();
    let mut lows = std::collections::BTreeSet::new();
    for _ in 0..200 {
        lows.insert(std::thread::spawn(|| alternate().0).join().unwrap());
        in_pthread(64 << 10, size);
    }
    // A thread can be joined a moment before it is quite gone.
    assert!(lows.len() <= 4, "{} stacks for one thread at a time", lows.len());
    let left = surestack::crash::threads().threads().count();
    assert!(left <= 2, "{left} threads are in the table");
}

fn only_this() {
    set_alternate(vec![0_u8; frame()].leak().as_mut_ptr().cast(), frame());
    let _guard = Handler::builder().alternate_stacks(AlternateStacks::This).install().unwrap();
    assert!(alternate().2 >= given());
    extern "C" fn flags(_: *mut c_void) -> *mut c_void {
        std::ptr::without_provenance_mut(usize::try_from(alternate().1).unwrap())
    }
    assert_eq!(in_pthread(64 << 10, flags).addr(), usize::try_from(DISABLED).unwrap());
}

fn lose_theirs() {
    let ((ask, asked), (say, answer)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let guard = surestack::install().unwrap();
    let thread = std::thread::spawn(move || asked.into_iter().for_each(|()| say.send(alternate()).unwrap()));
    let says = || {
        ask.send(()).unwrap();
        answer.recv().unwrap()
    };
    let later = says();
    assert_eq!(later.1, 0);
    assert_eq!(guard.uninstall().unanswered, []);
    assert_eq!(says(), (0, DISABLED, 0));
    // Installed again, it is asked like any other.
    let guard = surestack::install().unwrap();
    assert!(says().1 == 0 && says().2 >= given());
    drop(guard);
    assert_eq!(says(), (0, DISABLED, 0));
    drop(ask);
    thread.join().unwrap();
}
