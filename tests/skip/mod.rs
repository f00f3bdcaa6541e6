//! A line about what a test could not try here, which is seen although the test passes.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::Write;

/// Says that something was skipped, and why: past the test harness, which keeps what passing tests print to itself.
/// `.ci/run` counts these lines.
pub fn skipped(why: &str) {
    // The harness may be in the middle of a line.
    let line = format!("\nskipped: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}
