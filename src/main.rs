//! The command line: arguments → one library call → print.

#[path = "main/check.rs"]
mod check;
#[path = "main/check_cfi.rs"]
mod check_cfi;
#[path = "main/core.rs"]
mod core_file;
#[path = "main/crash_helper.rs"]
mod crash_helper;
#[path = "main/process.rs"]
mod process;
#[path = "main/recorder.rs"]
mod recorder;
#[path = "main/report.rs"]
mod report;
#[path = "main/shared.rs"]
mod shared;
#[path = "main/verify_handler.rs"]
mod verify_handler;

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use surestack::analyze::Outcome;
use surestack::error::Error;

const EXAMPLES: &str = "\
Examples:
  surestack core core.1234                      what happened, and every thread's stack
  surestack process 1234                        every thread's stack of a running process
  surestack report 1795-4711-9feb.surestack     what a crash handler recorded, with names and verdicts
  surestack recorder --last 20 server.recorder  the last events that a program recorded
  surestack check 1234 --functions targets      may these functions be replaced now?

Exit codes: 0 all well, whatever the verdicts; 2 wrong usage; 3 nothing that can be read; 4 the report is partial, and says
why; of check 0 apply, 1 retry later, 5 refuse; of check-cfi 1 something is contradicted; of
verify-handler 1 something can be reached";

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
    #[command(after_help = core_file::EXAMPLES)]
    Core(core_file::Core),
    /// Reports every thread's stack of a running process, which is stopped for a moment
    #[command(after_help = process::EXAMPLES)]
    Process(process::Process),
    /// Reports what happened to the process whose crash handler left a record
    #[command(after_help = report::EXAMPLES)]
    Report(report::Report),
    /// Shows what a flight recorder kept: a program's last events, and what held for it
    #[command(after_help = recorder::EXAMPLES)]
    Recorder(recorder::Recorder),
    /// Answers lines of JSON about stopped threads, for other tools (docs/serve.md)
    Serve,
    /// Says whether functions of a process may be replaced now, or could have been in a core file
    #[command(after_help = check::EXAMPLES)]
    Check(check::Check),
    /// Checks the unwind information of ELF files against their instructions
    CheckCfi(check_cfi::CheckCfi),
    /// What a handler starts when its process has crashed
    #[command(hide = true)]
    CrashHelper(crash_helper::CrashHelper),
    /// Lists what a signal handler can reach in a linked file that is not safe there
    #[command(after_help = verify_handler::EXAMPLES)]
    VerifyHandler(verify_handler::VerifyHandler),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Core(arguments) => arguments.run(),
        Command::Process(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run(),
        Command::Recorder(arguments) => arguments.run(),
        Command::Serve => {
            let (input, output) = (io::stdin().lock(), io::stdout().lock());
            surestack::serve::serve(input, output).map(|()| Outcome::Whole).map_err(Error::Write)
        }
        Command::Check(arguments) => return arguments.run(),
        Command::CrashHelper(arguments) => arguments.run(),
        Command::CheckCfi(arguments) => return arguments.run(),
        Command::VerifyHandler(arguments) => return arguments.run(),
    };
    match outcome {
        Ok(Outcome::Whole) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(4),
        Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("surestack: {error}");
            ExitCode::from(if error.is_usage() { 2 } else { 3 })
        }
    }
}
