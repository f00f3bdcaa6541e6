//! Proofs of files, made once for all processes that map them, and left aside where the code was changed.

mod waiting;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use surestack::evidence::{Answers, FileEvidence, FileProofs};
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack_walk::{CodeAddress, Evidence, RowEvidence, RowProof};
use waiting::{Chain, Waiting, run};

fn open(waiting: &Waiting) -> StoppedProcess {
    StoppedProcess::open(waiting.id(), Find::default()).unwrap()
}

fn row(process: &StoppedProcess, files: &FileProofs, pc: CodeAddress) -> RowEvidence {
    FileEvidence::new(process.snapshot(), Rc::new(Answers::sharing(files))).row(pc)
}

/// The program, its process and its first chain.
fn start(name: &str) -> (Waiting, StoppedProcess, Chain) {
    let waiting = run(name, "g++", &["-O2", "-DONE_FILE", "-Wl,--build-id"]);
    let process = open(&waiting);
    let chain = waiting.chains().into_iter().next().unwrap();
    (waiting, process, chain)
}

#[test]
fn a_function_is_proven_once_for_all_processes_of_one_file() {
    let files = FileProofs::default();
    let (_one, first, chain) = start("shared-one");
    assert_eq!(row(&first, &files, CodeAddress::Return(chain.in_b)).frame, RowProof::Proven);
    assert_eq!(row(&first, &files, CodeAddress::Return(chain.in_a)).frame, RowProof::Proven);
    let proven = files.functions();
    assert!(proven > 0);
    // Built from the same source by the same command: another file with the same build ID.
    let (_other, second, chain) = start("shared-other");
    assert_eq!(row(&second, &files, CodeAddress::Return(chain.in_b)).frame, RowProof::Proven);
    assert_eq!(row(&second, &files, CodeAddress::Return(chain.in_a)).frame, RowProof::Proven);
    assert_eq!(files.functions(), proven, "nothing was proven again");
}

#[test]
fn where_the_code_was_changed_what_was_proven_of_its_file_is_not_used() {
    let files = FileProofs::default();
    let (_one, first, chain) = start("unchanged");
    let right = row(&first, &files, CodeAddress::Return(chain.in_b));
    assert_eq!(right.frame, RowProof::Proven);

    let (other, second, chain) = start("changed-code");
    let (start, end) = function(&second, chain.in_b);
    let mut code = vec![0; usize::try_from(end - start).unwrap()];
    second.snapshot().memory.read(start, &mut code).unwrap();
    // `sub $8,%rsp` makes room for more than it did.
    let sub = code.windows(4).position(|bytes| bytes == [0x48, 0x83, 0xec, 0x08]).expect("b makes a frame");
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", other.id())).unwrap();
    memory.write_all_at(&[0x18], start + sub as u64 + 3).unwrap();
    let changed = row(&second, &files, CodeAddress::Return(chain.in_b));
    assert_eq!(changed.frame, RowProof::Contradicted, "by the code that runs");
}

#[test]
fn another_function_that_was_changed_is_reason_enough_to_prove_anew() {
    let files = FileProofs::default();
    let (_one, first, chain) = start("whole");
    assert_eq!(row(&first, &files, CodeAddress::Return(chain.in_b)).frame, RowProof::Proven);
    let proven = files.functions();
    let (other, second, chain) = start("changed-elsewhere");
    // a's first byte, which changes what b can be entered from.
    let (start, _) = function(&second, chain.in_a);
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", other.id())).unwrap();
    let mut byte = [0];
    second.snapshot().memory.read(start, &mut byte).unwrap();
    memory.write_all_at(&[byte[0] ^ 1], start).unwrap();
    // A function that nobody has asked about: proven of its file it would be counted.
    let fresh = other.chains().into_iter().nth(1).unwrap();
    let found = row(&second, &files, CodeAddress::Return(fresh.in_b));
    assert_eq!((found.frame, files.functions()), (RowProof::Proven, proven), "from the memory of this process");
}

/// The function that covers an address.
fn function(process: &StoppedProcess, address: u64) -> (u64, u64) {
    let space = &process.snapshot().space;
    let (_, module) = space.module(address).unwrap();
    let mut symbols = module.image.iter().flat_map(|image| image.symbols());
    let linked = address - module.bias;
    let found = symbols.find(|symbol| symbol.address <= linked && linked < symbol.address + symbol.size).unwrap();
    (found.address + module.bias, found.address + found.size + module.bias)
}
