//! The core reader on cores that the kernel writes here and now.

use std::path::{Path, PathBuf};
use std::process::Command;
use surestack::image::Find;
use surestack::snapshot::{Gap, Identity, Snapshot, core_file};
use surestack_walk::{Mapping, Modules, Register, Stacks};

const PROGRAM: &str = r#"
#include <signal.h>
#include <pthread.h>
#include <unistd.h>
static void *sleeper(void *p) { pause(); return p; }
int main(void) {
    pthread_t t;
    for (int i = 0; i < 3; i++) pthread_create(&t, 0, sleeper, 0);
    usleep(50000);
    *(volatile int *)0x18 = 1;
}
"#;

/// A directory of its own for one test, with a program that has crashed there.
struct Crash {
    directory: PathBuf,
}

impl Crash {
    /// Builds and runs the program; `filter` is its coredump_filter.
    fn new(name: &str, flags: &[&str], filter: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("surestack-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let crash = Self { directory };
        std::fs::write(crash.path("program.c"), PROGRAM).unwrap();
        crash.build("program", flags);
        let script = format!("ulimit -c unlimited; echo {filter} > /proc/self/coredump_filter; exec ./program");
        let status = Command::new("sh").args(["-c", &script]).current_dir(&crash.directory).status().unwrap();
        assert!(!status.success());
        let core = std::fs::read_dir(&crash.directory).unwrap().map(|entry| entry.unwrap().path());
        let core = core.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("core"));
        let core = core.last().expect("the kernel writes cores into the working directory (core_pattern `core`)");
        std::fs::rename(core, crash.path("the.core")).unwrap();
        crash
    }

