//! Names of a backtrace of our own: what a report on a core says, and what other tools say.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "names/mod.rs"]
mod wide;

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use surestack::image::Find;
use surestack::snapshot::Identity;
use surestack::snapshot::process::StoppedProcess;
use surestack::symbol::{Origin, Store, Symbols};
use surestack::this_process::{Named, Names, Trace, refresh};
use surestack::walk::CodeAddress;
use wide::Wide;

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("surestack-names-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// The stack of Rust, C and C++, innermost first.
fn stack() -> &'static [CodeAddress] {
    static STACK: OnceLock<Vec<CodeAddress>> = OnceLock::new();
    STACK.get_or_init(|| {
        let wide = Wide::load(folder());
        refresh();
        let mut pcs = Vec::new();
        wide.descend(4, &mut || {
            let trace: Trace<128> = Trace::capture();
            pcs = trace.frames().map(|frame| frame.pc).collect();
        });
        pcs
    })
}

/// `function:line` of all calls, innermost first.
fn calls(named: &Named) -> Vec<(String, Option<u32>)> {
    let functions = named.symbol().functions.iter();
    functions.map(|call| (call.name.clone(), call.location.as_ref().and_then(|place| place.line))).collect()
}

#[test]
fn a_backtrace_has_the_names_that_a_report_on_its_process_has() {
    let named = Names::new().of(stack());
    let process = StoppedProcess::open(std::process::id(), Find::default()).unwrap();
    let store = Store::default();
    let symbols = Symbols::new(process.snapshot(), &store);
    assert!(named.len() > 40, "{}", named.len());
    for (named, pc) in named.iter().zip(stack()) {
        assert_eq!(*named.symbol(), *symbols.symbol(*pc), "at {pc}");
        assert_eq!(named.pc(), *pc);
    }
}

#[test]
fn inlined_calls_stand_before_the_function_they_were_inlined_into() {
    let named = Names::new().of(stack());
    let of = |function: &str| {
        named.iter().find(|named| named.function().is_some_and(|known| known.name == function)).expect("it is there")
    };
    let compare = of("compare");
    assert_eq!(compare.inlined().iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["pass_on"]);
    assert_eq!(calls(compare), [("pass_on".into(), Some(15)), ("compare".into(), Some(20))]);
    assert_eq!(compare.location().and_then(|place| place.line), Some(15));
    assert_eq!(compare.origin(), Origin::Dwarf);
    assert_eq!(compare.module().map(|module| module.identity.clone()), Some(Identity::BuildId));
    assert!(of("(anonymous namespace)::printed").location().is_some_and(|place| place.file.ends_with("wide.cc")));
    let draw = of("wide::Square<double>::draw(std::function<void ()> const&)");
    assert!(draw.inlined().iter().any(|call| call.name.contains("std::sort<")), "{draw}");
    // Rust: a function that is inlined into one that is called by C.
    let through = named.iter().find(|named| calls(named).iter().any(|(name, _)| name.ends_with("inner"))).unwrap();
    assert!(through.function().is_some_and(|known| known.name.ends_with("through")), "{through}");
}

#[test]
fn each_call_has_the_line_that_binutils_give_it() {
    let named = Names::new().of(stack());
    let mut compared = 0;
    for named in named.iter().filter(|named| named.origin() == Origin::Dwarf) {
        // Not every build of theirs looks for separate debug files.
        let Some(module) = named.module().filter(|module| module.debug.is_none()) else { continue };
        let linked = format!("{:#x}", named.pc().lookup().wrapping_sub(module.bias));
        let said = Command::new("addr2line").args(["-i", "-e"]).arg(&module.path).arg(linked).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let theirs = said.lines().map(|line| {
            let mut parts = line.split(':');
            let file = Path::new(parts.next().unwrap_or_default()).file_name().map(ToOwned::to_owned);
            (
                file,
                parts
                    .next()
                    .and_then(|line| line.split(' ').next())
                    .and_then(|line| line.parse::<u32>().ok())
                    .filter(|line| *line != 0),
            )
        });
        let ours = named.symbol().functions.iter().map(|call| {
            let place = call.location.as_ref();
            (place.and_then(|place| place.file.file_name()).map(ToOwned::to_owned), place.and_then(|place| place.line))
        });
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{named}");
        compared += 1;
    }
    assert!(compared > 25, "{compared}");
}

