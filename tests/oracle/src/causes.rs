//! Why surestack's answer can be wrong or without trust, each reason with a case in which it can be seen again.

use crate::score::{Score, Seen};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A reason that is known.
struct Cause {
    /// What happens there.
    words: &'static str,
    /// How the functions end after which the chain is not found: `module!function`.
    functions: &'static [&'static str],
    /// Where it can be seen again.
    case: &'static str,
}

const CAUSES: &[Cause] = &[
    Cause {
        words: "libgcc goes to a landing pad: return addresses and saved registers of frames that still count are \
                overwritten one by one with those of the landing pad's frame; what is gone nobody can read",
        functions: &[
            "!_Unwind_RaiseException",
            "!_Unwind_Resume",
            "!_Unwind_Resume_or_Rethrow",
            "!_Unwind_ForcedUnwind",
            "rust_panic",
            "resume_unwind",
        ],
        case: "fixtures/unwind-half-way, fixtures/unwind-landing, programs/throws.cc, programs/panics.rs",
    },
    Cause {
        words: "longjmp is half-way: the stack pointer or the frame's registers are those of setjmp's caller already",
        functions: &["!__longjmp", "!__longjmp_cancel", "!____longjmp_chk"],
        case: "fixtures/longjmp-half-way, programs/jumps.c",
    },
    Cause {
        words: "swapcontext or setcontext is half-way: registers of the one context, stack of the other",
        functions: &["!swapcontext", "!setcontext", "!__start_context", "jumps!first", "jumps!second", "jumps!once"],
        case: "fixtures/swapcontext-half-way, programs/jumps.c",
    },
    Cause {
        words: "a switch of stacks written by hand, without unwind information, begins or goes on with a stack of its own",
        functions: &["!hand_switch", "!hand_body"],
        case: "programs/jumps.c",
    },
    Cause {
        words: "assembly without unwind information takes its return address off the stack and jumps to it",
        functions: &["!popped_return", "frames!main", "frames-O0!main"],
        case: "fixtures/popped-return, programs/frames.c",
    },
];

/// The reason behind answers that go wrong after `function` (`module!function`).
fn cause(function: &str) -> Option<&'static Cause> {
    CAUSES.iter().find(|cause| cause.functions.iter().any(|end| function.ends_with(end)))
}

/// The causes of a score's wrong answers, those that are known with their case, and each of the others by its function.
pub fn table(score: &Score) -> String {
    let mut sums: BTreeMap<(&str, String), (u64, u64)> = BTreeMap::new();
    for (found, seen) in &score.causes {
        let key = match cause(&found.function) {
            Some(known) => (known.words, known.case.to_owned()),
            None => ("**not listed**", format!("after {}: {}", found.function, seen.example)),
        };
        let sum = sums.entry(key).or_default();
        sum.0 += seen.uniform;
        sum.1 += seen.cover;
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by_key(|(_, (uniform, cover))| std::cmp::Reverse(uniform + cover));
    let mut out = String::from("| uniform | first visit | cause | case |\n|--:|--:|---|---|\n");
    for ((words, case), (uniform, cover)) in rows {
        let _ = writeln!(out, "| {uniform} | {cover} | {words} | {case} |");
    }
    out
}

/// Why right answers were not vouched for, most frequent first.
pub fn distrusts(score: &Score) -> String {
    let mut rows: Vec<(&String, &Seen)> = score.distrusts.iter().collect();
    rows.sort_by_key(|(why, seen)| (std::cmp::Reverse(seen.uniform + seen.cover), (*why).clone()));
    let mut out = String::from("| uniform | first visit | why | first |\n|--:|--:|---|---|\n");
    for (why, seen) in rows {
        let place = seen.example.split(": [").next().unwrap_or_default();
        let _ = writeln!(out, "| {} | {} | {} | {place} |", seen.uniform, seen.cover, why.trim_start_matches(": "));
    }
    out
}

/// The functions after which an answer was wrong for a reason that is not listed.
pub fn unlisted(score: &Score) -> Vec<String> {
    let functions = score.causes.keys().map(|found| &found.function);
    functions.filter(|function| cause(function).is_none()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_is_listed_only_by_the_end_of_a_known_name() {
        assert!(cause("libgcc_s.so.1!_Unwind_Resume").is_some());
        assert!(cause("panics!_RNvCsfLfy6EI15iL_7___rustc10rust_panic").is_some());
        assert!(cause("libc.so.6!longjmp").is_none());
        assert!(cause("ls!.text").is_none());
    }
}
