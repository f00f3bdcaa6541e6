//! The C header, from programs in C and in C++, with the shared library and with the static one.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the libraries of this build are.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

#[derive(Clone, Copy)]
enum Library {
    Shared,
    Static,
}

/// The program compiled.
fn program(compiler: &str, source: &str, library: Library) -> PathBuf {
    let (libraries, root) = (libraries(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let kind = match library {
        Library::Shared => "shared",
        Library::Static => "static",
    };
    let program = libraries.join(format!("capi-{compiler}-{kind}-{}", std::process::id()));
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-O1", "-I"]).arg(root.join("include")).arg("-o").arg(&program);
    command.arg(root.join("tests").join(source));
    match library {
        Library::Shared => {
            command.arg("-L").arg(&libraries).arg("-lsurestack_capi");
            command.arg(format!("-Wl,-rpath,{}", libraries.display()));
        }
        Library::Static => {
            command.arg(libraries.join("libsurestack_capi.a"));
        }
    }
    let output = command.args(["-lpthread", "-ldl", "-lm", "-lgcc_s"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn run(program: &Path, argument: &str) -> (Output, String) {
    let folder = std::env::temp_dir().join(format!("surestack-capi-{}", std::process::id()));
    let output = Command::new(program).arg(argument).env("SURESTACK_DIR", &folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

fn both(compiler: &str, source: &str, library: Library) {
    let program = program(compiler, source, library);
    let (output, said) = run(&program, "calm");
    assert!(output.status.success(), "{}: {said}", output.status);
    let (output, said) = run(&program, "crash");
    assert_eq!(output.status.signal(), Some(11), "{said}");
    assert!(said.contains("SIGSEGV in thread"), "{said}");
    let (output, said) = run(&program, "overflow");
    assert_eq!(output.status.signal(), Some(11), "{said}");
    assert!(said.contains("stack overflow"), "{said}");
    std::fs::remove_file(program).unwrap();
}

#[test]
fn a_c_program_installs_crashes_and_uninstalls_with_the_shared_library() {
    both("gcc", "program.c", Library::Shared);
}

#[test]
fn a_c_program_does_so_with_the_static_library() {
    both("gcc", "program.c", Library::Static);
}

#[test]
fn a_cpp_program_does_so_with_the_shared_library() {
    both("g++", "program.cc", Library::Shared);
}

#[test]
fn a_cpp_program_does_so_with_the_static_library() {
    both("g++", "program.cc", Library::Static);
}
