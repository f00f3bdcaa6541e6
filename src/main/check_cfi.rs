//! `surestack check-cfi`.

use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use surestack::check_cfi::{self, Checked};

/// Arguments of `check-cfi`.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 nothing is contradicted; 1 something is; 2 wrong usage; 3 a file cannot be read")]
pub struct CheckCfi {
    /// ELF files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One table row for each file, instead of every contradiction
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// One JSON object for each file
    #[arg(long)]
    json: bool,
    /// Writes two tables about the files into this document, between its markers `<!-- check-cfi: begin -->` and
    /// `<!-- check-cfi: end -->` where it has them
    #[arg(long, value_name = "DOCUMENT", conflicts_with_all = ["json", "table"])]
    document: Option<PathBuf>,
}

impl CheckCfi {
    /// Checks the files and prints what was found: 0 nothing is contradicted, 1 something is, 3 a file cannot be read.
    pub fn run(&self) -> ExitCode {
        if let Some(path) = &self.document {
            return match check_cfi::document::write(path, &self.files) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    anstream::eprintln!("surestack: {error}");
                    ExitCode::from(3)
                }
            };
        }
        let mut out = io::stdout().lock();
        let (mut contradicted, mut unreadable) = (false, false);
        if self.table {
            let _ = writeln!(out, "{}", check_cfi::TABLE_HEAD);
        }
        for path in &self.files {
            let name = path.display().to_string();
            match check_cfi::file(path) {
                Ok(checked) => {
                    contradicted |= !checked.contradictions.is_empty();
                    // Nobody is left to tell when the reader is gone.
                    let _ = self.print(&mut out, &name, &checked);
                }
                Err(error) => {
                    unreadable = true;
                    anstream::eprintln!("surestack: {error}");
                }
            }
        }
        ExitCode::from(if unreadable { 3 } else { u8::from(contradicted) })
    }

    fn print(&self, out: &mut dyn Write, name: &str, checked: &Checked) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", checked.json(name));
        }
        if self.table {
            return writeln!(out, "{}", checked.table_row(name));
        }
        checked.text(name, out)
    }
}
