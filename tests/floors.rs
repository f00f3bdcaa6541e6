//! Arrows between the modules of `src/` point down only; Rust itself would allow a cycle.

use std::fs;
use std::path::{Path, PathBuf};

/// Floors from top to bottom; a module may name those on its own floor and below.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["consistency", "crash"],
    &["analyze", "serve", "check_cfi", "verify", "previous"],
    &["report", "trace", "fold"],
    &["symbol", "evidence", "corrected", "rows", "marker", "thread_start", "this_process"],
    &["proof"],
    &["analysis", "snapshot", "image", "recorder"],
    &["error", "kept"],
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The modules named by `crate::` in a line, those of `use crate::{a::B, c}` included.
fn named(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    let paths = code.split("crate::").skip(1);
    let each = paths.flat_map(|path| path.strip_prefix('{').map_or(vec![path], |list| list.split(',').collect()));
    each.filter_map(|path| path.trim().split(|c: char| c != '_' && !c.is_alphanumeric()).next()).collect()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src/ can be listed") {
        let path = entry.expect("src/ can be listed").path();
        if path.is_dir() { sources(&path, into) } else { into.push(path) }
    }
}

#[test]
fn no_module_names_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut upward = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs")) {
        let own = file.strip_prefix(&src).expect("a file of src/").with_extension("");
        let own = own.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let Some(own_floor) = floor(own) else { continue };
        for (number, line) in fs::read_to_string(file).expect("a readable source").lines().enumerate() {
            for name in named(line).into_iter().filter(|name| *name != own) {
                if floor(name).is_some_and(|other| other < own_floor) {
                    upward.push(format!("{}:{}: {own} names {name}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(upward.is_empty(), "arrows pointing up:\n{}", upward.join("\n"));
}

#[test]
fn every_module_has_its_floor() {
    let root = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("a readable source");
    let modules =
        root.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let without: Vec<_> = modules.filter(|module| floor(module).is_none()).collect();
    assert_eq!(without, [""; 0]);
}
