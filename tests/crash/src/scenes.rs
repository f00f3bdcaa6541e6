//! The ways to die.

/// One of them. The victim knows it by its name.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its name, the same in `victim/`.
    pub name: &'static str,
    /// What happens, in words.
    pub says: &'static str,
    /// What the judge does beside starting it.
    pub outside: Outside,
    /// What a report can hold.
    pub leaves: Leaves,
    /// A second status that is as good as that of a victim without handler.
    pub also: Option<i32>,
    /// How often it is run: what depends on luck, several times. The worst counts.
    pub times: usize,
}

/// What the judge does beside starting the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Nothing.
    Nothing,
    /// Sends SIGSEGV when the victim waits for it.
    Signal,
    /// Has the loader load this library first.
    Preloaded(&'static str),
    /// Starts a copy, which the victim deletes.
    Copied,
}

/// What the bytes that are left allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// The whole chain.
    All,
    /// Some of it, from the interrupted pc on: the rest is destroyed.
    Some,
    /// Nothing: the kernel cannot call any handler.
    Nothing,
}

const fn scene(name: &'static str, says: &'static str) -> Scene {
    Scene { name, says, outside: Outside::Nothing, leaves: Leaves::All, also: None, times: 1 }
}

impl Scene {
    const fn outside(self, outside: Outside) -> Scene {
        Scene { outside, ..self }
    }

    const fn leaves(self, leaves: Leaves) -> Scene {
        Scene { leaves, ..self }
    }

    const fn also(self, status: i32) -> Scene {
        Scene { also: Some(status), ..self }
    }

    const fn times(self, times: usize) -> Scene {
        Scene { times, ..self }
    }
}

/// As PID 1 the default action of a signal that was sent does nothing: a handler has to exit with 128 and the signal.
const fn exited(code: i32) -> i32 {
    code << 8
}

/// All of them, in the order of the table.
pub const SCENES: &[Scene] = &[
    scene("null_read", "a read through a null pointer"),
    scene("null_write", "a write through a null pointer"),
    scene("noncanonical", "a read at an address that no pointer can hold"),
    scene("read_only", "a write to code"),
    scene("bus", "a read behind the end of a mapped file"),
    scene("ill", "an instruction that is none"),
    scene("divide", "a division by zero"),
    scene("int3", "a breakpoint nobody waits for"),
    scene("abort", "abort"),
    scene("assert", "an assertion fails"),
    scene("double_free", "a double free"),
    scene("canary", "a stack protector finds its canary overwritten"),
    scene("sys", "a system call that seccomp answers with SIGSYS"),
    scene("panic_main", "a panic in main"),
    scene("panic_thread", "a panic in a thread, the program goes on"),
    scene("panic_abort", "a panic that may not unwind"),
    scene("call_null", "a call through NULL"),
    scene("call_unmapped", "a call into unmapped memory"),
    scene("call_heap", "a call into the heap"),
    scene("call_data", "a call into memory that may be read but not run"),
    scene("smash_return", "a return through an overwritten return address").leaves(Leaves::Some),
    // Behind std's own handler a program lives on.
    scene("kill_wait", "SIGSEGV sent from outside to a process that waits")
        .outside(Outside::Signal)
        .also(libc::SIGSEGV),
    scene("kill_spin", "SIGSEGV sent from outside to a process that runs").outside(Outside::Signal).also(libc::SIGSEGV),
    scene("no_tables", "the program's unwind tables cannot be read").leaves(Leaves::Some),
    scene("unmap_above", "the stack is unmapped above the innermost frames").leaves(Leaves::Some),
    scene("jit", "a frame of generated code, with a frame pointer, in between"),
    scene("std_thread_null", "a read through a null pointer in a std thread"),
    scene("null_raw_thread", "the same in a pthread"),
    scene("null_tiny_thread", "the same in a thread with a stack of 16 KiB"),
    scene("overflow_main", "stack overflow of the main thread").also(libc::SIGSEGV),
    scene("overflow_std_thread", "stack overflow of a std thread").also(libc::SIGSEGV),
    scene("overflow_raw_thread", "stack overflow of a pthread with 64 KiB"),
    scene("overflow_tiny_thread", "stack overflow of a thread with 16 KiB"),
    scene("several_at_once", "four threads at the same moment").times(3),
    scene("threads_500", "one of 500 threads"),
    scene("raw_clone", "a thread made by clone alone, fs = 0"),
    scene("deep", "10,000 frames deep"),
    scene("malloc_fault", "inside malloc, which holds its lock"),
    scene("malloc_abort", "malloc aborts, its lock held"),
    scene("allocator_fault", "inside an interposed allocator, its lock held")
        .outside(Outside::Preloaded("allocator.so")),
    scene("allocator_held", "another thread holds an interposed allocator's lock")
        .outside(Outside::Preloaded("allocator.so")),
    scene("in_constructor", "in a library's constructor, within dlopen"),
    scene("dlopen_elsewhere", "another thread is within dlopen"),
    scene("in_phdr_callback", "in a callback of dl_iterate_phdr"),
    scene("phdr_elsewhere", "another thread is within dl_iterate_phdr"),
    scene("in_stdio", "within stdio, streams locked"),
    scene("stdio_elsewhere", "another thread has locked the streams"),
    scene("stderr_held", "another thread has locked Rust's standard error"),
    scene("in_handler", "in somebody's signal handler"),
    scene("in_handler_alternate", "in somebody's signal handler on an alternate stack of its own"),
    scene("alternate_exhausted", "an alternate stack is used up").leaves(Leaves::Nothing),
    scene("alternate_off", "no alternate stack"),
    scene("alternate_off_overflow", "stack overflow without alternate stack").leaves(Leaves::Nothing),
    scene("alternate_unmapped", "the alternate stack's memory is gone").leaves(Leaves::Nothing),
    scene("fork_child", "in a forked child"),
    scene("fork_busy_child", "in a forked child of a program whose threads allocate").times(5),
    scene("vfork_child", "in a vfork child"),
    scene("pid1", "as PID 1").also(exited(128 + libc::SIGSEGV)),
    scene("pid1_abort", "abort as PID 1").also(exited(128 + libc::SIGABRT)),
    scene("no_ptrace", "ptrace is denied"),
    scene("no_vm_readv", "seccomp denies process_vm_readv"),
    scene("kill_on_open", "seccomp kills who opens a file"),
    scene("stderr_closed", "standard error is closed"),
    scene("stderr_full", "standard error is a full pipe that nobody reads"),
    scene("no_memory", "RLIMIT_AS is used up"),
    scene("no_file_size", "RLIMIT_FSIZE is 0"),
    scene("no_descriptors", "RLIMIT_NOFILE is 0"),
    scene("exe_deleted", "the executable is deleted").outside(Outside::Copied),
    scene("before_constructors", "before any constructor has run"),
    scene("before_main", "in a constructor, before main"),
    scene("atexit", "in an atexit function"),
    scene("tls_destructor", "in a thread-local's destructor at exit"),
];

/// The scene of this name.
pub fn named(name: &str) -> Option<Scene> {
    SCENES.iter().find(|s| s.name == name).copied()
}
