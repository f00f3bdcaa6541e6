//! `surestack verify-handler` finds every way to what a handler must not call, in programs and libraries, however they are
//! built; and finds nothing where there is nothing.

mod temporary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use surestack::verify::{self, Annotation, Beliefs, Depth, Edge, Offence, Options, Reason, Thread, Verified};

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

/// The builds of the C++ source.
const CPP: &[(&str, &[&str])] = &[
    ("g++", &["-O0", "-Wl,-z,now"]),
    ("g++", &["-O2", "-Wl,-z,now"]),
    ("g++", &["-O2", "-shared", "-fPIC", "-Wl,-z,now"]),
    ("clang++", &["-O0", "-Wl,-z,now"]),
    ("clang++", &["-O2", "-Wl,-z,now"]),
];

#[test]
fn a_virtual_call_leads_to_every_class_that_the_handler_makes() {
    for (compiler, arguments) in CPP {
        let file = built(compiler, "handlers.cc", arguments);
        let what = format!("{compiler} {}", arguments.join(" "));
        let found = verified(&file, "clean");
        clean(&found, &what);
        assert!(!found.virtual_calls.is_empty(), "{what}");

        let found = verified(&file, "allocates");
        let all = forbidden(&found);
        let [(name, path)] = all.as_slice() else { panic!("{what}: {all:?}") };
        assert_eq!(name, "realloc", "{what}");
        let class = "(anonymous namespace)::Kept::line(char const*)";
        assert!(path.iter().any(|function| function == class), "{what}: {path:?}");
        let through = |hop: &verify::Hop| matches!(hop.edge, Edge::Vtable(_)) && hop.to == class;
        assert!(found.violations[0].path.iter().any(through), "{what}: {:?}", found.violations[0].path);
    }
}

#[test]
fn a_virtual_call_of_what_somebody_else_chose_is_a_violation() {
    for (compiler, arguments) in CPP {
        let file = built(compiler, "handlers.cc", arguments);
        let what = format!("{compiler} {}", arguments.join(" "));
        let found = verified(&file, "unknown");
        let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
        assert_eq!(all, [&Offence::Indirect(Reason::Loaded)], "{what}");
        let thrown: Vec<String> = forbidden(&verified(&file, "throws")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(thrown, ["__cxa_allocate_exception", "__cxa_throw"], "{what}");
        let foreign = verified(&file, "foreign");
        assert!(!foreign.violations.is_empty(), "{what}: a class of another module");
    }
}

/// The builds of the Rust source.
const RUST: &[&[&str]] = &[
    &["--edition=2024"],
    &["--edition=2024", "-O"],
    &["--edition=2024", "--crate-type=cdylib"],
    &["--edition=2024", "-O", "--crate-type=cdylib"],
    &["--edition=2024", "-O", "-Cpanic=abort", "-Clto=fat"],
];

/// What is found from a root of the Rust source, in every build of it.
fn in_rust(root: &str, check: impl Fn(&Verified, &str)) {
    for arguments in RUST {
        let file = built("rustc", "handlers.rs", arguments);
        check(&verified(&file, root), &format!("{root}, {}", arguments.join(" ")));
    }
}

#[test]
fn a_clean_handler_in_rust_is_clean_in_debug_in_release_and_in_a_library() {
    for root in ["clean", "virtually_clean", "steps"] {
        in_rust(root, clean);
    }
}

#[test]
fn an_allocation_in_rust_is_found_with_the_way_to_it() {
    const ALLOCATES: &[&str] = &["__rustc::__rust_alloc", "__rustc::__rust_realloc", "malloc", "realloc", "calloc"];
    for (root, way) in [
        ("pushes", "handlers::note"),
        ("virtually_pushes", "Kept"),
        ("bad_steps", "handlers::third"),
        ("prints", "prints"),
    ] {
        in_rust(root, |found, what| {
            let all = forbidden(found);
            let frees = root == "prints";
            let offends =
                |name: &str| ALLOCATES.contains(&name) || frees && (name.ends_with("dealloc") || name == "free");
            let path = all.iter().find(|(name, _)| offends(name));
            let (_, path) = path.unwrap_or_else(|| panic!("{what}: {all:?}"));
            assert_eq!(path.first().map(String::as_str), Some(root), "{what}");
            assert!(path.iter().any(|function| function.contains(way)), "{what}: {path:?}");
        });
    }
}

#[test]
fn a_pointer_that_was_stored_in_an_atomic_is_a_violation() {
    in_rust("unknown", |found, what| {
        let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
        assert_eq!(all, [&Offence::Indirect(Reason::Loaded)], "{what}");
    });
}

#[test]
fn a_thread_local_in_rust_is_a_violation() {
    in_rust("thread_local_storage", |found, what| {
        let by = if what.contains("cdylib") { "__tls_get_addr" } else { "%fs or %gs" };
        let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
        assert_eq!(all, [&Offence::Thread(by.into())], "{what}");
    });
}

#[test]
fn entries_to_a_panic_are_counted_and_not_followed() {
    in_rust("indexes", |found, what| {
        clean(found, what);
        let names: Vec<&str> = found.escapes.iter().map(|escape| escape.name.as_str()).collect();
        assert!(names.contains(&"core::panicking::panic_bounds_check"), "{what}: {names:?}");
    });
}

fn command(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_surestack")).arg("verify-handler").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_prints_one_call_a_line_and_its_exit_code_says_what_was_found() {
    let file = built("gcc", "handlers.c", &["-w", "-O2", "-Wl,-z,now"]);
    let file = file.to_str().unwrap();
    let (code, text, _) = command(&[file, "--root", "clean", "--allow", "write", "--allow", "_exit"]);
    assert!(code == Some(0) && text.contains(": 0 violations\n"), "{code:?} {text}");

    let (code, text, _) = command(&[file, "--root", "bad_table", "--allow", "write"]);
    assert_eq!(code, Some(1));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("violation: free is not on the list"));
    let path: Vec<&str> = lines.by_ref().take_while(|line| line.starts_with("  ")).collect();
    assert_eq!(path.len(), 3, "{text}");
    assert!(path[0].trim().starts_with("0x") && path[0].contains("  bad_table  "), "{text}");
    assert!(path[1].ends_with("  release  jumps to free@plt"), "{text}");
    assert!(path[2].ends_with("  free@plt  goes through a pointer to free"), "{text}");

    let (code, json, _) = command(&[file, "--root", "bad_table", "--allow", "write", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["violations"][0]["kind"]), (Some(1), &"function".into()));
    let hops = json["violations"][0]["path"].as_array().unwrap();
    assert_eq!(
        (&hops[1]["function"], &hops[1]["edge"], &hops[1]["to"]),
        (&"release".into(), &"jump".into(), &"free@plt".into())
    );
}

