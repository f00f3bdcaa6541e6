//! Agreement with gdb, position by position, wherever a breakpoint stops it.

use object::{Object, ObjectSymbol};
use std::path::Path;
use std::process::Command;
use surestack_oracle::programs;
use surestack_oracle::session::{Begin, Event, Session};

const SCRIPT: &str = r#"
set pagination off
set backtrace past-main on
set backtrace past-entry on
set backtrace limit 200
handle all nostop noprint pass
break *&LEAF
run > /dev/null
python
while True:
    try:
        frame = gdb.newest_frame()
    except gdb.error:
        break
    pcs = []
    while frame is not None:
        # A signal frame is a frame of its own, with the restorer as its pc; these two are not on the stack.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            pcs.append("%x" % frame.pc())
        frame = frame.older()
    print("CHAIN", " ".join(pcs))
    gdb.execute("continue")
end
"#;

fn by_gdb(program: &Path, function: &str) -> Vec<Vec<u64>> {
    let script = program.with_extension("gdb");
    std::fs::write(&script, SCRIPT.replace("LEAF", function)).expect("the script is written");
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-x"]).arg(&script).arg(program);
    let output = command.output().expect("gdb is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let chain = |line: &str| line.split(' ').map(|w| u64::from_str_radix(w, 16).expect("an address")).collect();
    text.lines().filter_map(|line| line.strip_prefix("CHAIN ")).map(chain).collect()
}

fn by_shadow(program: &Path) -> Vec<Vec<u64>> {
    let bytes = std::fs::read(program).expect("the program was just built");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let leaf =
        file.symbols().find(|s| s.name().is_ok_and(|n| n == "leaf" || n == "_Z4leafl")).expect("a leaf").address();
    let mut command = Command::new(program);
    command.stdout(std::process::Stdio::null());
    let mut session = Session::start(&mut command, Begin::Entry).expect("it starts");
    let base = session.maps().modules().iter().find(|m| Path::new(&m.name) == program).map(|m| m.base);
    let leaf = leaf + base.expect("the program is mapped");
    let mut chains = Vec::new();
    while let Event::Stopped { .. } = session.step().expect("a step") {
        if session.registers().expect("registers").rip == leaf {
            chains.push(session.truth().expect("a truth").pcs);
        }
    }
    chains
}

/// gdb may go on below the truth's end only where it is known to: a coroutine has no caller, and gdb shows junk.
fn agree(source: &str, name: &str, flags: &[&str], coroutines: bool) {
    let program = programs::build(source, name, flags).expect("it is built").canonicalize().expect("a path");
    let function = if source.ends_with(".cc") { "leaf(long)" } else { "leaf" };
    let (gdb, shadow) = (by_gdb(&program, function), by_shadow(&program));
    assert!(shadow.len() > 10, "{name}: only {} stops", shadow.len());
    assert_eq!(gdb.len(), shadow.len(), "{name}: stops");
    for (i, (gdb, shadow)) in gdb.iter().zip(&shadow).enumerate() {
        let end = if coroutines { shadow.len().min(gdb.len()) } else { gdb.len() };
        assert_eq!(gdb.get(..end), Some(shadow.as_slice()), "{name}: stop {i}");
    }
}

#[test]
fn gdb_sees_the_same_frames_in_ordinary_and_odd_functions() {
    agree("frames.c", "gdb-frames", &["-O0", "-fno-omit-frame-pointer"], false);
}

#[test]
fn gdb_sees_the_same_frames_through_nested_signals_on_two_stacks() {
    agree("signals.c", "gdb-signals", &["-O0", "-fno-omit-frame-pointer"], false);
}

#[test]
fn gdb_sees_the_same_frames_after_exceptions() {
    agree("throws.cc", "gdb-throws", &["-O0", "-fno-omit-frame-pointer"], false);
}

#[test]
fn gdb_sees_the_same_frames_in_coroutines_and_after_longjmp() {
    agree("jumps.c", "gdb-jumps", &["-O0", "-fno-omit-frame-pointer"], true);
}
