//! Compiles the C and assembly half of the victim, and the libraries it loads.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const VICTIM: [&str; 9] =
    ["truth.c", "chain.c", "leaf.S", "scenes.c", "faults.c", "threads.c", "locks.c", "processes.c", "edges.c"];
const LIBRARIES: [&str; 3] = ["plugin.c", "allocator.c", "count.c"];

fn main() {
    println!("cargo::rerun-if-changed=victim");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut build = cc::Build::new();
    build.opt_level(2).debug(true).pic(true).warnings(true).force_frame_pointer(false);
    // A function that never returns keeps its last call in its own body, where its symbol says it is.
    build.flag("-fno-reorder-blocks-and-partition").flag("-fno-optimize-sibling-calls");
    build.flag("-fstack-protector-explicit");
    build.files(VICTIM.map(|name| Path::new("victim").join(name))).cargo_metadata(false).compile("victim");
    let peers = env::var_os("CARGO_FEATURE_PEERS").map(|_| "surestack-crash-peers");
    for program in ["surestack-crash-victim"].into_iter().chain(peers) {
        // glibc and crash handlers name what the program exports.
        for argument in
            ["-Wl,--whole-archive", &out.join("libvictim.a").to_string_lossy(), "-Wl,--no-whole-archive", "-rdynamic"]
        {
            println!("cargo::rustc-link-arg-bin={program}={argument}");
        }
    }
    for source in LIBRARIES {
        let library = out.join(source).with_extension("so");
        library_of(&Path::new("victim").join(source), &library);
    }
    println!("cargo::rustc-env=CRASH_LIBRARIES={}", out.display());
}

fn library_of(source: &Path, library: &Path) {
    let mut command = Command::new("gcc");
    command.args(["-shared", "-fPIC", "-O2", "-g", "-Wall", "-pthread", "-o"]).arg(library).arg(source);
    let status = command.status().expect("gcc can be run");
    assert!(status.success(), "gcc refused {}", source.display());
}
