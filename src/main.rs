//! The command line: arguments → one library call → print.

#[path = "main/check_cfi.rs"]
mod check_cfi;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;
use surestack::analyze::{self, Options, Outcome, Registers, Threads};
use surestack::error::Error;
use surestack::image::Find;
use surestack::marker::Marking;
use surestack::report::Printer;
use surestack::report::json::Json;
use surestack::report::text::{Colour, Length, Text};
use surestack::trace::Method;

const EXAMPLES: &str = "\
Examples:
  surestack core core.1234                      what happened, and every thread's stack
  surestack core --brief core.1234              the first screen of it
  surestack core --exe ./server core.zst        the program is elsewhere than when it ran
  surestack core --sysroot /srv/image core      all files of another machine or container
  surestack core --threads crashed --registers core
  surestack core --json core | jq '.threads[0].frames[].function'

Exit codes: 0 all well; 2 wrong usage; 3 not a core file, or unreadable; 4 the report is partial, and says why";

/// Stack traces you can trust: every frame says how it was found, every trace whether it is reliable.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reports what happened to the process in a core file (plain or zstd-compressed)
    #[command(after_help = EXAMPLES)]
    Core(Core),
    /// Checks the unwind information of ELF files against their instructions
    CheckCfi(check_cfi::CheckCfi),
}

#[derive(Args)]
struct Core {
    /// The core file
    core: PathBuf,
    /// The program, if it is not where it was when it ran
    #[arg(long, value_name = "FILE")]
    exe: Option<PathBuf>,
    /// A directory that stands in for the root of the file system; may be given several times
    #[arg(long, value_name = "DIR")]
    sysroot: Vec<PathBuf>,
    /// A directory with separate debug files, instead of /usr/lib/debug; may be given several times
    #[arg(long, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,
    /// JSON as described in docs/report.schema.json
    #[arg(long)]
    json: bool,
    /// Only what happened, the verdict, and ten frames of the crashed thread
    #[arg(long, conflicts_with_all = ["json", "explain"])]
    brief: bool,
    /// How each frame is known
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// The registers of every frame, with where they were saved
    #[arg(long)]
    registers: bool,
    /// Which threads: all, crashed, or a thread's id
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = threads)]
    threads: Threads,
    /// Which unwinders are asked
    #[arg(long, value_name = "NAME", default_value = "best")]
    unwinder: UnwinderName,
    /// How entry frames are marked: function=SYMBOL, function=0xADDRESS, tagged, or record=TYPE,FINAL,OFFSET; may be given
    /// several times
    #[arg(long, value_name = "SIGN")]
    marker: Vec<Marking>,
    /// Stop each thread after so many frames
    #[arg(long, value_name = "N")]
    max_frames: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum UnwinderName {
    /// All of ours, strongest first
    Best,
    /// Call frame information and signal frames only
    Cfi,
    /// Frame records and signal frames only
    FramePointer,
    /// The framehop crate
    Framehop,
}

fn threads(text: &str) -> Result<Threads, String> {
    match text {
        "all" => Ok(Threads::All),
        "crashed" => Ok(Threads::Crashed),
        id => id.parse().map(Threads::One).map_err(|_| "neither `all`, `crashed` nor the id of a thread".to_owned()),
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Core(arguments) => core(&arguments),
        Command::CheckCfi(arguments) => arguments.run(),
    }
}

fn core(arguments: &Core) -> ExitCode {
    match analyze::core(&arguments.core, &arguments.options(), &mut *arguments.printer()) {
        Ok(Outcome::Whole) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(4),
        Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("surestack: {error}");
            ExitCode::from(if matches!(error, Error::NoThread { .. } | Error::NoSymbol { .. }) { 2 } else { 3 })
        }
    }
}

impl Core {
    fn options(&self) -> Options {
        let default = Options::default();
        Options {
            find: Find {
                exe: self.exe.clone(),
                sysroots: self.sysroot.clone(),
                debug_dirs: self.debug_dir.clone(),
                ..Find::default()
            },
            method: match self.unwinder {
                UnwinderName::Best => Method::Best,
                UnwinderName::Cfi => Method::Cfi,
                UnwinderName::FramePointer => Method::FramePointer,
                UnwinderName::Framehop => Method::Framehop,
            },
            threads: if self.brief && self.threads == Threads::All { Threads::Crashed } else { self.threads },
            markers: self.marker.clone(),
            budget: self.max_frames.unwrap_or(default.budget),
            registers: if self.registers { Registers::Every } else { Registers::Interrupted },
        }
    }

    fn printer(&self) -> Box<dyn Printer> {
        let out = io::stdout();
        let colour = match anstream::AutoStream::choice(&out) {
            anstream::ColorChoice::Never => Colour::Never,
            _ => Colour::Ansi,
        };
        let out = BufWriter::with_capacity(1 << 16, out);
        if self.json {
            return Box::new(Json::new(out));
        }
        let length = match (self.brief, self.explain) {
            (true, _) => Length::Brief,
            (_, true) => Length::Explained,
            _ => Length::Full,
        };
        Box::new(Text::new(out, length, colour))
    }
}
