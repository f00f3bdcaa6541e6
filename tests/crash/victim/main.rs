//! The victim: dies in the way that `CRASH_SCENE` names, under the handler that `CRASH_CONTENDER` names.

mod contender;
mod rust;

use std::env;
use std::ffi::{CString, c_char, c_int};

unsafe extern "C-unwind" {
    fn truth_map();
    fn prepare_scene(name: *const c_char);
    fn run_scene(name: *const c_char) -> c_int;
}

#[inline(never)]
fn main() {
    let scene = env::var("CRASH_SCENE").unwrap_or_default();
    let name = CString::new(scene.clone()).unwrap_or_default();
    // SAFETY: the string outlives the calls; this is the only thread yet.
    unsafe {
        truth_map();
        prepare_scene(name.as_ptr());
    }
    contender::install();
    if rust::run(&scene) {
        return;
    }
    // SAFETY: the string outlives the call.
    let found = unsafe { run_scene(name.as_ptr()) };
    if found < 0 {
        eprintln!("no scene is called {scene}");
        std::process::exit(69);
    }
}
