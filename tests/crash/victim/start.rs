//! Dies in the way that `CRASH_SCENE` names, under the handler that `CRASH_CONTENDER` names.

use crate::rust;
use std::env;
use std::ffi::{CString, c_char, c_int};

unsafe extern "C-unwind" {
    fn truth_map();
    fn prepare_scene(name: *const c_char);
    fn run_scene(name: *const c_char) -> c_int;
}

/// The whole of a victim's main.
#[inline(never)]
pub fn start() {
    let scene = env::var("CRASH_SCENE").unwrap_or_default();
    let name = CString::new(scene.clone()).unwrap_or_default();
    // SAFETY: the string outlives the calls; this is the only thread yet.
    unsafe {
        truth_map();
        prepare_scene(name.as_ptr());
    }
    install_contender();
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

/// Installs the handler that the environment names. Called by C for scenes that die before main.
#[unsafe(no_mangle)]
extern "C" fn install_contender() {
    let name = env::var("CRASH_CONTENDER").unwrap_or_default();
    let installed = match name.as_str() {
        "none" | "std" => Ok(()),
        other => crate::install(other),
    };
    if let Err(why) = installed {
        eprintln!("{why}");
        std::process::exit(68);
    }
}
