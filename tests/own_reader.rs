//! Our own reader of `.eh_frame` against gimli, over real libraries and programs: the same row at each address at which
//! one begins or ends and at the addresses beside it, or none of its own.

mod code;

use code::Library;
use std::ops::ControlFlow;
use std::time::Instant;
use surestack_cfi::{DwarfRows, Function, Header, Lookup, ReferenceRows, Row, Rows};
use surestack_walk::{Bytes, CodeAddress, Error, Modules, NoEvidence, Registry, Stack, Stop, Target, Why, X86_64};

/// The row that `rows` have for an address, its expressions by where they lie, or why there is none.
fn look_up(rows: &impl Rows, target: &Target<'_>, pc: u64) -> Result<Result<(Row<'static>, *const u8), Why>, Error> {
    let kept = |row: &Row<'_>| (Row { expressions: &[], ..*row }, row.expressions.as_ptr());
    Ok(match rows.row(target, CodeAddress::Exact(pc), kept)? {
        Lookup::Row(row) => Ok(row),
        Lookup::Missing(why) => Err(why),
    })
}

#[derive(Debug, Default)]
struct Counts {
    functions: usize,
    rows: usize,
    compared: usize,
    /// Functions whose entry, or some row, is left to gimli.
    unusual: Vec<u64>,
}

/// Compares every `step`th function.
fn compare(library: &Library, step: usize) -> Counts {
    let unwind = library.find(0).expect("one module, wherever one looks").unwind;
    let stacks: [Stack; 0] = [];
    let target = Target {
        arch: &X86_64,
        memory: &Bytes { address: 0, bytes: &[] },
        modules: library,
        stacks: &stacks,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let section = unwind.eh_frame.expect("a library with unwind information");
    let header = unwind.eh_frame_hdr.and_then(Header::parse).expect("a search table");
    let mut counts = Counts::default();
    for (_, fde) in header.pairs().step_by(step) {
        counts.functions += 1;
        let mut bounds = Vec::new();
        let whole = Function::at(section, fde).and_then(|function| {
            bounds.extend([function.start, function.end]);
            let mut covered = function.start;
            function.rows(&mut |row| {
                assert_eq!(row.start, covered, "a gap before {row:?}");
                covered = row.end;
                counts.rows += 1;
                bounds.push(row.end);
                let alone = function.row_at(row.start).expect("it was read before").expect("it is there");
                assert_eq!((alone.start, alone.end, alone.cfa), (row.start, row.end, row.cfa));
                assert!(alone.rules().eq(row.rules()), "{alone:?} is not {row:?}");
                ControlFlow::Continue(())
            })?;
            assert!(covered == function.end, "rows of {function:?} end at {covered:#x}");
            Ok(())
        });
        if whole.is_err() {
            counts.unusual.push(fde);
        }
        for pc in bounds.into_iter().flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)]) {
            counts.compared += 1;
            assert_eq!(look_up(&DwarfRows, &target, pc), look_up(&ReferenceRows, &target, pc), "{pc:#x}");
        }
    }
    counts
}

/// Compares every `step`th function of the file at `path`, where there is one.
fn compare_file(path: &str, step: usize) {
    let Some(library) = Library::read(path) else { return println!("{path}: not here") };
    let began = Instant::now();
    let Counts { functions, rows, compared, unusual } = compare(&library, step);
    let (count, some) = (unusual.len(), &unusual[..unusual.len().min(5)]);
    println!(
        "{path}: {functions} functions, {rows} rows, {compared} addresses in {:?}; unusual: {count} {some:x?}",
        began.elapsed()
    );
    assert!(count * 1_000 <= functions, "{count} of {functions} functions of {path} are left to gimli");
}

fn own() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

const LIBRARIES: [&str; 7] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libm.so.6",
    "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/bin/python3",
];
const LARGE: &str = "/usr/lib/llvm-14/lib/libLLVM-14.so.1";

#[test]
fn our_own_reader_gives_the_rows_that_gimli_gives() {
    for path in LIBRARIES {
        compare_file(path, 1);
    }
    compare_file(LARGE, 101);
    compare_file(&own(), 1);
}

#[test]
#[ignore = "takes long: cargo test --release --test own_reader -- --ignored --nocapture"]
fn our_own_reader_gives_the_rows_that_gimli_gives_in_every_function_of_a_large_library() {
    compare_file(LARGE, 1);
}
