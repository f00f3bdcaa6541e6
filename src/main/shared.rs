//! The arguments that reports of every kind share.

use clap::{Args, ValueEnum};
use std::io::{self, BufWriter};
use std::path::PathBuf;
use surestack::analyze::{Options, Registers, Threads};
use surestack::image::Find;
use surestack::marker::Marking;
use surestack::report::Printer;
use surestack::report::json::Json;
use surestack::report::text::{Colour, Length, Text};
use surestack::trace::Method;

/// What reports of every kind take.
#[derive(Args)]
pub struct Shared {
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
    /// How many of the flight recorder's last events are shown, of the crashed thread and of all; JSON has all that are there
    #[arg(long, value_name = "N", default_value_t = 32, conflicts_with_all = ["json", "brief"])]
    last: usize,
    /// The registers of every frame, with where they were saved
    #[arg(long)]
    registers: bool,
}

/// What reports take whose stacks are walked anew.
#[derive(Args)]
pub struct Walking {
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

impl Shared {
    /// As the library takes them.
    pub fn options(&self, threads: Threads) -> Options {
        Options {
            find: Find { sysroots: self.sysroot.clone(), debug_dirs: self.debug_dir.clone(), ..Find::default() },
            threads: if self.brief && threads == Threads::All { Threads::Crashed } else { threads },
            registers: if self.registers { Registers::Every } else { Registers::Interrupted },
            ..Options::default()
        }
    }

    /// Where the report goes.
    pub fn printer(&self) -> Box<dyn Printer> {
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
        Box::new(Text::new(out, length, colour).last(self.last))
    }
}

impl Walking {
    /// `options` for walking like this.
    pub fn over(&self, options: Options) -> Options {
        Options {
            method: match self.unwinder {
                UnwinderName::Best => Method::Best,
                UnwinderName::Cfi => Method::Cfi,
                UnwinderName::FramePointer => Method::FramePointer,
                UnwinderName::Framehop => Method::Framehop,
            },
            markers: self.marker.clone(),
            budget: self.max_frames.unwrap_or(options.budget),
            ..options
        }
    }
}
