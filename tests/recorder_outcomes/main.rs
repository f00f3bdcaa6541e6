//! What becomes of a recorder when threads end, processes fork, run another program or are killed, disks are full and handlers
//! jump: each in a process of its own, of which the file is read afterwards.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../skip/mod.rs"]
mod skip;

mod disk;
mod files;
mod jumps;
mod killed;
mod processes;
mod threads;

use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use surestack::recorder::{Event, FieldValue, Options, Recording, ThreadEvents};

const SCENE: &str = "SURESTACK_TEST_SCENE";
const DIRECTORY: &str = "SURESTACK_TEST_DIRECTORY";

/// What happens in a process of its own, and what must be there then.
struct Scene {
    name: &'static str,
    play: fn(&Path),
    judge: fn(&Left) -> Result<(), Failed>,
}

/// What a process left.
struct Left {
    status: ExitStatus,
    said: String,
    directory: PathBuf,
}

impl Left {
    /// The recorder of a process that ended well.
    fn recording(&self) -> Result<Recording, Failed> {
        check(self.status.success(), || format!("{}: {}", self.status, self.said))?;
        self.recording_of("flight")
    }

    fn recording_of(&self, name: &str) -> Result<Recording, Failed> {
        let recording = Recording::open(&self.directory.join(name))?;
        check(recording.damage.is_empty(), || format!("damage: {:?}", recording.damage))?;
        Ok(recording)
    }
}

/// Fails with these words.
fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// A recorder in the file that is judged.
fn flight(directory: &Path) -> Options {
    Options::file(directory.join("flight"))
}

/// The numbers that a thread wrote with events of this name, in their order.
fn numbers(thread: &ThreadEvents, name: &str) -> Vec<u64> {
    thread.events.iter().filter(|event| &*event.name == name).filter_map(number).collect()
}

fn number(event: &Event) -> Option<u64> {
    match event.fields.first()?.1 {
        FieldValue::Unsigned(number) => Some(number),
        _ => None,
    }
}

/// All that is counted instead of kept.
fn nothing_is_lost(recording: &Recording) -> Result<(), Failed> {
    let words = recording.losses.words();
    check(words.is_empty(), || words.join("\n"))
}

fn main() {
    let scenes = [files::SCENES, threads::SCENES, processes::SCENES, disk::SCENES, jumps::SCENES, killed::SCENES];
    let scenes = scenes.into_iter().flatten();
    if let (Some(name), Some(directory)) = (std::env::var_os(SCENE), std::env::var_os(DIRECTORY)) {
        let scene = scenes.into_iter().find(|scene| name == scene.name).expect("a scene of this name");
        return (scene.play)(Path::new(&directory));
    }
    let trials = scenes.map(|scene| Trial::test(scene.name, || run(scene)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn run(scene: &Scene) -> Result<(), Failed> {
    let directory = std::env::temp_dir().join(format!("surestack-flight-{}-{}", std::process::id(), scene.name));
    fs::create_dir_all(&directory)?;
    let output = command(scene.name, &directory)?.output()?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    let judged = (scene.judge)(&Left { status: output.status, said, directory: directory.clone() });
    fs::remove_dir_all(directory)?;
    judged
}

/// This program, to play a scene.
fn command(scene: &str, directory: &Path) -> Result<Command, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(SCENE, scene).env(DIRECTORY, directory);
    Ok(command)
}

/// Whether it was this signal that ended a process.
fn died_of(left: &Left, signal: i32) -> Result<(), Failed> {
    check(left.status.signal() == Some(signal), || format!("{}: {}", left.status, left.said))
}
