//! The modules of a core without NT_FILE: the program by its program headers (AT_PHDR), libraries by the dynamic
//! linker's list (`r_debug`), which the program's DT_DEBUG points at.

use super::memory::CoreMemory;
use super::modules::{Found, headers_at, read_some};
use super::notes::Notes;
use crate::image::{Find, Segment};
use crate::snapshot::placement::{PAGE, Placement};
use object::elf::{DT_DEBUG, PT_DYNAMIC, PT_INTERP};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use surestack_walk::Memory;

const AT_PHDR: u64 = 3;
const AT_BASE: u64 = 7;
const AT_EXECFN: u64 = 31;
/// Most libraries that are believed in.
const LIBRARIES: usize = 65_536;
/// Most entries of a dynamic section that are read.
const DYNAMIC: u64 = 1024;
/// Longest path there can be.
const PATH: u64 = 4096;

/// The modules that memory tells of.
pub(super) fn modules(notes: &Notes, find: &Find, memory: &CoreMemory) -> Vec<Found> {
    let Some((base, program)) = program(notes, find, memory) else { return vec![] };
    let list = r_debug(memory, &program);
    let mut bases = HashSet::from([base]);
    let interpreter = interpreter(notes, memory, &program);
    let mut found = vec![program];
    for (base, dynamic, path) in list.into_iter().chain(interpreter) {
        if !bases.insert(base) || notes.process.aux(super::notes::AT_SYSINFO_EHDR) == Some(base) {
            continue;
        }
        // Some cores (qemu's) leave code out, and with it the headers in front of it: then only the file has them.
        let segments = headers_at(memory, base).map(|headers| headers.segments).unwrap_or_default();
        let least = || {
            let end = dynamic.max(base).checked_add(1)?.checked_next_multiple_of(PAGE)?;
            Some(Placement { bias: base, start: base, end })
        };
        if let Some(placement) = Placement::at_base(&segments, base).or_else(least) {
            found.push(Found { placement, path, segments });
        }
    }
    found
}

/// The program and where its file begins: the page before its program headers.
fn program(notes: &Notes, find: &Find, memory: &CoreMemory) -> Option<(u64, Found)> {
    let base = notes.process.aux(AT_PHDR)? & !(PAGE - 1);
    let segments = headers_at(memory, base)?.segments;
    let placement = Placement::at_base(&segments, base)?;
    let started_as = notes.process.aux(AT_EXECFN).and_then(|at| string(memory, at));
    let path = started_as.or_else(|| find.exe.clone()).or_else(|| notes.process.name.clone().map(PathBuf::from));
    Some((base, Found { placement, path: path.unwrap_or_default(), segments }))
}

/// The dynamic linker, which is there before its list is.
fn interpreter(notes: &Notes, memory: &CoreMemory, program: &Found) -> Option<Library> {
    let base = notes.process.aux(AT_BASE).filter(|&base| base != 0)?;
    let named = program.segments.iter().find(|segment| segment.kind == PT_INTERP)?;
    Some((base, base, string(memory, program.placement.bias.wrapping_add(named.address))?))
}

/// A library's load bias, which is its base address, the address of its dynamic section, and its path.
type Library = (u64, u64, PathBuf);

/// Every library in the list.
fn r_debug(memory: &CoreMemory, program: &Found) -> Vec<Library> {
    let (mut libraries, mut seen) = (vec![], HashSet::new());
    let head = debug_address(memory, program).and_then(|debug| memory.word(debug.checked_add(8)?).ok());
    let mut next = head.unwrap_or(0);
    while next != 0 && seen.len() < LIBRARIES && seen.insert(next) {
        // struct link_map: l_addr, l_name, l_ld, l_next
        let word = |index: u64| memory.word(next.checked_add(index.checked_mul(8)?)?).ok();
        let (Some(base), Some(name), Some(dynamic), Some(after)) = (word(0), word(1), word(2), word(3)) else { break };
        if let Some(path) = string(memory, name).filter(|path| !path.as_os_str().is_empty()) {
            libraries.push((base, dynamic, path));
        }
        next = after;
    }
    libraries
}

/// The value of the program's DT_DEBUG, which the dynamic linker has filled in.
fn debug_address(memory: &CoreMemory, program: &Found) -> Option<u64> {
    let dynamic: &Segment = program.segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
    let start = program.placement.bias.wrapping_add(dynamic.address);
    let wanted = u64::try_from(DT_DEBUG).ok()?;
    for entry in 0..DYNAMIC.min(dynamic.memory_size / 16) {
        let at = start.checked_add(entry.checked_mul(16)?)?;
        let tag = memory.word(at).ok()?;
        if tag == wanted {
            return memory.word(at.checked_add(8)?).ok().filter(|&debug| debug != 0);
        }
        if tag == 0 {
            return None;
        }
    }
    None
}

/// A zero-terminated path in the target's memory.
fn string(memory: &CoreMemory, address: u64) -> Option<PathBuf> {
    let bytes = read_some(memory, address, PATH)?;
    let text = bytes.split(|&byte| byte == 0).next().filter(|text| text.len() < bytes.len())?;
    Some(PathBuf::from(OsStr::from_bytes(text)))
}