    fn build(&self, name: &str, flags: &[&str]) {
        let source = self.path("program.c");
        let mut gcc = Command::new("gcc");
        gcc.arg("-pthread").args(flags).arg("-o").arg(self.path(name)).arg(source);
        assert!(gcc.status().unwrap().success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open(&self) -> Snapshot {
        core_file::open(&self.path("the.core"), &Find::default()).unwrap()
    }
}

impl Drop for Crash {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn program(snapshot: &Snapshot) -> &surestack::snapshot::LoadedModule {
    snapshot.space.modules.iter().find(|module| module.path.ends_with("program")).unwrap()
}

#[test]
fn a_core_by_the_kernel_is_read_whole() {
    let crash = Crash::new("whole", &["-g"], "0x33");
    let snapshot = crash.open();

    assert_eq!(snapshot.gaps, []);
    assert_eq!(snapshot.threads.len(), 4);
    assert_eq!(snapshot.process.name.as_deref(), Some("program"));
    let crashed = &snapshot.threads[0];
    let signal = crashed.signal.unwrap();
    assert_eq!((signal.number, signal.code, signal.address), (11, 1, Some(0x18)));
    assert_eq!((crashed.stop.signal, crashed.stop.code), (11, 1));
    assert_eq!(snapshot.process.pid, Some(crashed.id));

    let paths: Vec<_> = snapshot.space.modules.iter().map(|module| module.path.to_string_lossy()).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    for module in &snapshot.space.modules {
        let expected = if module.path == Path::new("[vdso]") { Identity::Memory } else { Identity::BuildId };
        assert_eq!(module.identity, expected, "{}", module.path.display());
        let unwind = module.image.as_ref().unwrap().unwind();
        assert!(unwind.eh_frame.is_some() && unwind.eh_frame_hdr.is_some(), "{}", module.path.display());
    }

    // Text is not in the core: it comes from the file, whose build ID proves it.
    let pc = crashed.regs.get(Register::PC).unwrap();
    assert_eq!(snapshot.space.mapping(pc), Mapping::Code);
    assert_eq!(snapshot.space.mapping(0x18), Mapping::Nothing);
    let module = program(&snapshot);
    assert!((module.start..module.end).contains(&pc));
    let mut bytes = [0; 6];
    snapshot.memory.read(pc, &mut bytes).unwrap();
    assert_eq!(Some(&bytes[..]), module.image.as_ref().unwrap().at(pc - module.bias, 6));

    let sp = crashed.regs.get(snapshot.arch.sp).unwrap();
    assert!(Stacks::find(&snapshot.space, sp).unwrap().holds(sp, 64));
    assert!(snapshot.memory.word(sp).is_ok());
    assert!(snapshot.memory.word(0x18).is_err());
}

#[test]
fn a_rebuilt_program_is_never_used() {
    let crash = Crash::new("replaced", &["-O0"], "0x33");
    crash.build("program", &["-O2", "-DOTHER"]);
    let snapshot = crash.open();
    let module = program(&snapshot);
    let Identity::Replaced { wanted: Some(wanted), found: Some(found) } = &module.identity else {
        panic!("{:?}", module.identity);
    };
    assert_ne!(wanted, found);
    assert_eq!(Some(wanted), module.build_id.as_ref());
    assert!(module.image.is_none(), "the core holds no code of it");
    let pc = snapshot.threads[0].regs.get(Register::PC).unwrap();
    assert!(snapshot.memory.value(pc, 1).is_err());
    assert!(
        snapshot.gaps.iter().any(|gap| matches!(gap, Gap::Filtered { start, end } if (*start..*end).contains(&pc)))
    );
}

#[test]
fn a_program_that_is_gone_is_read_from_the_core() {
    // A static program has no `.eh_frame_hdr`, and memory has no section headers.
    for (name, flags) in [("gone", &[][..]), ("gone-static", &["-static"])] {
        let crash = Crash::new(name, flags, "0x37");
        let kept = program(&crash.open()).image.clone().unwrap();
        std::fs::remove_file(crash.path("program")).unwrap();
        let snapshot = crash.open();
        let module = program(&snapshot);
        assert_eq!(module.identity, Identity::Memory);
        let image = module.image.as_ref().unwrap();
        let (ours, theirs) = (image.unwind(), kept.unwind());
        assert_eq!(ours.eh_frame_hdr.unwrap().bytes, theirs.eh_frame_hdr.unwrap().bytes, "{name}");
        let (ours, theirs) = (ours.eh_frame.unwrap(), theirs.eh_frame.unwrap());
        assert_eq!(ours.address, theirs.address, "{name}");
        assert!(ours.bytes.starts_with(theirs.bytes), "{name}");
    }
}

#[test]
fn a_program_without_build_id_is_known_by_its_bytes() {
    let crash = Crash::new("bytes", &["-Wl,--build-id=none"], "0x33");
    let compared = |snapshot: &Snapshot| match program(snapshot).identity {
        Identity::Bytes { compared } => compared,
        ref other => panic!("{other:?}"),
    };
    assert!(compared(&crash.open()) > 0);
    crash.build("program", &["-Wl,--build-id=none", "-O2", "-static"]);
    assert_eq!(program(&crash.open()).identity, Identity::Replaced { wanted: None, found: None });
}

#[test]
fn a_compressed_core_says_the_same() {
    let crash = Crash::new("zst", &[], "0x33");
    let plain = crash.open();
    assert!(Command::new("zstd").arg("-q").arg(crash.path("the.core")).status().unwrap().success());
    let packed = core_file::open(&crash.path("the.core.zst"), &Find::default()).unwrap();
    assert_eq!(packed.gaps, []);
    assert_eq!(packed.threads.len(), plain.threads.len());
    let sp = plain.threads[0].regs.get(plain.arch.sp).unwrap();
    assert_eq!(packed.memory.word(sp), plain.memory.word(sp));

    std::fs::write(crash.path("the.core.zst"), b"\x28\xb5\x2f\xfdgarbage").unwrap();
    let refused = core_file::open(&crash.path("the.core.zst"), &Find::default()).err().unwrap();
    assert!(refused.is_not_a_core(), "{refused}");
}

#[test]
fn a_core_cut_anywhere_is_read_as_far_as_it_goes() {
    let crash = Crash::new("cut", &[], "0x33");
    let whole = std::fs::read(crash.path("the.core")).unwrap();
    let threads = crash.open().threads.len();
    for part in 1..50 {
        let length = whole.len() * part / 50;
        std::fs::write(crash.path("the.core"), &whole[..length]).unwrap();
        let snapshot = crash.open();
        assert_eq!(snapshot.threads.len(), threads, "the notes come first");
        assert!(snapshot.gaps.contains(&Gap::Truncated { expected: whole.len() as u64, found: length as u64 }));
    }
}

#[test]
fn flipped_bits_are_survived() {
    let crash = Crash::new("flips", &[], "0x33");
    let whole = std::fs::read(crash.path("the.core")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut read = 0;
    // The headers and notes are what is parsed; the rest is memory.
    let head = whole.len().min(24 << 10);
    for _ in 0..3000 {
        let mut bytes = whole[..whole.len().min(160 << 10)].to_vec();
        for _ in 0..random() % 8 + 1 {
            let at = random() % head;
            bytes[at] ^= 1 << (random() % 8);
        }
        std::fs::write(crash.path("the.core"), &bytes).unwrap();
        let Ok(snapshot) = core_file::open(&crash.path("the.core"), &Find::default()) else { continue };
        read += 1;
        for thread in &snapshot.threads {
            for register in [Register::PC, snapshot.arch.sp] {
                let address = thread.regs.get(register).unwrap();
                let _ = snapshot.memory.word(address);
                let _ = Modules::find(&snapshot.space, address);
            }
        }
    }
    assert!(read > 2000, "{read}");
}

#[test]
fn what_is_no_core_is_told_from_what_cannot_be_read() {
    let refused = core_file::open(Path::new("/bin/sh"), &Find::default()).err().unwrap();
    assert!(refused.is_not_a_core(), "{refused}");
    let refused = core_file::open(Path::new("/nowhere/core"), &Find::default()).err().unwrap();
    assert!(!refused.is_not_a_core(), "{refused}");
}

#[test]
fn a_pipe_where_a_file_was_mapped_is_not_waited_for() {
    let pipe = std::env::temp_dir().join(format!("surestack-pipe-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (answer, answered) = std::sync::mpsc::channel();
    let named = pipe.clone();
    std::thread::spawn(move || answer.send(core_file::open(&named, &Find::default()).err().unwrap().to_string()));
    let said = answered.recv_timeout(std::time::Duration::from_secs(10));
    std::fs::remove_file(&pipe).unwrap();
    assert!(said.unwrap().contains("it is not a regular file"));
}

#[test]
fn separate_debug_files_are_found_by_build_id_and_by_link() {
    let crash = Crash::new("debug", &["-g"], "0x33");
    let id = program(&crash.open()).build_id.clone().unwrap().to_string();
    let run = |arguments: &[&str]| {
        assert!(Command::new("objcopy").args(arguments).current_dir(&crash.directory).status().unwrap().success());
    };
    run(&["--only-keep-debug", "program", "program.debug"]);
    run(&["--strip-debug", "--add-gnu-debuglink=program.debug", "program"]);
    let has_debug = |find: &Find| {
        let snapshot = core_file::open(&crash.path("the.core"), find).unwrap();
        let module = program(&snapshot);
        assert_eq!(module.identity, Identity::BuildId);
        module.debug.as_ref().is_some_and(|debug| debug.section(".debug_info").is_some())
    };
    assert!(has_debug(&Find::default()), "beside the program, by its link");

    let home = crash.path("dbg").join(".build-id").join(&id[..2]);
    std::fs::create_dir_all(&home).unwrap();
    std::fs::rename(crash.path("program.debug"), home.join(format!("{}.debug", &id[2..]))).unwrap();
    assert!(!has_debug(&Find::default()));
    assert!(has_debug(&Find { debug_dirs: vec![crash.path("dbg")], ..Find::default() }), "by build ID");

    std::fs::create_dir_all(crash.path(".debug")).unwrap();
    crash.build("other", &["-g", "-O2"]);
    std::fs::rename(crash.path("other"), crash.path(".debug/program.debug")).unwrap();
    assert!(!has_debug(&Find::default()), "a debug file of another build");
}
