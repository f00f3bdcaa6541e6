//! A small library that is loaded and unloaded all the time.

use super::cpu;
use std::error::Error;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a library that went stays away.
const PAUSE: Duration = Duration::from_micros(500);

/// A small library, in a file.
pub struct Library {
    path: PathBuf,
}

impl Library {
    /// Compiles it.
    pub fn build() -> Result<Self, Box<dyn Error>> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (path, source) = (folder.join("scaling.so"), folder.join("scaling.c"));
        std::fs::write(&source, "int scaling(int n) { volatile char room[64]; room[n & 63] = 1; return room[0]; }")?;
        let mut gcc = Command::new("gcc");
        gcc.args(["-O1", "-shared", "-fPIC", "-Wl,--build-id", "-o"]).arg(&path).arg(&source);
        if gcc.status()?.success() { Ok(Self { path }) } else { Err("gcc refused the library".into()) }
    }

    /// What it costs to tell the map that nothing changed, that this came, and that it went.
    pub fn refreshes(&self) -> Result<[Duration; 3], Box<dyn Error>> {
        let refreshed = || {
            let before = cpu();
            surestack::this_process::refresh();
            cpu() - before
        };
        let nothing = refreshed();
        let loaded = Loaded::new(&self.path)?;
        let came = refreshed();
        drop(loaded);
        Ok([nothing, came, refreshed()])
    }

    /// So many copies of it, loaded.
    pub fn copies(&self, count: usize) -> Result<Vec<Loaded>, Box<dyn Error>> {
        let copy = |number: usize| {
            let path = self.path.with_extension(format!("{number}.so"));
            std::fs::copy(&self.path, &path)?;
            Ok(Loaded::new(&path)?)
        };
        (0..count).map(copy).collect()
    }
}

/// A library that is loaded as long as this is.
pub struct Loaded(*mut libc::c_void);

impl Loaded {
    fn new(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a string that ends with zero, and a library without initialisers.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() { Err(io::Error::other("the library cannot be loaded")) } else { Ok(Self(handle)) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: nothing of it is used any more.
        unsafe { libc::dlclose(self.0) };
    }
}

/// A thread that loads the library and unloads it, again and again, and tells the map each time.
pub struct Churn {
    done: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Churn {
    /// Starts the thread.
    pub fn begin(library: &Library) -> Result<Self, Box<dyn Error>> {
        drop(Loaded::new(&library.path)?);
        let (done, path) = (Arc::new(AtomicBool::new(false)), library.path.clone());
        let stop = Arc::clone(&done);
        let thread = std::thread::Builder::new().spawn(move || {
            let (mut cycles, begun) = (0u32, Instant::now());
            while !stop.load(Ordering::Relaxed) {
                let loaded = Loaded::new(&path).expect("it was loaded before");
                surestack::this_process::refresh();
                drop(loaded);
                surestack::this_process::refresh();
                cycles += 1;
                std::thread::sleep(PAUSE);
            }
            f64::from(cycles) / begun.elapsed().as_secs_f64()
        })?;
        Ok(Self { done, thread })
    }

    /// Stops it. Returns how often a second the library came and went.
    pub fn end(self) -> f64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the library comes and goes")
    }
}
