//! Timers that interrupt each thread after so much CPU time of its own, and the handler, which takes the samples.

use crate::contender::Contender;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::io;

/// What the handler of one thread keeps. All of it was made before.
pub struct Samples<C: Contender> {
    /// Who took them.
    pub contender: C,
    /// CPU time of the thread, in nanoseconds.
    pub cpu: u64,
    kept: Vec<Sample<C::Trace>>,
    taken: usize,
}

/// One of them.
#[derive(Clone)]
pub struct Sample<T> {
    /// The stack.
    pub trace: T,
    /// CPU time that it took.
    pub nanoseconds: u64,
}

impl<C: Contender> Samples<C> {
    /// Those that were taken.
    pub fn all(&self) -> &[Sample<C::Trace>] {
        self.kept.get(..self.taken).unwrap_or_default()
    }
}

/// The timer of this thread, which is sampled until it ends.
pub struct Timer<C: Contender> {
    timer: libc::timer_t,
    samples: *mut Samples<C>,
    begun: u64,
}

impl<C: Contender> Timer<C> {
    /// Samples this thread from now on; with no room for more, nothing is kept.
    pub fn begin(hertz: u32, room: usize) -> io::Result<Self> {
        let mut kept = vec![Sample { trace: C::EMPTY, nanoseconds: 0 }; room];
        // Memory that is written for the first time costs a page fault: not in a handler.
        black_box(&mut kept).iter_mut().for_each(|sample| sample.nanoseconds = u64::MAX);
        let samples = Samples { contender: C::of_this_thread(room), cpu: 0, kept, taken: 0 };
        let samples = Box::into_raw(Box::new(samples));
        let mut timer = std::ptr::null_mut();
        // SAFETY: all of the structure may be zero.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_value = libc::sigval { sival_ptr: samples.cast() };
        let every = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 / i64::from(hertz.max(2)) };
        let every = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: a timer of this thread, whose signal has its handler; what that uses stays until the timer is gone.
        let made = unsafe {
            event.sigev_notify_thread_id = libc::gettid();
            libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut event, &raw mut timer) == 0
                && libc::timer_settime(timer, 0, &raw const every, std::ptr::null_mut()) == 0
        };
        if made { Ok(Self { timer, samples, begun: cpu_time() }) } else { Err(io::Error::last_os_error()) }
    }

    /// What was sampled. To be called by the thread itself: a signal that is due comes before the timer is gone, and none
    /// after that.
    pub fn end(self) -> Samples<C> {
        // SAFETY: made in `begin`.
        unsafe { libc::timer_delete(self.timer) };
        // SAFETY: made in `begin`; no handler uses it any more.
        let samples = unsafe { Box::from_raw(self.samples) };
        Samples { cpu: cpu_time() - self.begun, ..*samples }
    }
}

/// Makes the handler that of the timers' signal.
pub fn install<C: Contender>() -> io::Result<()> {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_timer::<C>;
    // SAFETY: all of the structure may be zero, and the handler keeps to what it may do.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut())
    };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes one sample: no lock, no allocation, and `errno` is as it was.
extern "C" fn on_timer<C: Contender>(_signal: c_int, information: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's argument.
    let information = unsafe { &*information };
    if information.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: what the timer was made with. The thread does not look at it before the timer is gone, and no second
    // handler runs in between: the signal is blocked meanwhile.
    let samples = unsafe { &mut *information.si_value().sival_ptr.cast::<Samples<C>>() };
    let Some(sample) = samples.kept.get_mut(samples.taken) else { return };
    // SAFETY: this thread's.
    let errno = unsafe { *libc::__errno_location() };
    let begun = cpu_time();
    // SAFETY: the kernel's argument, of this handler.
    unsafe { samples.contender.take(context, &mut sample.trace) };
    sample.nanoseconds = cpu_time() - begun;
    samples.taken += 1;
    // SAFETY: the same.
    unsafe { samples.contender.look_closer(context) };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Handlers of this thread run on a stack that is large enough for everybody.
pub fn alternate_stack() {
    const SIZE: usize = 256 << 10;
    let memory = Box::leak(vec![0_u8; SIZE].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: ours, and never given back.
    unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
}

/// CPU time of this thread, in nanoseconds. A signal handler may ask.
pub fn cpu_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What it costs to ask twice: as much too long is every sample measured.
pub fn cost_of_asking() -> u64 {
    let mut costs = [0; 1001].map(|_: u64| {
        let begun = cpu_time();
        cpu_time() - begun
    });
    costs.sort_unstable();
    costs[costs.len() / 2]
}
