//! Hostile files: the committed core and its program, one of them damaged, through everything `surestack core` does.

use crate::Fuzzed;
use crate::random::Random;
use std::fs;
use std::io::sink;
use std::path::{Path, PathBuf};
use surestack::analyze::{self, Options, Outcome};
use surestack::report::Printer;
use surestack::report::json::Json;
use surestack::report::text::{Colour, Length, Text};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/demo");
/// Headers and notes, which everything else depends on, are damaged as often as all the rest.
const HEAD: usize = 8 << 10;

/// A file of the committed core's.
pub fn demo(file: &str) -> Vec<u8> {
    fs::read(Path::new(DEMO).join(file)).expect("the committed core can be read")
}

/// A directory of a target's own.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        // In memory where that can be had: a disk may make a writer wait for longer than the watchdog does.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = root.join(format!("surestack-fuzz-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        Self(directory)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).expect("a file can be written");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A core, its program beside it, and which of the two is damaged.
pub struct Files {
    name: &'static str,
    scratch: Scratch,
    core: Vec<u8>,
    program: Vec<u8>,
}

impl Files {
    /// The committed core damaged, its program whole.
    pub fn cores() -> Self {
        Self::new("core")
    }

    /// The program damaged: its sections, tables, symbols and debug information. The core is whole.
    pub fn programs() -> Self {
        Self::new("program")
    }

    fn new(name: &'static str) -> Self {
        Self { name, scratch: Scratch::new(name), core: demo("demo.core"), program: demo("demo") }
    }
}

impl Fuzzed for Files {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, random: &mut Random) -> &'static str {
        let (mut core, mut program) = (self.core.clone(), self.program.clone());
        damage(if self.name == "core" { &mut core } else { &mut program }, random);
        self.scratch.write("core", &core);
        self.scratch.write("demo", &program);
        let mut text = Text::new(sink(), Length::Explained, Colour::Never);
        let mut json = Json::new(sink());
        let printer: &mut dyn Printer = if random.once_in(2) { &mut text } else { &mut json };
        match analyze::core(&self.scratch.path("core"), &Options::default(), printer) {
            Ok(Outcome::Whole) => "whole",
            Ok(Outcome::Partial) => "partial",
            Err(error) if error.is_not_a_core() => "no core",
            Err(_) => "refused",
        }
    }
}

/// Changes some bytes, and now and then cuts the file short or copies one piece of it over another.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if random.once_in(2) {
        let head = bytes.len().min(HEAD);
        random.mutate(&mut bytes[..head]);
    } else {
        (0..random.below(8)).for_each(|_| random.mutate(bytes));
    }
    if random.once_in(8) {
        bytes.truncate(random.index(bytes.len()));
    }
    if random.once_in(8) && bytes.len() > 64 {
        let (from, to) = (random.index(bytes.len() - 64), random.index(bytes.len() - 64));
        bytes.copy_within(from..from + 64, to);
    }
}
