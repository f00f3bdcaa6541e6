//! What runs in a signal handler cannot allocate: a program made of it links without an allocator.

use std::path::Path;
use std::process::{Command, Output};

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/no-alloc");

fn build(features: &str) -> Output {
    Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--features", features, "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-alloc").join(features))
        .current_dir(PACKAGE)
        .output()
        .expect("cargo runs")
}

#[test]
fn the_signal_time_crates_link_without_an_allocator_and_walk() {
    let build = build("");
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-alloc/release/no-alloc");
    assert!(Command::new(program).status().expect("the program runs").success());
}

/// Without these the proof would prove nothing: it must be able to fail, and for this reason.
#[test]
fn a_program_that_allocates_does_not_link() {
    for feature in ["cheat", "cheat-gimli"] {
        let build = build(feature);
        let errors = String::from_utf8_lossy(&build.stderr);
        assert!(!build.status.success(), "{feature} linked");
        assert!(errors.contains("no global memory allocator found"), "{feature}: {errors}");
    }
}
