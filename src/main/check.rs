//! `surestack check`: may these functions be replaced now?

use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;
use surestack::consistency::{self, Examined, Named, Overall, Request, Vouch};
use surestack::error::Error;
use surestack::image::Find;
use surestack::snapshot::process::hold::{Hold, Options};
use surestack::snapshot::{Snapshot, core_file};
use surestack::symbol::{Store, Symbols};
use surestack::trace::Known;

pub const EXAMPLES: &str = "\
Examples:
  surestack check 1234 --functions targets                which threads stand in the way, and what to wait for
  surestack check --retries 50 --every 20 1234 --functions targets
  surestack check core.1234 --functions targets --json    could they have been replaced then?

The process is stopped while it is looked at, and runs on afterwards.

Exit codes: 0 apply; 1 retry later; 5 refuse; 2 wrong usage, a name that fits no function or several; 3 unreadable";

#[derive(Args)]
pub struct Check {
    /// The process, by its id, or a core file
    target: String,
    /// A file with one target a line: NAME, FILE:NAME, 0xLO-0xHI, buildid:HEX:0xLO-0xHI; behind it `vouch` (its ranges are
    /// complete) or `all` (several functions may have the name)
    #[arg(long, value_name = "FILE")]
    functions: PathBuf,
    /// What you vouch for: complete (the ranges of all targets), setjmp (no longjmp leads back into them), stacks (all are
    /// threads'), frames (no stack lies in another's frame), or 0xLO-0xHI (no stack lies there); may be given several times
    #[arg(long, value_name = "WHAT", value_parser = vouch)]
    vouch: Vec<Vouch>,
    /// JSON as described in docs/check.schema.json
    #[arg(long)]
    json: bool,
    /// The program, if it is not where it was when it ran
    #[arg(long, value_name = "FILE")]
    exe: Option<PathBuf>,
    /// A directory that stands in for the root of the file system; may be given several times
    #[arg(long, value_name = "DIR")]
    sysroot: Vec<PathBuf>,
    /// Ask a process again, up to so many times, while the answer is to retry later
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Milliseconds between two asks
    #[arg(long, value_name = "MS", default_value_t = 100)]
    every: u64,
}

fn vouch(text: &str) -> Result<Vouch, String> {
    match text {
        "complete" => Ok(Vouch::RangesComplete),
        "setjmp" => Ok(Vouch::NoJumps),
        "stacks" => Ok(Vouch::StacksListed),
        "frames" => Ok(Vouch::FramesHoldNoStacks),
        range => match range.parse::<Named>().map(|named| named.place) {
            Ok(consistency::Place::Addresses(range)) => Ok(Vouch::NoStackIn(range)),
            _ => Err("neither complete, setjmp, stacks, frames nor 0xLO-0xHI".to_owned()),
        },
    }
}

impl Check {
    /// Runs it: 0 apply, 1 retry later, 5 refuse, 2 wrong usage, 3 unreadable.
    pub fn run(&self) -> ExitCode {
        match self.decide() {
            Ok(Overall::Apply) => ExitCode::SUCCESS,
            Ok(Overall::RetryLater(_)) => ExitCode::from(1),
            Ok(Overall::Refuse(_)) => ExitCode::from(5),
            Err(error) => {
                anstream::eprintln!("surestack: {error}");
                ExitCode::from(if error.is_usage() { 2 } else { 3 })
            }
        }
    }

    fn decide(&self) -> Result<Overall, Error> {
        let read = |source| Error::Read { path: self.functions.clone(), source };
        let names = Named::list(&std::fs::read_to_string(&self.functions).map_err(read)?)?;
        let request = Request { names, vouches: self.vouch.clone(), ..Request::default() };
        let find = Find { exe: self.exe.clone(), sysroots: self.sysroot.clone(), ..Find::default() };
        match self.target.parse() {
            Ok(pid) => self.process(pid, find, &request),
            Err(_) => self.core(Path::new(&self.target), &find, &request),
        }
    }

    fn process(&self, pid: u32, find: Find, request: &Request<'_>) -> Result<Overall, Error> {
        let options = Options { find, ..Options::default() };
        let mut left = self.retries;
        loop {
            let hold = Hold::stop(pid, &options)?;
            let checked = consistency::check(&hold, &Known::default(), request)?;
            let examined = checked.examined().clone();
            let (snapshot, _) = hold.resume();
            if left == 0 || !matches!(examined.decision.overall, Overall::RetryLater(_)) {
                self.print(&snapshot, &examined);
                return Ok(examined.decision.overall);
            }
            left = left.saturating_sub(1);
            sleep(Duration::from_millis(self.every));
        }
    }

    fn core(&self, path: &Path, find: &Find, request: &Request<'_>) -> Result<Overall, Error> {
        let snapshot = core_file::open(path, find)?;
        let examined = consistency::examine(&snapshot, &Known::default(), request)?;
        self.print(&snapshot, &examined);
        Ok(examined.decision.overall)
    }

    fn print(&self, snapshot: &Snapshot, examined: &Examined) {
        if self.json {
            anstream::println!("{:#}", consistency::json(examined));
            return;
        }
        let store = Store::default();
        let symbols = Symbols::new(snapshot, &store);
        let name = |pc| symbols.symbol(pc).functions.last().map(|function| function.name.clone());
        anstream::print!("{}", consistency::Text::new(examined, &name));
    }
}
