//! The module map and the recorder's ring under a model checker: every order in which a reader and a writer can run.

use std::path::Path;
use std::process::Command;

#[test]
fn no_order_of_reader_and_writer_gives_a_torn_answer() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loom/Cargo.toml");
    let run = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--manifest-path"])
        .arg(manifest)
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("loom"))
        .output()
        .expect("cargo runs");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains("test result: ok. 7 passed"), "{said}");
}
