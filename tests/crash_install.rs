//! Installing and uninstalling the crash handler, each time in a process of its own, from its main thread.
#![cfg(target_os = "linux")]

#[path = "crash_install/between.rs"]
mod between;
#[path = "crash_install/exact.rs"]
mod exact;
#[path = "crash_install/order.rs"]
mod order;
#[path = "crash_install/panics.rs"]
mod panics;
#[path = "crash_install/system.rs"]
mod system;
#[path = "crash_install/threads.rs"]
mod threads;

use libtest_mimic::{Arguments, Failed, Trial};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// The variable that tells a process which scene to play.
const SCENE: &str = "SURESTACK_TEST_SCENE";

/// What happens in a process of its own, and how that has to end.
struct Scene {
    /// A sentence that is true if it passes.
    name: &'static str,
    /// Set for the child.
    variables: &'static [(&'static str, &'static str)],
    play: fn(),
    /// What is wrong with how it ended.
    judge: fn(&Output) -> Result<(), String>,
}

/// It says nothing and exits with 0.
fn passes(output: &Output) -> Result<(), String> {
    if output.status.success() { Ok(()) } else { Err(format!("{}: {}", output.status, text(output))) }
}

/// Rust's own message for an overflowed stack, and its end.
fn overflow_by_std(output: &Output) -> Result<(), String> {
    let said = text(output);
    let right = output.status.signal() == Some(libc::SIGABRT) && said.contains("has overflowed its stack");
    if right { Ok(()) } else { Err(format!("{}: {said}", output.status)) }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn main() {
    let scenes = [between::scenes(), exact::scenes(), order::scenes(), panics::scenes(), threads::scenes()];
    let scenes: Vec<Scene> = scenes.into_iter().flatten().collect();
    if let Some(name) = std::env::var_os(SCENE) {
        let scene = scenes.iter().find(|scene| name == scene.name).expect("a scene of this name");
        return (scene.play)();
    }
    let trials = scenes.into_iter().map(|scene| Trial::test(scene.name, move || run(&scene)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn run(scene: &Scene) -> Result<(), Failed> {
    let mut child = Command::new(std::env::current_exe()?);
    child.env(SCENE, scene.name).env_remove("RUST_BACKTRACE");
    child.envs(scene.variables.iter().copied());
    Ok((scene.judge)(&child.output()?)?)
}
