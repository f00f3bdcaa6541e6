//! `surestack verify-handler` finds every way to what a handler must not call, in programs and libraries, however they are
//! built; and finds nothing where there is nothing.

mod temporary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use surestack::verify::{self, Annotation, Depth, Edge, Offence, Options, Reason, Thread, Verified};

/// Builds one of the sources in `tests/verify/` once with these arguments.
fn built(compiler: &str, source: &str, arguments: &[&str]) -> PathBuf {
    static BUILT: OnceLock<Mutex<BTreeMap<String, PathBuf>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    let key = format!("{compiler} {source} {}", arguments.join(" "));
    let count = built.len();
    built
        .entry(key.clone())
        .or_insert_with(|| {
            let path = temporary::path(&format!("verify-{count}"));
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify").join(source);
            let output = Command::new(compiler).arg(source).args(arguments).arg("-o").arg(&path).output().unwrap();
            assert!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
            path
        })
        .clone()
}

/// How C and C++ sources are built: not optimised and optimised, at any address and at one, with and without linkage
/// stubs, with marks for indirect branches, as a library, with everything in one file.
const BUILDS: &[(&str, &[&str])] = &[
    ("gcc", &["-w", "-O0", "-Wl,-z,now"]),
    ("gcc", &["-w", "-O2", "-Wl,-z,now"]),
    ("gcc", &["-w", "-O2", "-no-pie", "-fno-pie", "-Wl,-z,now"]),
    ("gcc", &["-w", "-O2", "-fno-plt"]),
    ("gcc", &["-w", "-O2", "-fcf-protection=full", "-Wl,-z,now,-z,ibtplt"]),
    ("gcc", &["-w", "-O2", "-shared", "-fPIC", "-Wl,-z,now"]),
    ("gcc", &["-w", "-O2", "-static"]),
    ("gcc", &["-w", "-O2", "-static-pie"]),
    ("gcc", &["-w", "-Os", "-Wl,-z,now,-z,pack-relative-relocs"]),
    ("clang", &["-w", "-O0", "-Wl,-z,now"]),
    ("clang", &["-w", "-O2", "-Wl,-z,now"]),
    ("clang", &["-w", "-O2", "-fPIE", "-pie", "-fuse-ld=lld", "-Wl,-z,now,--pack-dyn-relocs=relr"]),
];

const ALLOWED: &[&str] = &["write", "_exit", "sigaction", "__libc_sigaction"];

fn options(roots: &[&str]) -> Options {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Options { roots: owned(roots), allowed: owned(ALLOWED), ..Options::default() }
}

fn verified(file: &Path, root: &str) -> Verified {
    verify::file(file, &options(&[root])).unwrap_or_else(|error| panic!("{root}: {error}"))
}

/// What is found from a root of the C source, in every build of it.
fn everywhere(root: &str, check: impl Fn(&Verified, &str)) {
    for (compiler, arguments) in BUILDS {
        let what = format!("{root}, {compiler} {}", arguments.join(" "));
        check(&verified(&built(compiler, "handlers.c", arguments), root), &what);
    }
}

/// The function that is wrongly reached, with the names of the functions on the path to it.
fn forbidden(found: &Verified) -> Vec<(String, Vec<String>)> {
    let functions = found.violations.iter().filter_map(|violation| match &violation.what {
        Offence::Function(name) => {
            Some((name.clone(), violation.path.iter().map(|hop| hop.function.clone()).collect()))
        }
        _ => None,
    });
    functions.collect()
}

