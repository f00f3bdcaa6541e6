//! The programs whose stacks are traced: compiled here, with frame pointers and without, and loaded.

use std::error::Error;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// How a program was compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    FramePointers,
    Without,
}

impl Flavour {
    /// For gcc, and for rustc.
    fn flags(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::FramePointers => (&["-fno-omit-frame-pointer", "-DFRAME_POINTERS"], "force-frame-pointers=yes"),
            Self::Without => (&["-fomit-frame-pointer"], "force-frame-pointers=no"),
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::FramePointers => "fp",
            Self::Without => "nofp",
        }
    }
}

/// A function of a program: calls the next one. `link_of` in `chain.h`.
pub type Link = unsafe extern "C" fn(*mut c_void) -> usize;

/// The objects that stacks of many kinds of frames are made of, besides the C library.
const OBJECTS: [&str; 5] = ["plain.c", "callbacks.c", "objects.cpp", "templates.cpp", "closures.rs"];

/// Ten thousand functions.
const MANY: &str = "many.c";

/// All of one flavour.
pub struct Programs {
    /// One function that is its own caller.
    pub recursive: Link,
    /// Calls the leaf: the last link of every stack.
    pub leaf: Link,
    /// Goes on in the handler of a signal.
    pub by_signal: Link,
    /// Every kind of frame, from all objects.
    pub kinds: Vec<Link>,
}

impl Programs {
    pub fn load(flavour: Flavour) -> Result<Self, Box<dyn Error>> {
        let [plain, others @ ..] = OBJECTS;
        let mut kinds = links(plain, flavour)?;
        let leaf = kinds.pop().ok_or("no leaf")?;
        let recursive = *kinds.first().ok_or("no recursive function")?;
        for object in others {
            kinds.extend(links(object, flavour)?);
        }
        let by_signal = *links("trap.c", flavour)?.first().ok_or("no trap")?;
        Ok(Self { recursive, leaf, by_signal, kinds })
    }
}

/// The 10,000 functions.
pub fn many(flavour: Flavour) -> Result<Vec<Link>, Box<dyn Error>> {
    links(MANY, flavour)
}

/// Compiles what is not compiled yet.
pub fn build() -> Result<(), Box<dyn Error>> {
    for object in OBJECTS.iter().chain(&["trap.c", MANY]) {
        let built = [Flavour::FramePointers, Flavour::Without]
            .map(|flavour| std::thread::spawn(move || compiled(object, flavour).map_err(|error| error.to_string())));
        for one in built {
            one.join().map_err(|_| "the compiler's thread panicked")??;
        }
    }
    Ok(())
}

/// The functions of one object, which it lists up to a null.
fn links(object: &str, flavour: Flavour) -> Result<Vec<Link>, Box<dyn Error>> {
    let path = path(object, flavour)?;
    // SAFETY: our own library, that runs nothing when it is loaded.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(format!("{object} is not loaded").into());
    }
    // SAFETY: a library that stays loaded.
    let mut at = unsafe { libc::dlsym(library, c"links".as_ptr()) }.cast::<Option<Link>>();
    if at.is_null() {
        return Err(format!("{object} has no links").into());
    }
    let mut links = Vec::new();
    // SAFETY: a null ends the list.
    while let Some(link) = unsafe { *at } {
        links.push(link);
        // SAFETY: the null is still to come.
        at = unsafe { at.add(1) };
    }
    Ok(links)
}

fn path(object: &str, flavour: Flavour) -> Result<CString, Box<dyn Error>> {
    Ok(CString::new(compiled(object, flavour)?.into_os_string().into_encoded_bytes())?)
}

/// Where the object is, after compiling it unless it is newer than its sources.
fn compiled(object: &str, flavour: Flavour) -> Result<PathBuf, Box<dyn Error>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fast/programs");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fast").join(flavour.folder());
    let (source, built) = (sources.join(object), folder.join(object).with_extension("so"));
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if changed(&built) > changed(&source).max(changed(&sources.join("chain.h"))) {
        return Ok(built);
    }
    std::fs::create_dir_all(&folder)?;
    // Whole at once: somebody else may be waiting for it.
    let partial = built.with_extension(format!("{}.so", std::process::id()));
    let (flags, rust_flag) = flavour.flags();
    let gcc = |program: &str| {
        let mut gcc = Command::new(program);
        gcc.args(["-O2", "-w", "-fPIC", "-Wl,-z,lazy"]).args(flags);
        gcc
    };
    if object == MANY {
        let part = |which: &str| {
            let part = partial.with_extension(format!("{which}.o"));
            done(gcc("gcc").args(["-c", "-D", which]).arg(&source).arg("-o").arg(&part)).map(|()| part)
        };
        let (first, last, thousand) = (part("FIRST")?, part("LAST")?, part("THOUSANDTHS")?);
        let parts = std::iter::once(&first).chain([&thousand; 10]).chain([&last]);
        done(gcc("gcc").arg("-shared").args(parts).arg("-o").arg(&partial))?;
        [first, last, thousand].iter().try_for_each(std::fs::remove_file)?;
    } else if object.ends_with(".rs") {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-Copt-level=2", "-Cpanic=abort"]);
        rustc.args(["-Cforce-unwind-tables=yes", "-C", rust_flag]).arg(&source);
        done(rustc.arg("-o").arg(&partial))?;
    } else {
        let program = if object.ends_with(".cpp") { "g++" } else { "gcc" };
        done(gcc(program).arg("-shared").arg(&source).arg("-o").arg(&partial))?;
    }
    std::fs::rename(partial, &built)?;
    Ok(built)
}

/// Runs a compiler.
fn done(compiler: &mut Command) -> Result<(), Box<dyn Error>> {
    let output = compiler.output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}
