//! The process reader on a child that is stopped at its very first instruction.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack::snapshot::{Identity, initial_stack};
use surestack_walk::{Mapping, Modules, Register, StackKind, Stacks, Stop};

/// A program stopped by `PTRACE_TRACEME` right after exec.
struct Traced(Child);

impl Traced {
    fn new(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let trace = || {
            // SAFETY: takes no pointers with PTRACE_TRACEME; async-signal-safe between fork and exec.
            let done = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: `trace` makes one system call and allocates nothing.
        unsafe { command.args(arguments).pre_exec(trace) };
        let traced = Self(command.spawn().unwrap());
        let mut status = 0;
        // SAFETY: `status` is ours to write.
        let stopped = unsafe { libc::waitpid(traced.pid(), &mut status, 0) };
        assert!(stopped == traced.pid() && libc::WIFSTOPPED(status));
        traced
    }

    fn pid(&self) -> libc::pid_t {
        self.0.id().cast_signed()
    }

    /// `struct user_regs_struct`.
    fn registers(&self) -> [u8; 216] {
        let mut block = [0; 216];
        // SAFETY: the block has the size of `struct user_regs_struct` on x86_64.
        let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid(), 0, block.as_mut_ptr()) };
        assert_eq!(read, 0);
        block
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn at_its_first_instruction_a_process_is_known_with_its_loader_and_its_initial_stack() {
    let traced = Traced::new("/bin/true", &["one", "two"]);
    let mut process = StoppedProcess::open(traced.0.id(), Find::default()).unwrap();
    let snapshot = process.stopped_at(traced.0.id(), &traced.registers(), Stop::default()).unwrap();

    let regs = &snapshot.threads[0].regs;
    let (pc, sp) = (regs.get(Register::PC).unwrap(), regs.get(snapshot.arch.sp).unwrap());
    assert_eq!(initial_stack::initial_sp(snapshot), Some(sp), "nothing has moved the stack pointer yet");
    assert_eq!(snapshot.memory.word(sp), Ok(3), "argc");
    assert_eq!(Stacks::find(&snapshot.space, sp).unwrap().kind, StackKind::Main);

    let (_, loader) = snapshot.space.module(pc).unwrap();
    assert!(loader.path.to_string_lossy().contains("ld-linux"), "{:?}", loader.path);
    let image = loader.image.as_ref().unwrap();
    assert_eq!(pc, loader.bias + image.entry());
    let mut code = [0; 8];
    snapshot.memory.read(pc, &mut code).unwrap();
    assert_eq!(Some(&code[..]), image.at(image.entry(), 8));

    let modules: Vec<_> = snapshot.space.modules.iter().map(|module| &module.identity).collect();
    assert_eq!(modules.iter().filter(|identity| ***identity == Identity::Mapped).count(), 2, "program and loader");
    assert_eq!(modules.iter().filter(|identity| ***identity == Identity::Memory).count(), 1, "vDSO");
    assert_eq!(snapshot.space.mapping(pc), Mapping::Code);
    assert_eq!(snapshot.space.mapping(0), Mapping::Nothing);
    assert!(snapshot.memory.word(0).is_err());
}

#[test]
fn refreshing_keeps_the_images_of_files_that_are_still_mapped() {
    let traced = Traced::new("/bin/true", &[]);
    let mut process = StoppedProcess::open(traced.0.id(), Find::default()).unwrap();
    let image = |process: &StoppedProcess| process.snapshot().space.modules[0].image.clone().unwrap();
    let before = image(&process);
    process.refresh().unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &image(&process)));
}

#[test]
fn what_is_mapped_while_a_process_runs_is_noticed() {
    let traced = Traced::new("/bin/true", &[]);
    let mut process = StoppedProcess::open(traced.0.id(), Find::default()).unwrap();
    assert!(process.is_mapped_as_read() && process.is_mapped_as_read());
    // The loader maps the C library within a few system calls.
    for _ in 0..60 {
        // SAFETY: this request takes numbers.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SYSCALL, traced.pid(), 0, 0) }, 0);
        let mut status = 0;
        // SAFETY: `status` is ours to write.
        assert_eq!(unsafe { libc::waitpid(traced.pid(), &mut status, 0) }, traced.pid());
        assert!(libc::WIFSTOPPED(status), "it ends without mapping anything");
        if !process.is_mapped_as_read() {
            process.refresh().unwrap();
            assert!(process.is_mapped_as_read());
            return;
        }
    }
    panic!("nothing was mapped");
}