fn clean(found: &Verified, what: &str) {
    let mut text = Vec::new();
    found.text(what, &mut text).unwrap();
    assert!(found.violations.is_empty(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn a_clean_handler_is_clean_however_it_is_built() {
    for root in ["clean", "raw", "table", "leaves", "recursive"] {
        everywhere(root, clean);
    }
}

#[test]
fn what_is_called_is_found_however_it_is_called() {
    // The root, the function it must not reach, and some on the way.
    for (root, offender, way) in [
        ("tail", "printf", "tail"),
        ("deep", "malloc", "deep"),
        ("bad_table", "free", "release"),
        ("taken", "free", "release"),
        ("chooses", "puts", "chooses"),
        ("returned", "free", "release_it"),
    ] {
        everywhere(root, |found, what| {
            let all = forbidden(found);
            let path = all.iter().find(|(name, _)| name == offender || name == &format!("_IO_{offender}"));
            let (_, path) = path.unwrap_or_else(|| panic!("{what}: {offender} is not found: {all:?}"));
            assert_eq!(path.first().map(String::as_str), Some(root), "{what}");
            assert!(path.iter().any(|function| function == way), "{what}: {path:?}");
            assert_eq!(found.violations.len(), 1, "{what}: {:?}", found.violations);
        });
    }
}

#[test]
fn what_cannot_be_known_is_a_violation() {
    everywhere("unknown", |found, what| {
        let [violation] = found.violations.as_slice() else { panic!("{what}: {:?}", found.violations) };
        assert!(matches!(violation.what, Offence::Indirect(Reason::Variable(_) | Reason::Loaded)), "{what}");
        assert_eq!(violation.path.last().map(|hop| (hop.edge, hop.function.as_str())), Some((Edge::Here, "unknown")));
    });
    for (root, expected) in [
        ("garbage", Offence::Undecodable),
        ("nameless", Offence::Nameless),
        ("anywhere", Offence::Indirect(Reason::Return)),
    ] {
        everywhere(root, |found, what| {
            let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
            assert_eq!(all, [&expected], "{what}");
        });
    }
}

#[test]
fn thread_local_storage_is_a_violation_unless_it_is_allowed() {
    everywhere("thread_local_storage", |found, what| {
        let [violation] = found.violations.as_slice() else { panic!("{what}: {:?}", found.violations) };
        let library = what.contains("-shared");
        let by = if library { "__tls_get_addr" } else { "%fs or %gs" };
        assert_eq!(violation.what, Offence::Thread(by.into()), "{what}");
    });
    for (compiler, arguments) in BUILDS {
        let file = built(compiler, "handlers.c", arguments);
        let allowed = Options { thread: Thread::Allowed, ..options(&["thread_local_storage"]) };
        clean(&verify::file(&file, &allowed).unwrap(), &arguments.join(" "));
    }
}

#[test]
fn a_callee_that_the_loader_looks_for_at_the_first_call_is_a_violation() {
    let lazy = built("gcc", "handlers.c", &["-w", "-O2", "-Wl,-z,lazy"]);
    let found = verified(&lazy, "clean");
    let late: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
    assert!(late.contains(&&Offence::Late("write".into())), "{late:?}");
    assert!(late.iter().all(|what| matches!(what, Offence::Late(_))), "{late:?}");
}

#[test]
fn system_calls_are_listed_with_their_numbers() {
    everywhere("raw", |found, what| {
        let numbers: Vec<_> = found.system_calls.iter().map(|call| call.numbers.clone()).collect();
        assert_eq!(numbers, [Some(vec![1])], "{what}");
    });
}

#[test]
fn the_stack_that_is_needed_is_told_unless_functions_call_themselves() {
    everywhere("raw", |found, what| {
        let [(root, Depth::AtMost(bytes))] = found.stack.as_slice() else { panic!("{what}: {:?}", found.stack) };
        assert!(root == "raw" && (8..=128).contains(bytes), "{what}: {bytes}");
    });
    let optimised = built("gcc", "handlers.c", &["-w", "-O0", "-Wl,-z,now"]);
    let found = verified(&optimised, "recursive");
    let [(_, Depth::Unknown(why))] = found.stack.as_slice() else { panic!("{:?}", found.stack) };
    assert!(why == "recursion through odd" || why == "recursion through even", "{why}");
}

#[test]
fn an_annotation_vouches_for_as_many_calls_as_it_says() {
    let file = built("gcc", "handlers.c", &["-w", "-O2", "-Wl,-z,now"]);
    let annotation =
        |function: &str, calls| Annotation { function: function.into(), calls, reason: "it is set".into() };
    let with = |annotations| verify::file(&file, &Options { annotations, ..options(&["unknown"]) }).unwrap();
    let found = with(vec![annotation("unk*", 1), annotation("other", 1)]);
    clean(&found, "unknown");
    assert_eq!(found.annotated.len(), 1);
    assert_eq!((found.annotated[0].function.as_str(), found.annotated[0].reason.as_str()), ("unknown", "it is set"));
    assert_eq!(found.unused, [annotation("other", 1)]);
    assert_eq!(with(vec![annotation("unknown", 0)]).violations.len(), 1, "none is vouched for");
    assert_eq!(with(vec![annotation("known", 1)]).violations.len(), 1, "it is about another");
}
