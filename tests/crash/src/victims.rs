//! The victims' programs, built with this program's own profile.

use crate::contender::Contender;
use crate::victim::Victim;
use std::env;
use std::path::Path;
use std::process::Command;
use surestack_oracle::error::{Error, Result};

/// One program for ourselves, one for the others.
#[derive(Clone, Debug)]
pub struct Victims {
    all: Vec<(&'static str, Victim)>,
}

/// How a victim is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// As usual.
    Dynamic,
    /// With everything in it, anywhere in memory.
    StaticPie,
    /// With everything in it, at fixed addresses.
    Static,
}

impl Linked {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Linked::Dynamic => "dynamic",
            Linked::StaticPie => "static-pie",
            Linked::Static => "static",
        }
    }

    fn flags(self) -> Option<&'static str> {
        match self {
            Linked::Dynamic => None,
            Linked::StaticPie => Some("-Ctarget-feature=+crt-static"),
            Linked::Static => Some("-Ctarget-feature=+crt-static -Crelocation-model=static"),
        }
    }
}

impl Victims {
    /// Builds our own, linked so.
    pub fn linked(how: Linked) -> Result<Victims> {
        const TARGET: &str = "x86_64-unknown-linux-gnu";
        let Some(flags) = how.flags() else { return Victims::built() };
        // A directory of its own: other flags are other artifacts, of everything.
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(how.words());
        let program = Contender::Ours.program();
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "-q", "-p", "surestack-crash-scenes", "--target", TARGET, "--bin", program]);
        command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", &directory);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        run(&mut command)?;
        let victim = Victim::at(&directory.join(TARGET).join("debug").join(program))?;
        Ok(Victims { all: vec![(program, victim)] })
    }

    /// Builds them.
    pub fn built() -> Result<Victims> {
        let programs = programs();
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "-q", "-p", "surestack-crash-scenes"]);
        command.args(programs.iter().flat_map(|program| ["--bin", program]));
        if cfg!(feature = "peers") {
            command.args(["--features", "peers"]);
        }
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        run(&mut command)?;
        Victims::there()
    }

    /// Takes those that lie beside this program, whatever they were built from.
    pub fn there() -> Result<Victims> {
        let own = env::current_exe().map_err(|e| Error::system("this program's own path", e))?;
        let at = |program| Ok((program, Victim::at(&own.with_file_name(program))?));
        Ok(Victims { all: programs().into_iter().map(at).collect::<Result<_>>()? })
    }

    /// The program that has this contender.
    pub fn of(&self, contender: Contender) -> Result<&Victim> {
        let found = self.all.iter().find(|(program, _)| *program == contender.program());
        let unbuilt = || Error::new(format!("{} is there with the feature `peers` only", contender.name()));
        found.map(|(_, victim)| victim).ok_or_else(unbuilt)
    }
}

fn programs() -> Vec<&'static str> {
    let mut programs = vec![Contender::Ours.program()];
    if cfg!(feature = "peers") {
        programs.push(Contender::Glibc.program());
    }
    programs
}

fn run(command: &mut Command) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::new(format!("the victims were not built: {status}"))),
        Err(error) => Err(Error::system("cannot run cargo", error)),
    }
}
