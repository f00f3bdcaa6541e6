//! `surestack check-cfi` finds the wrong rows that shipped libraries have: in those libraries, where this machine has the
//! very ones, and in a program with one function of each kind.

mod temporary;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use surestack::check_cfi::{self, Contradiction};
use surestack::image::Image;

/// A wrong row in a shipped library.
struct Wrong {
    file: &'static str,
    /// The instruction and its bytes, by which the very build is recognised.
    at: u64,
    bytes: &'static [u8],
    /// What the row says and what is so.
    claimed: &'static str,
    found: &'static str,
}

const fn wrong(file: &'static str, at: u64, bytes: &'static [u8], claimed: &'static str, found: &'static str) -> Wrong {
    Wrong { file, at, bytes, claimed, found }
}

const LIBC: &str = "libc.so.6";
const CRYPTO: &str = "libcrypto.so.3";
const GCRYPT: &str = "libgcrypt.so.20";
const LLVM: &str = "libLLVM-14.so.1";

const KNOWN: &[Wrong] = &[
    // __mpn_addmul_1 and __mpn_submul_1, behind `push %rbx; push %rbp`.
    wrong(LIBC, 0x4c6e2, &[0x48, 0x8d, 0x1a, 0x48, 0xf7, 0xdb], "CFA=rsp+8", "CFA=rsp+24"),
    wrong(LIBC, 0x4e142, &[0x48, 0x8d, 0x1a, 0x48, 0xf7, 0xdb], "CFA=rsp+8", "CFA=rsp+24"),
    // x25519_fe51_sqr and x25519_fe64_sqr, at the return.
    wrong(CRYPTO, 0x1dd232, &[0xf3, 0xc3], "CFA=rsp+184", "CFA=rsp+8"),
    wrong(CRYPTO, 0x1dd5be, &[0xf3, 0xc3], "CFA=rsp+168", "CFA=rsp+8"),
    // bn_gather5, behind `sub $0x108,%rsp`.
    wrong(CRYPTO, 0x13160b, &[0x48, 0x8d, 0x05], "CFA=rsp+8", "CFA=rsp+272"),
    // sha1_multi_block, behind `push %rbx; push %rbp`.
    wrong(CRYPTO, 0x287f23, &[0x48, 0x81, 0xec, 0x20, 0x01], "rbx at CFA-24", "rbx kept"),
    // mul4x_internal and mulx4x_internal.
    wrong(CRYPTO, 0x12eef8, &[0x49, 0xc1, 0xe9, 0x05], "r13 kept", "r13 lost"),
    wrong(CRYPTO, 0x13027a, &[0x49, 0xc1, 0xe9, 0x0a], "r13 kept", "r13 lost"),
    // Two functions for VIA's PadLock, at `popf`.
    wrong(GCRYPT, 0x6a815, &[0x9d], "CFA=rsp+80", "CFA=rsp+88"),
    wrong(GCRYPT, 0x6a8a5, &[0x9d], "CFA=rsp+80", "CFA=rsp+88"),
    // Before a conditional jump in tail position.
    wrong(LLVM, 0xde4b1e, &[0x4c, 0x39, 0xff], "CFA=rsp+48", "CFA=rsp+40"),
];

#[test]
fn the_wrong_rows_of_shipped_libraries_are_found() {
    let mut looked_for = 0;
    for known in KNOWN.chunk_by(|one, other| one.file == other.file) {
        let path = Path::new("/lib/x86_64-linux-gnu").join(known[0].file);
        let Ok(image) = Image::open(&path) else {
            println!("skipped: there is no {}", path.display());
            continue;
        };
        let known: Vec<&Wrong> =
            known.iter().filter(|wrong| image.at(wrong.at, wrong.bytes.len()) == Some(wrong.bytes)).collect();
        if known.is_empty() {
            println!("skipped: {} is another build", path.display());
            continue;
        }
        let checked = check_cfi::file(&path).unwrap();
        for wrong in known {
            let found = checked.contradictions.iter().find(|found| found.address == wrong.at);
            let found = found.unwrap_or_else(|| panic!("{} {:#x} is not found", wrong.file, wrong.at));
            assert_eq!((&*found.claimed(), &*found.found()), (wrong.claimed, wrong.found), "{:#x}", wrong.at);
            assert!(found.known.is_some(), "{:#x} is known", wrong.at);
            looked_for += 1;
        }
    }
    println!("{looked_for} of {} were looked for", KNOWN.len());
}

