//! The victims' programs, built with this program's own profile.

use crate::contender::Contender;
use crate::victim::Victim;
use std::env;
use std::process::Command;
use surestack_oracle::error::{Error, Result};

/// One program for ourselves, one for the others.
#[derive(Clone, Debug)]
pub struct Victims {
    all: Vec<(&'static str, Victim)>,
}

impl Victims {
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
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(Error::new(format!("the victims were not built: {status}"))),
            Err(error) => return Err(Error::system("cannot run cargo", error)),
        }
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
