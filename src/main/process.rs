//! `surestack process`.

use crate::shared::{Shared, Walking};
use clap::Args;
use std::time::Duration;
use surestack::analyze::{self, Outcome, Threads};
use surestack::error::Error;

pub const EXAMPLES: &str = "\
Examples:
  surestack process 1234                        every thread's stack
  surestack process --threads 1240 1234         one of them
  surestack process --json 1234 | jq '.threads[].verdict.verdict'

The process is stopped while its stacks are read (the report says for how long) and runs on afterwards.

Exit codes: 0 all well, whatever the verdicts; 2 wrong usage; 3 the process cannot be stopped or read; 4 the report is partial, and says why";

#[derive(Args)]
pub struct Process {
    /// The process id
    pid: u32,
    /// Which threads: all, or a thread's id
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = threads)]
    threads: Threads,
    /// How long its threads may take to stop, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    timeout: u64,
    #[command(flatten)]
    shared: Shared,
    #[command(flatten)]
    walking: Walking,
}

fn threads(text: &str) -> Result<Threads, String> {
    match text {
        "all" => Ok(Threads::All),
        id => id.parse().map(Threads::One).map_err(|_| "neither `all` nor the id of a thread".to_owned()),
    }
}

impl Process {
    /// Reports.
    pub fn run(&self) -> Result<Outcome, Error> {
        let options = self.walking.over(self.shared.options(self.threads));
        analyze::process(self.pid, Duration::from_millis(self.timeout), &options, &mut *self.shared.printer())
    }
}