/// A program with a function for each kind of wrong row.
fn lies() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = temporary::path("lies");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/programs/lies.S");
        assert!(Command::new("gcc").arg(source).arg("-o").arg(&path).status().unwrap().success());
        path
    })
}

/// What is found at a label of the program.
fn at_label(label: &str) -> Contradiction {
    let image = Image::open(lies()).unwrap();
    let address = image.symbols().find(|symbol| symbol.name == label.as_bytes()).unwrap().address;
    let checked = check_cfi::file(lies()).unwrap();
    let found = checked.contradictions.into_iter().find(|found| found.address == address);
    found.unwrap_or_else(|| panic!("nothing is wrong at {label}"))
}

#[test]
fn a_wrong_row_of_each_kind_is_found_and_the_right_one_is_said() {
    let expected = [
        ("sign_error_lie", "ret", "CFA=rsp+184", "CFA=rsp+8"),
        ("no_rows_for_alignment_lie", "and rsp,0xfffffffffffffff0", "CFA=rsp+8", "CFA=rsp+272"),
        ("one_register_twice_lie", "xor ebx,ebx", "rbx at CFA-24", "rbx kept"),
        ("one_register_twice_without_rbp", "nop", "rbx at CFA-24, rbp kept", "rbx at CFA-16, rbp at CFA-24"),
        ("no_rule_for_a_register_lie", "nop", "r14 kept", "r14 lost"),
        ("flags_on_the_stack_lie", "popfq", "CFA=rsp+16", "CFA=rsp+24"),
        ("no_rows_for_pushes_lie", "xor ebx,ebx", "CFA=rsp+8", "CFA=rsp+24"),
        ("released_before_a_branch_lie", "test rsp,rsp", "CFA=rsp+24", "CFA=rsp+8"),
    ];
    for (label, instruction, claimed, found) in expected {
        let wrong = at_label(label);
        assert_eq!(wrong.instruction, instruction, "{label}");
        assert_eq!((&*wrong.claimed(), &*wrong.found()), (claimed, found), "{label}");
    }
    let call = at_label("one_row_for_all_lie");
    assert!(call.instruction.starts_with("call "), "{}", call.instruction);
    assert_eq!((&*call.claimed(), &*call.found()), ("CFA=rsp+80", "CFA=rsp+96"));
}

fn check_cfi(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_surestack")).arg("check-cfi").args(arguments).arg(lies()).output().unwrap()
}

#[test]
fn each_wrong_row_is_shown_beside_its_instruction_for_people_and_for_programs() {
    let wrong = at_label("sign_error_lie");
    let text = check_cfi(&[]);
    assert_eq!(text.status.code(), Some(1), "something is contradicted");
    let text = String::from_utf8(text.stdout).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{:#x} ", wrong.address))).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..], ["ret", "row:", "CFA=rsp+184;", "code:", "CFA=rsp+8"], "{line}");
    assert!(text.contains(&format!("{:#x} sign_error\n", wrong.function)), "{text}");

    let json: Value = serde_json::from_slice(&check_cfi(&["--json"]).stdout).unwrap();
    let found = json["contradictions"].as_array().unwrap();
    let found = found.iter().find(|found| found["address"] == format!("{:#x}", wrong.address)).unwrap();
    let shown = [&found["name"], &found["instruction"], &found["row"], &found["code"]];
    assert_eq!(shown, ["sign_error", "ret", "CFA=rsp+184", "CFA=rsp+8"]);
}

#[test]
fn a_document_is_written_between_its_markers() {
    let path = std::env::temp_dir().join(format!("surestack-document-{}.md", std::process::id()));
    std::fs::write(&path, "before\n<!-- check-cfi: begin -->\nold\n<!-- check-cfi: end -->\nafter\n").unwrap();
    let written = check_cfi(&["--document", path.to_str().unwrap()]);
    assert_eq!(written.status.code(), Some(0), "{}", String::from_utf8_lossy(&written.stderr));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with("after\n") && !text.contains("old"), "{text}");
    assert!(text.contains("`sign_error` | 1 | ") && text.contains("| `ret` | CFA=rsp+184 | CFA=rsp+8 |"), "{text}");
}
