//! `surestack verify-handler`.

use clap::Args;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use surestack::verify::{self, Beliefs, Options, Thread};

pub const EXAMPLES: &str = "\
Examples:
  surestack verify-handler ./program --root on_crash --allow write --allow _exit
  surestack verify-handler libhandler.so --json

Exit codes: 0 nothing forbidden can be reached; 1 something can; 2 wrong usage; 3 the file cannot be read (docs/signal-safe.md)";

/// Arguments of `verify-handler`.
#[derive(Args)]
pub struct VerifyHandler {
    /// A linked x86_64 program or library, with its symbols
    #[arg(value_name = "BINARY")]
    binary: PathBuf,
    /// A function to begin with, as in the source or mangled; without any, `surestack_signal_entry`
    #[arg(long, value_name = "SYMBOL")]
    root: Vec<String>,
    /// A function that may be called, besides memcpy, memset, memmove, memcmp, bcmp and strlen; `*` at its end stands for
    /// anything
    #[arg(long, value_name = "SYMBOL")]
    allow: Vec<String>,
    /// Thread-local storage may be touched
    #[arg(long)]
    allow_tls: bool,
    /// Calls through what may be a vtable, and entries to a panic, are violations too
    #[arg(long)]
    strict: bool,
    /// Lines of `function ; calls ; reason`: indirect calls that you vouch for
    #[arg(long, value_name = "FILE")]
    annotations: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl VerifyHandler {
    /// Verifies and prints.
    pub fn run(&self) -> ExitCode {
        let annotations = match self.annotations.as_deref().map(verify::annotations).transpose() {
            Ok(annotations) => annotations.unwrap_or_default(),
            Err(error) => {
                anstream::eprintln!("surestack: {error}");
                return ExitCode::from(2);
            }
        };
        let thread = if self.allow_tls { Thread::Allowed } else { Thread::Refused };
        let beliefs = if self.strict { Beliefs::Refused } else { Beliefs::Listed };
        let options = Options { roots: self.root.clone(), allowed: self.allow.clone(), annotations, thread, beliefs };
        let verified = match verify::file(&self.binary, &options) {
            Ok(verified) => verified,
            Err(error) => {
                let hint = if error.is_usage() && self.root.is_empty() { "; name the handler with --root" } else { "" };
                anstream::eprintln!("surestack: {error}{hint}");
                return ExitCode::from(if error.is_usage() { 2 } else { 3 });
            }
        };
        let name = self.binary.display().to_string();
        let mut out = io::stdout().lock();
        // Nobody is left to tell when the reader is gone.
        let _ = if self.json {
            io::Write::write_all(&mut out, format!("{}\n", verified.json(&name)).as_bytes())
        } else {
            verified.text(&name, &mut out)
        };
        ExitCode::from(u8::from(!verified.violations.is_empty()))
    }
}
