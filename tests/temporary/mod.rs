//! Files that one run of a test needs to its end, where anybody may read and run them.

use std::path::PathBuf;
use std::sync::Mutex;

static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A path of this run's own, removed when it ends.
pub fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("surestack-{}-{name}", std::process::id()));
    let mut made = MADE.lock().unwrap();
    if made.is_empty() {
        // SAFETY: the function is there until the process ends.
        assert_eq!(unsafe { libc::atexit(remove) }, 0);
    }
    made.push(path.clone());
    path
}

extern "C" fn remove() {
    for path in MADE.lock().map(|made| made.clone()).unwrap_or_default() {
        let _ = std::fs::remove_file(path);
    }
}
