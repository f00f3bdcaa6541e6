//! What was found, as text and as JSON.

use super::{Depth, Edge, Hop, Offence, Reason, SystemCall, Verified};
use serde_json::{Value, json};
use std::fmt;
use std::io::{self, Write};

impl Verified {
    /// Everything, for people.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn text(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        for violation in &self.violations {
            writeln!(out, "violation: {}", violation.what)?;
            for hop in &violation.path {
                writeln!(out, "  {hop}")?;
            }
            if violation.others > 0 {
                writeln!(out, "  and {} other places", violation.others)?;
            }
            writeln!(out)?;
        }
        let count = self.violations.len();
        writeln!(out, "{name}: {count} violation{}", if count == 1 { "" } else { "s" })?;
        writeln!(out, "  functions reached  {}", self.functions.len())?;
        writeln!(out, "  allowed            {}", list(self.allowed.iter().map(String::as_str)))?;
        writeln!(
            out,
            "  indirect calls     {} known, {} through vtables, {} annotated",
            self.resolved,
            self.virtual_calls.len(),
            self.annotated.len()
        )?;
        for call in &self.virtual_calls {
            let callees = list(call.callees.iter().map(String::as_str));
            writeln!(out, "    {:#x} in {}: slot {:#x}: {callees}", call.address, call.function, call.slot)?;
        }
        for call in &self.annotated {
            writeln!(out, "    {:#x} in {}: annotated: {}", call.address, call.function, call.reason)?;
        }
        for annotation in &self.unused {
            writeln!(out, "    annotation of no use: {}", annotation.function)?;
        }
        writeln!(out, "  escapes            {}", self.escapes.iter().map(|escape| escape.sites.len()).sum::<usize>())?;
        for escape in &self.escapes {
            writeln!(out, "    {} from {} places", escape.name, escape.sites.len())?;
        }
        writeln!(out, "  system calls       {}", self.system_calls.len())?;
        for call in &self.system_calls {
            writeln!(out, "    {} at {:#x} in {}", call.what(), call.address, call.function)?;
        }
        for (root, depth) in &self.stack {
            writeln!(out, "  stack              {depth} from {root}")?;
        }
        Ok(())
    }

    /// Everything, for programs.
    pub fn json(&self, name: &str) -> String {
        let violation = |found: &super::Violation| {
            json!({
                "what": found.what.to_string(),
                "kind": found.what.kind(),
                "path": found.path.iter().map(hop).collect::<Vec<_>>(),
                "others": found.others,
            })
        };
        let virtual_call = |call: &super::VirtualCall| {
            json!({
                "address": hex(call.address), "function": call.function, "slot": call.slot, "callees": call.callees,
            })
        };
        let annotated = |call: &super::Annotated| json!({"address": hex(call.address), "function": call.function, "reason": call.reason});
        let escape = |escape: &super::Sites| json!({"name": escape.name, "sites": escape.sites.iter().map(|site| hex(*site)).collect::<Vec<_>>()});
        let system_call = |call: &SystemCall| json!({"address": hex(call.address), "function": call.function, "numbers": call.numbers});
        let stack = |(root, depth): &(String, Depth)| match depth {
            Depth::AtMost(bytes) => json!({"root": root, "bytes": bytes}),
            Depth::Unknown(why) => json!({"root": root, "bytes": null, "unknown": why}),
        };
        json!({
            "file": name,
            "violations": self.violations.iter().map(violation).collect::<Vec<_>>(),
            "functions": self.functions,
            "allowed": self.allowed,
            "resolved": self.resolved,
            "virtual_calls": self.virtual_calls.iter().map(virtual_call).collect::<Vec<_>>(),
            "annotated": self.annotated.iter().map(annotated).collect::<Vec<_>>(),
            "unused_annotations": self.unused.iter().map(|one| &one.function).collect::<Vec<_>>(),
            "escapes": self.escapes.iter().map(escape).collect::<Vec<_>>(),
            "system_calls": self.system_calls.iter().map(system_call).collect::<Vec<_>>(),
            "stack": self.stack.iter().map(stack).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

impl SystemCall {
    fn what(&self) -> String {
        match &self.numbers {
            Some(numbers) => list(numbers.iter().map(u64::to_string)),
            None => "unknown".to_owned(),
        }
    }
}

impl Offence {
    /// One word for what it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Function(_) => "function",
            Self::Late(_) => "late",
            Self::Thread(_) => "thread",
            Self::Indirect(_) => "indirect",
            Self::Nameless => "nameless",
            Self::Undecodable => "undecodable",
            Self::NoCode(_) => "no code",
            Self::TooMuch => "too much",
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => write!(out, "{name} is not on the list"),
            Self::Late(name) => {
                write!(out, "{name} is looked for by the loader when it is first called; link with -z now")
            }
            Self::Thread(what) => write!(out, "thread-local storage, by {what}"),
            Self::Indirect(reason) => write!(out, "{reason}"),
            Self::Nameless => out.write_str("code that no symbol covers"),
            Self::Undecodable => out.write_str("bytes that are no instruction"),
            Self::NoCode(address) => write!(out, "there is no code at {address:#x}"),
            Self::TooMuch => out.write_str("there is more code than can be looked at"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(address) => write!(out, "an indirect call through the variable at {address:#x}"),
            Self::Loaded => {
                out.write_str("an indirect call through a pointer that was read from a variable or came from outside")
            }
            Self::Pointer => out.write_str("an indirect call through a pointer of which nothing is known"),
            Self::Table(address) => {
                write!(out, "an indirect call through the table at {address:#x}, which is not understood")
            }
            Self::Slot(slot) => write!(
                out,
                "an indirect call through a pointer at {slot:#x} of something that is not known to be a vtable"
            ),
            Self::Return => out.write_str("a return to an address that no call left there"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#x}  {}", self.address, self.function)?;
        match self.edge {
            Edge::Call => write!(out, "  calls {}", self.to),
            Edge::Jump => write!(out, "  jumps to {}", self.to),
            Edge::Through => write!(out, "  goes through a pointer to {}", self.to),
            Edge::Table(table) => write!(out, "  goes through the table at {table:#x} to {}", self.to),
            Edge::Vtable(vtable) => write!(out, "  goes through the vtable at {vtable:#x} to {}", self.to),
            Edge::Taken => write!(out, "  takes the address of {}", self.to),
            Edge::Data(at) => write!(out, "  refers to the data at {at:#x} with the address of {}", self.to),
            Edge::Here if self.to.is_empty() => write!(out, "  here"),
            Edge::Here => write!(out, "  here: {}", self.to),
        }
    }
}

fn hop(hop: &Hop) -> Value {
    let (edge, at) = match hop.edge {
        Edge::Call => ("call", None),
        Edge::Jump => ("jump", None),
        Edge::Through => ("pointer", None),
        Edge::Table(table) => ("table", Some(table)),
        Edge::Vtable(vtable) => ("vtable", Some(vtable)),
        Edge::Taken => ("taken", None),
        Edge::Data(at) => ("data", Some(at)),
        Edge::Here => ("here", None),
    };
    json!({"address": hex(hop.address), "function": hop.function, "edge": edge, "at": at.map(hex), "to": hop.to})
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// Names in a row; `none` where there is none.
fn list(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    let all: Vec<String> = names.map(|name| name.as_ref().to_owned()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
