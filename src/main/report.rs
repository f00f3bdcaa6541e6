//! `surestack report`.

use crate::shared::Shared;
use clap::Args;
use std::path::PathBuf;
use surestack::analyze::{self, Options, Outcome, Threads};
use surestack::error::Error;
use surestack::image::Find;

pub const EXAMPLES: &str = "\
Examples:
  surestack report 1795-4711-9feb.surestack     what happened, and every thread's stack
  surestack report --brief FILE                 the first screen of it
  surestack report --sysroot /srv/image FILE    all files of another machine or container
  surestack report --json FILE | jq '.recorded.messages[].text'

Frames are shown as they were recorded; what was left pending for lack of files is decided now.

Exit codes: 0 all well, whatever the verdicts; 2 wrong usage; 3 not a record, or unreadable; 4 the report is partial, and says why";

#[derive(Args)]
pub struct Report {
    /// The record that a handler wrote
    record: PathBuf,
    /// The program, if it is not where it was when it ran
    #[arg(long, value_name = "FILE")]
    exe: Option<PathBuf>,
    /// Which threads: all, crashed, or a thread's id
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = crate::core_file::threads)]
    threads: Threads,
    #[command(flatten)]
    shared: Shared,
}

impl Report {
    /// Reports.
    pub fn run(&self) -> Result<Outcome, Error> {
        let options = self.shared.options(self.threads);
        let options = Options { find: Find { exe: self.exe.clone(), ..options.find }, ..options };
        analyze::record(&self.record, &options, &mut *self.shared.printer())
    }
}
