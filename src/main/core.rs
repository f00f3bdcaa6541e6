//! `surestack core`.

use crate::shared::{Shared, Walking};
use clap::Args;
use std::path::PathBuf;
use surestack::analyze::{self, Options, Outcome, Threads};
use surestack::error::Error;
use surestack::image::Find;

pub const EXAMPLES: &str = "\
Examples:
  surestack core core.1234                      what happened, and every thread's stack
  surestack core --brief core.1234              the first screen of it
  surestack core --exe ./server core.zst        the program is elsewhere than when it ran
  surestack core --sysroot /srv/image core      all files of another machine or container
  surestack core --threads crashed --registers core
  surestack core --json core | jq '.threads[0].frames[].function'

Exit codes: 0 all well, whatever the verdicts; 2 wrong usage; 3 not a core file, or unreadable; 4 the report is partial, and says why";

#[derive(Args)]
pub struct Core {
    /// The core file
    core: PathBuf,
    /// The program, if it is not where it was when it ran
    #[arg(long, value_name = "FILE")]
    exe: Option<PathBuf>,
    /// Which threads: all, crashed, or a thread's id
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = threads)]
    threads: Threads,
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    walking: Walking,
}

/// As `--threads` has it.
pub fn threads(text: &str) -> Result<Threads, String> {
    match text {
        "all" => Ok(Threads::All),
        "crashed" => Ok(Threads::Crashed),
        id => id.parse().map(Threads::One).map_err(|_| "neither `all`, `crashed` nor the id of a thread".to_owned()),
    }
}

impl Core {
    /// Reports.
    pub fn run(&self) -> Result<Outcome, Error> {
        let options = self.walking.over(self.shared.options(self.threads));
        let options = Options { find: Find { exe: self.exe.clone(), ..options.find }, ..options };
        analyze::core(&self.core, &options, &mut *self.shared.printer())
    }
}
