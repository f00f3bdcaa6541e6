//! What the instructions say about the calls in core files: how many are confirmed, refuted, or say nothing, and what
//! asking costs when the answer is not known yet and when it is.
//!
//! ```text
//! cargo run --release --example witnesses CORE…
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use surestack::evidence::FileEvidence;
use surestack::image::Find;
use surestack::snapshot::core_file;
use surestack::trace::{Known, Tracer};
use surestack_walk::{CodeAddress, Evidence, FoundBy, Link, Witness};

fn main() -> Result<(), surestack::Error> {
    let mut totals = BTreeMap::new();
    let (mut cold, mut warm) = (Duration::ZERO, Duration::ZERO);
    for path in std::env::args_os().skip(1) {
        let snapshot = core_file::open(Path::new(&path), &Find::default())?;
        let known = Known::default();
        let tracer = Tracer::new(&snapshot, &known);
        let mut asked: Vec<(u64, CodeAddress, FoundBy)> = Vec::new();
        for thread in &snapshot.threads {
            let mut callee = None;
            tracer.walk(&thread.regs, thread.stop, |frame| {
                if let (Some(callee), Link::Call) = (callee, frame.link) {
                    asked.push((frame.pc.value(), callee, frame.found_by));
                }
                callee = Some(frame.pc);
            });
        }
        let evidence = FileEvidence::new(&snapshot, Rc::default());
        for (pass, spent) in [&mut cold, &mut warm].into_iter().enumerate() {
            let start = Instant::now();
            for &(return_address, callee, found_by) in &asked {
                let witness = evidence.call(return_address, callee);
                if pass == 0 {
                    let name = match witness {
                        Witness::Confirmed => "confirmed",
                        Witness::Refuted { .. } => "refuted",
                        Witness::NotACall => "not a call",
                        Witness::Unknown => "unknown",
                    };
                    *totals.entry(name).or_insert(0usize) += 1;
                    if matches!(witness, Witness::Refuted { .. } | Witness::NotACall) {
                        println!("{}: {return_address:#x} {callee:x?} {found_by:?}: {witness:x?}", path.display());
                    }
                }
            }
            *spent += start.elapsed();
        }
    }
    let asked: usize = totals.values().sum();
    println!("{asked} calls: {totals:?}");
    println!("asked first {cold:?}, asked again {warm:?}");
    Ok(())
}
