//! A program that makes chains of calls of every form, says where each of them is, and waits.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A chain that the program made: a called b, which called c.
pub struct Chain {
    /// The form of a's call of b.
    pub name: String,
    /// Where a's call of b returns to.
    pub in_a: u64,
    /// Where b's call of c returns to.
    pub in_b: u64,
    /// Where c is.
    pub pc: u64,
}

/// A program that waits; it ends with this.
pub struct Waiting {
    child: Child,
    folder: PathBuf,
    lines: Vec<String>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Waiting {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The chains it made.
    pub fn chains(&self) -> Vec<Chain> {
        let chain = |line: &String| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| u64::from_str_radix(words[at].trim_start_matches("0x"), 16).unwrap();
            Chain { name: words[0].to_owned(), in_a: number(1), in_b: number(2), pc: number(3) }
        };
        self.lines.iter().map(chain).collect()
    }
}

/// Builds `tests/waiting/chains.cc` and its library with these flags, and runs it up to its end.
pub fn run(name: &str, compiler: &str, flags: &[&str]) -> Waiting {
    let folder = std::env::temp_dir().join(format!("surestack-waiting-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/waiting");
    let (program, library) = (folder.join("chains"), folder.join("library.so"));
    let mut link = Command::new(compiler);
    link.arg(sources.join("chains.cc")).args(flags).arg("-o").arg(&program);
    if !flags.contains(&"-DONE_FILE") {
        let made = Command::new(compiler)
            .args(["-O2", "-fPIC", "-shared"])
            .arg(sources.join("library.cc"))
            .arg("-o")
            .arg(&library)
            .status()
            .unwrap();
        assert!(made.success());
        link.arg(&library);
    }
    assert!(link.status().unwrap().success());
    let mut child = Command::new(&program).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines = lines.take_while(|line| line != "done").collect();
    Waiting { child, folder, lines }
}
