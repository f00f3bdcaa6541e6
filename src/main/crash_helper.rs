//! `surestack crash-helper`, which handlers start when a process has crashed.

use clap::Args;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use surestack::analyze::{self, Options, Outcome};
use surestack::error::Error;
use surestack::report::json::Json;
use surestack::report::text::{Colour, Length, Text};
use surestack::report::{Head, Printer, Tail, ThreadReport};

#[derive(Args)]
pub struct CrashHelper {
    /// The process that crashed and waits in its handler
    pid: u32,
    /// The record that the handler has written so far
    #[arg(long, value_name = "FILE", default_value = "/proc/self/fd/3")]
    record: PathBuf,
    /// Where the text goes; standard output if neither file is given
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Where the JSON goes
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// After how many milliseconds this ends, whatever it has done
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    deadline: u64,
}

impl CrashHelper {
    /// Reports.
    pub fn run(&self) -> Result<Outcome, Error> {
        end_after(Duration::from_millis(self.deadline));
        let mut printers: Vec<Box<dyn Printer>> = vec![];
        if let Some(path) = &self.text {
            printers.push(text(create(path)?));
        }
        if let Some(path) = &self.json {
            printers.push(Box::new(Json::new(create(path)?)));
        }
        if printers.is_empty() {
            printers.push(text(BufWriter::new(io::stdout())));
        }
        // Half of the time for its threads to stop: what is left then is reported all the same.
        let within = Duration::from_millis(self.deadline / 2);
        analyze::crashed(self.pid, &self.record, within, &Options::default(), &mut All(printers))
    }
}

fn create(path: &Path) -> Result<BufWriter<File>, Error> {
    Ok(BufWriter::new(File::create(path)?))
}

fn text(out: impl Write + 'static) -> Box<dyn Printer> {
    Box::new(Text::new(out, Length::Full, Colour::Never))
}

/// The default action of SIGALRM ends us, and the kernel lets go of whatever we hold.
fn end_after(time: Duration) {
    let part = |value: u128| libc::c_long::try_from(value).unwrap_or(libc::c_long::MAX);
    let value = libc::timeval { tv_sec: part(time.as_secs().into()), tv_usec: part(time.subsec_micros().into()) };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: one structure is read. Who started us may have blocked or ignored the signal: handlers run so.
    unsafe {
        let mut alarm: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut alarm);
        libc::sigaddset(&raw mut alarm, libc::SIGALRM);
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const alarm, std::ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

/// Several printers of the same report.
struct All(Vec<Box<dyn Printer>>);

impl Printer for All {
    fn head(&mut self, head: &Head) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|printer| printer.head(head))
    }

    fn thread(&mut self, thread: &ThreadReport) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|printer| printer.thread(thread))
    }

    fn tail(&mut self, tail: &Tail) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|printer| printer.tail(tail))
    }
}