#[test]
fn whoever_asks_again_gets_the_same() {
    let mut names = Names::new();
    let first: Vec<_> = names.of(stack()).iter().map(ToString::to_string).collect();
    assert_eq!(names.of(stack()).iter().map(ToString::to_string).collect::<Vec<_>>(), first);
    assert_eq!(names.refused().count(), 0);
}

/// Loads a library of its own; where its function is, and the handle.
fn load(name: &str) -> (PathBuf, *mut libc::c_void, CodeAddress) {
    let home = folder().join(name);
    std::fs::create_dir_all(&home).unwrap();
    let library = wide::library(&home, "wide.c", "gcc");
    let path = CString::new(library.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the library has no constructors of note.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    // SAFETY: the handle is one.
    let function = unsafe { libc::dlsym(handle, c"wide_c".as_ptr()) };
    assert!(!function.is_null());
    refresh();
    (library, handle, CodeAddress::Exact(function as u64 + 8))
}

#[test]
fn what_was_unloaded_is_forgotten() {
    let (_, handle, pc) = load("unloaded");
    let mut names = Names::new();
    assert_eq!(names.of(&[pc])[0].function().map(|known| known.name.as_str()), Some("wide_c"));
    // SAFETY: nobody is in the library.
    unsafe { libc::dlclose(handle) };
    let named = &names.of(&[pc])[0];
    assert!(named.function().is_none() && named.module().is_none(), "{named}");
}

#[test]
fn a_file_that_is_another_one_gives_no_names_and_is_told() {
    let (library, _, pc) = load("replaced");
    // Another build ID, from now on.
    let bytes = std::fs::read(&library).unwrap();
    let note = bytes.windows(4).position(|word| word == b"GNU\0").unwrap() + 4;
    let file = File::options().write(true).open(&library).unwrap();
    file.write_all_at(&[!bytes[note]], note as u64).unwrap();
    let mut names = Names::new();
    let named = &names.of(&[pc])[0];
    assert!(named.function().is_none() && named.location().is_none(), "{named}");
    assert!(matches!(named.module().map(|module| &module.identity), Some(Identity::Replaced { .. })), "{named:?}");
    let refused: Vec<String> = names.refused().map(ToString::to_string).collect();
    assert!(matches!(&refused[..], [why] if why.contains("wide.c.so is not the file that is mapped")), "{refused:?}");
}

#[test]
fn a_file_that_is_gone_is_told_or_read_through_its_mapping() {
    let (library, _, pc) = load("gone");
    std::fs::remove_file(&library).unwrap();
    let mut names = Names::new();
    let named = &names.of(&[pc])[0];
    let refused: Vec<String> = names.refused().map(ToString::to_string).collect();
    match named.module().map(|module| &module.identity) {
        Some(Identity::Mapped) => {
            assert_eq!(named.function().map(|known| known.name.as_str()), Some("wide_c"));
            assert!(named.location().is_some() && refused.is_empty(), "{refused:?}");
        }
        Some(Identity::Memory) => assert!(matches!(&refused[..], [why] if why.contains("cannot read")), "{refused:?}"),
        identity => panic!("{identity:?}"),
    }
}

#[test]
fn an_address_outside_of_all_modules_has_no_name() {
    let named = &Names::new().of(&[CodeAddress::Exact(16)])[0];
    assert!(named.function().is_none() && named.module().is_none() && named.location().is_none());
    assert_eq!(named.to_string(), "0x000000000010 in no module");
}
