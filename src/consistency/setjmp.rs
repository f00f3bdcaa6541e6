//! Ways back that memory does not show: `setjmp` keeps its return address encrypted in a `jmp_buf`.

use super::functions::Functions;
use super::target::Target;
use super::world::Obstacle;
use crate::snapshot::Snapshot;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use surestack_walk::X86_64;

/// What C libraries call it.
const SETJMP: [&str; 6] = ["setjmp", "_setjmp", "__setjmp", "sigsetjmp", "__sigsetjmp", "__sigsetjmp_cancel"];
/// Longest function that is decoded.
const LONGEST: u64 = 16 << 20;
/// A stub of a linkage table: `endbr64` and a jump.
const STUB: usize = 16;

/// Calls of `setjmp` in the live code of `targets`.
pub fn setjmp(snapshot: &Snapshot, targets: &[Target]) -> Vec<Obstacle> {
    let functions = Functions::of_all(snapshot);
    let mut found = vec![];
    for target in targets {
        for part in target.live() {
            let name = part.name.as_ref().unwrap_or(&target.name);
            match calls(snapshot, part.range.start, part.range.end) {
                None => found.push(Obstacle::Undecoded { target: target.name.clone(), at: part.range.start }),
                Some(calls) => found.extend(calls.into_iter().filter_map(|call| {
                    let goes_there = destination(snapshot, &call).is_some_and(|to| is_setjmp(&functions, to));
                    goes_there.then(|| Obstacle::Setjmp { function: name.clone(), at: call.ip() })
                })),
            }
        }
    }
    found
}

/// The calls in a range, and what may load the function that a call through a register goes to; none where its code cannot be
/// read or decoded.
fn calls(snapshot: &Snapshot, start: u64, end: u64) -> Option<Vec<Instruction>> {
    let size = end.checked_sub(start).filter(|size| *size <= LONGEST && snapshot.arch.machine == X86_64.machine)?;
    let mut code = vec![0; usize::try_from(size).ok()?];
    snapshot.memory.read(start, &mut code).ok()?;
    let decoded = Decoder::with_ip(64, &code, start, DecoderOptions::NONE).into_iter();
    Some(decoded.filter(|found| matches!(found.mnemonic(), Mnemonic::Call | Mnemonic::Mov | Mnemonic::Lea)).collect())
}

/// Where a call or jump goes, or what a register is loaded with, through a stub of a linkage table if there is one.
fn destination(snapshot: &Snapshot, call: &Instruction) -> Option<u64> {
    let to = if call.op0_kind() == OpKind::NearBranch64 {
        call.near_branch_target()
    } else if call.mnemonic() == Mnemonic::Lea {
        call.is_ip_rel_memory_operand().then(|| call.ip_rel_memory_address())?
    } else if call.mnemonic() == Mnemonic::Mov && is_constant(call.op1_kind()) {
        call.immediate(1)
    } else if call.is_ip_rel_memory_operand() {
        snapshot.memory.word(call.ip_rel_memory_address()).ok()?
    } else {
        return None;
    };
    let mut stub = [0; STUB];
    if snapshot.memory.read(to, &mut stub).is_err() {
        return Some(to);
    }
    let first = Decoder::with_ip(64, &stub, to, DecoderOptions::NONE).into_iter();
    let jump = first.filter(|found| found.mnemonic() != Mnemonic::Endbr64).take(1);
    let mut jump = jump.filter(|found| found.mnemonic() == Mnemonic::Jmp && found.is_ip_rel_memory_operand());
    // A slot that was never resolved leads back into the table: that call never happened.
    jump.next().map_or(Some(to), |jump| snapshot.memory.word(jump.ip_rel_memory_address()).ok())
}

fn is_constant(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate64 | OpKind::Immediate32 | OpKind::Immediate32to64)
}

fn is_setjmp(functions: &[Functions<'_>], address: u64) -> bool {
    functions.iter().any(|functions| {
        let range = functions.module.start..functions.module.end;
        let linked = address.wrapping_sub(functions.module.bias);
        range.contains(&address)
            && functions.within(&(linked..linked.saturating_add(1))).any(|function| SETJMP.contains(&function.name))
    })
}
