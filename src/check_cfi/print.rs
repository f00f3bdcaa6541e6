//! What was found, as text, as a row of a table, and as JSON.

use super::{Checked, Contradiction, Counts};
use crate::analysis::CALLEE_SAVED;
use crate::proof::claim::{Cfa, Claim, Saved, dwarf};
use serde_json::json;
use std::io::{self, Write};
use surestack_walk::{RowProof, X86_64};

/// The head of the table whose rows [`Checked::table_row`] makes.
pub const TABLE_HEAD: &str = "\
| file | instructions | proven | assumed | contradicted | undecided | wrong registers | CPU s per MB |
|---|---|---|---|---|---|---|---|";

impl Counts {
    fn share(&self, count: u64) -> f64 {
        let (count, all) = (count as f64, self.all().max(1) as f64);
        100.0 * count / all
    }
}

impl Checked {
    /// CPU seconds for each megabyte of code.
    pub fn cost(&self) -> f64 {
        let megabytes = self.counts.bytes as f64 / 1e6;
        if megabytes > 0.0 { self.cpu.as_secs_f64() / megabytes } else { 0.0 }
    }

    /// One row of the table.
    pub fn table_row(&self, name: &str) -> String {
        let counts = &self.counts;
        format!(
            "| {name} | {} | {:.3} % | {:.3} % | {} | {:.3} % | {} | {:.3} |",
            counts.all(),
            counts.share(counts.proven),
            counts.share(counts.assumed),
            counts.contradicted,
            counts.share(counts.undecided),
            counts.wrong_registers,
            self.cost()
        )
    }

    /// Everything, for people.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn text(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let counts = &self.counts;
        writeln!(out, "{name}: {} functions, {} instruction addresses", counts.functions, counts.all())?;
        for (grade, count) in [
            ("proven", counts.proven),
            ("assumed", counts.assumed),
            ("contradicted", counts.contradicted),
            ("undecided", counts.undecided),
        ] {
            writeln!(out, "  {grade:<13} {count:>9}  {:>7.3} %", counts.share(count))?;
        }
        writeln!(out, "  and {} unreached fillers; {:.3} s CPU per MB of code", counts.fillers, self.cost())?;
        let mut function = None;
        for found in &self.contradictions {
            if function != Some(found.function) {
                function = Some(found.function);
                let name = found.name.as_deref().unwrap_or("(no symbol)");
                let known = found.known.map_or(String::new(), |what| format!(" (known: {what})"));
                writeln!(out, "\n{:#x} {name}{known}", found.function)?;
            }
            writeln!(out, "  {:#x}  {:<40} {}", found.address, found.instruction, found.says())?;
        }
        Ok(())
    }

    /// Everything, for programs.
    pub fn json(&self, name: &str) -> String {
        let counts = &self.counts;
        let found = self.contradictions.iter().map(|found| {
            json!({
                "address": format!("{:#x}", found.address),
                "function": format!("{:#x}", found.function),
                "name": found.name,
                "instruction": found.instruction,
                "row": found.claimed(),
                "code": found.found(),
                "known": found.known,
            })
        });
        json!({
            "file": name,
            "functions": counts.functions,
            "bytes": counts.bytes,
            "instructions": counts.all(),
            "proven": counts.proven,
            "assumed": counts.assumed,
            "contradicted": counts.contradicted,
            "undecided": counts.undecided,
            "fillers": counts.fillers,
            "wrong_registers": counts.wrong_registers,
            "cpu_seconds": self.cpu.as_secs_f64(),
            "contradictions": found.collect::<Vec<_>>(),
        })
        .to_string()
    }
}

impl Contradiction {
    /// Whether the frame is wrong, and not only a register.
    pub fn is_frame(&self) -> bool {
        self.proven.frame == RowProof::Contradicted
    }

    /// What the row says, and what is true.
    pub fn says(&self) -> String {
        format!("row: {}; code: {}", self.claimed(), self.found())
    }

    /// What the row says, of that in which it is wrong.
    pub fn claimed(&self) -> String {
        self.of(&self.claim)
    }

    /// What is so instead.
    pub fn found(&self) -> String {
        match (self.corrected, self.claim.cfa) {
            (Some(corrected), _) => self.of(&corrected),
            (None, Cfa::Register(number, offset)) if self.proven.off != 0 => {
                format!("CFA={}{:+}", register(number), offset.wrapping_sub(self.proven.off))
            }
            (None, Cfa::Expression(_)) if self.proven.off != 0 => format!("{:+} from there", -self.proven.off),
            _ => "something else".to_owned(),
        }
    }

    fn of(&self, claim: &Claim) -> String {
        if self.is_frame() {
            return match claim.cfa {
                Cfa::Register(number, offset) => format!("CFA={}{offset:+}", register(number)),
                Cfa::Expression(_) => "CFA=(expression)".to_owned(),
                Cfa::Strange => "CFA=?".to_owned(),
            };
        }
        let rules = CALLEE_SAVED.iter().zip(claim.saved).zip([1, 2, 4, 8, 16, 32]);
        let wrong = rules.filter(|(_, bit)| self.proven.wrong & bit != 0);
        let said: Vec<String> = wrong.map(|((number, saved), _)| rule(register(*number), saved)).collect();
        said.join(", ")
    }
}

fn register(number: u8) -> &'static str {
    X86_64.register(dwarf(number).0).and_then(|register| X86_64.register_name(register)).unwrap_or("?")
}

fn rule(name: &str, saved: Saved) -> String {
    match saved {
        Saved::Kept => format!("{name} kept"),
        Saved::Undefined => format!("{name} lost"),
        Saved::At(offset) => format!("{name} at CFA{offset:+}"),
        Saved::Sum(offset) => format!("{name}=CFA{offset:+}"),
        Saved::In(other) => format!("{name} in {}", register(other)),
        Saved::AtExpression(_) | Saved::Expression(_) => format!("{name}=(expression)"),
        Saved::Strange => format!("{name}=?"),
    }
}
