//! Calls of functions that are in other modules and never return, bound and not bound yet.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use surestack::evidence::{Answers, FileEvidence};
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack_walk::{CodeAddress, Evidence, RowProof};

/// A folder with libraries and a program; removed with this.
struct Built(PathBuf);

impl Drop for Built {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that waits in its loop; it ends with this.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Built {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("surestack-imports-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn compile(&self, source: &str, name: &str, flags: &[&Path]) -> PathBuf {
        let built = self.0.join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports").join(source);
        let mut gcc = Command::new("gcc");
        assert!(gcc.arg("-O2").arg(source).args(flags).arg("-o").arg(&built).status().unwrap().success());
        built
    }

    fn library(&self, source: &str) -> PathBuf {
        self.compile(source, &format!("{source}.so"), &[Path::new("-shared"), Path::new("-fPIC")])
    }

    /// What is proven of the loop's row behind its call, with a library for `die` and perhaps another before it.
    fn loop_row(&self, library: &Path, flag: &str, before: Option<&Path>) -> RowProof {
        let program = self.compile("loop.c", "loop", &[library, Path::new(flag)]);
        let mut run = Command::new(program);
        run.stdout(Stdio::piped()).env_remove("LD_BIND_NOW").envs(before.map(|library| ("LD_PRELOAD", library)));
        let mut child = Waiting(run.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let behind = u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap();
        let process = StoppedProcess::open(child.0.id(), Find::default()).unwrap();
        let evidence = FileEvidence::new(process.snapshot(), Rc::new(Answers::default()));
        evidence.row(CodeAddress::Return(behind)).frame
    }
}

#[test]
fn behind_an_imported_call_that_never_returns_nothing_runs_on() {
    let built = Built::new("ends");
    let library = built.library("ends.c");
    for binding in ["-Wl,-z,lazy", "-Wl,-z,now"] {
        assert_eq!(built.loop_row(&library, binding, None), RowProof::Proven, "{binding}");
    }
}

#[test]
fn behind_an_imported_call_that_returns_the_code_runs_on() {
    let built = Built::new("returns");
    let library = built.library("returns.c");
    for binding in ["-Wl,-z,lazy", "-Wl,-z,now"] {
        assert_eq!(built.loop_row(&library, binding, None), RowProof::Assumed, "{binding}");
    }
}

#[test]
fn an_imported_function_that_may_be_another_which_returns_is_not_said_to_end() {
    let built = Built::new("either");
    let (ends, returns) = (built.library("ends.c"), built.library("returns.c"));
    for binding in ["-Wl,-z,lazy", "-Wl,-z,now"] {
        assert_eq!(built.loop_row(&ends, binding, Some(&returns)), RowProof::Assumed, "{binding}");
    }
    let first = built.loop_row(&returns, "-Wl,-z,now", Some(&ends));
    assert_eq!(first, RowProof::Proven, "the word is bound to the first");
}

#[test]
fn a_function_that_is_called_like_one_of_the_c_librarys_and_returns_is_believed_to_return() {
    let built = Built::new("err");
    let library = built.compile("returns.c", "err.so", &["-shared", "-fPIC", "-Ddie=err"].map(Path::new));
    assert_eq!(built.loop_row(&library, "-DDIE=err", None), RowProof::Assumed);
}
