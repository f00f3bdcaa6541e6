//! The example that samples its own process.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::path::PathBuf;
use std::process::Command;

/// Built beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/sampler");
    assert!(example.exists(), "`cargo test` builds it, as does `cargo build --example sampler`");
    example
}

#[test]
fn folded_stacks_have_the_work_where_it_was_called() {
    let out = std::env::temp_dir().join(format!("surestack-sampler-{}", std::process::id()));
    let mut command = Command::new(example());
    command.args(["--by", "surestack", "--seconds", "0.2", "--out"]).arg(&out);
    let ran = command.output().unwrap();
    let folded = std::fs::read_to_string(out.join("surestack.folded")).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&out);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let (mut samples, mut at_work, mut called_back) = (0, 0, 0);
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a count");
        let count: usize = count.parse().expect("a number");
        let frames: Vec<&str> = stack.split(';').collect();
        assert!(count > 0 && frames.iter().all(|frame| !frame.is_empty()), "{line}");
        samples += count;
        let at = |name: &str| frames.iter().position(|frame| frame.rsplit("::").next() == Some(name));
        if let Some(work) = at("work") {
            let below = frames[..work].iter().any(|frame| frame.contains("sampled"));
            let is_round = frames.get(work + 1).is_some_and(|frame| frame.ends_with("round"));
            at_work += if below && is_round { count } else { 0 };
        }
        // From Rust through the C library into Rust.
        if let (Some(sort), Some(compare)) = (at("sort_in_c"), at("compare")) {
            called_back += if sort + 1 < compare { count } else { 0 };
        }
    }
    assert!(samples > 30, "{samples} samples");
    assert!(at_work * 10 >= samples * 9, "{at_work} of {samples}");
    assert!(called_back > 0, "none of {samples}");
}