#[test]
fn what_cannot_be_verified_is_an_error_that_says_why() {
    let file = built("gcc", "handlers.c", &["-w", "-O2", "-Wl,-z,now"]);
    let stripped = built("gcc", "handlers.c", &["-w", "-O2", "-s", "-static"]);
    let object = built("gcc", "handlers.c", &["-w", "-c"]);
    let (file, stripped, object) = (file.to_str().unwrap(), stripped.to_str().unwrap(), object.to_str().unwrap());
    for (arguments, code, says) in [
        (&[file][..], 2, "no function is called `surestack_signal_entry`; name the handler with --root"),
        (&[file, "--root", "cleane"], 2, "no function is called `cleane`"),
        (&[stripped, "--root", "clean"], 3, "it is stripped"),
        (&[object, "--root", "clean"], 3, "it is not linked"),
        (&["/nowhere", "--root", "clean"], 3, "cannot read /nowhere"),
        (&["/etc/passwd", "--root", "clean"], 3, "not a usable ELF file"),
        (&[file, "--root", "clean", "--annotations", "/nowhere"], 2, "cannot read the annotations"),
    ] {
        let (found, _, error) = command(arguments);
        assert!(found == Some(code) && error.contains(says), "{arguments:?}: {found:?} {error}");
    }
}

#[test]
fn what_is_only_believed_can_be_refused() {
    let strict = |file: &Path, root| {
        let options = Options { beliefs: Beliefs::Refused, ..options(&[root]) };
        verify::file(file, &options).unwrap().violations.into_iter().map(|violation| violation.what).collect::<Vec<_>>()
    };
    let rust = built("rustc", "handlers.rs", RUST[1]);
    assert_eq!(strict(&rust, "clean"), []);
    assert_eq!(strict(&rust, "steps"), []);
    assert_eq!(strict(&rust, "indexes"), [Offence::Function("core::panicking::panic_bounds_check".into())]);
    let virtually = strict(&rust, "virtually_clean");
    assert!(virtually.iter().all(|what| matches!(what, Offence::Indirect(Reason::Slot(_)))), "{virtually:?}");
}

#[test]
fn what_a_callee_chose_is_not_what_was_there_before() {
    everywhere("changed", |found, what| {
        let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
        assert!(matches!(all[..], [Offence::Indirect(Reason::Pointer | Reason::Variable(_))]), "{what}: {all:?}");
    });
    everywhere("gotten", |found, what| {
        let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
        assert_eq!(all, [&Offence::Indirect(Reason::Loaded)], "{what}");
    });
}

#[test]
fn a_function_that_the_caller_of_the_root_chose_is_a_violation() {
    for root in ["given", "given_beside_a_table"] {
        everywhere(root, |found, what| {
            let all: Vec<&Offence> = found.violations.iter().map(|violation| &violation.what).collect();
            assert_eq!(all, [&Offence::Indirect(Reason::Loaded)], "{what}");
        });
    }
}

#[test]
fn a_damaged_file_is_refused_or_verified() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
    };
    let damaged = temporary::path("verify-damaged");
    for arguments in [&["-w", "-O2", "-Wl,-z,now"][..], &["-w", "-O2", "-no-pie", "-fno-pie", "-Wl,-z,now"]] {
        let whole = std::fs::read(built("gcc", "handlers.c", arguments)).unwrap();
        let mut verified = 0;
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..=next(20) {
                let at = next(bytes.len());
                bytes[at] ^= 1 << next(8);
            }
            bytes.truncate(if next(4) == 0 { next(bytes.len()) } else { bytes.len() });
            std::fs::write(&damaged, bytes).unwrap();
            let roots = ["clean", "bad_table", "chooses", "changed", "taken"];
            verified += usize::from(verify::file(&damaged, &options(&roots)).is_ok());
        }
        assert!(verified > 100, "{verified} of 400");
    }
}
