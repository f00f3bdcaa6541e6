//! What a line asks.

use serde_json::{Map, Value};
use surestack_walk::{Arch, Register, Regs, Stop};

/// A line that was understood.
#[derive(Clone, Debug)]
pub struct Request {
    /// The process.
    pub pid: u32,
    /// The thread, which the asker keeps stopped.
    pub tid: u32,
    /// A number that changes whenever the process's mappings do.
    pub generation: u64,
    /// Why it is not running.
    pub stop: Stop,
    /// Registers by name.
    registers: Map<String, Value>,
    /// Base of the thread's storage, where it is not among the registers.
    thread_base: Option<u64>,
}

impl Request {
    /// What `line` asks.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(line: &Value) -> Result<Self, String> {
        let members = line.as_object().ok_or("not an object")?;
        match members.get("op").and_then(Value::as_str) {
            Some("unwind") => {}
            Some(other) => return Err(format!("unknown op `{other}`")),
            None => return Err("no op".to_owned()),
        }
        let needed = |name: &str| optional(members, name)?.ok_or_else(|| format!("no {name}"));
        let id = |name: &str| u32::try_from(needed(name)?).map_err(|_| format!("{name} is out of range"));
        let small = |name: &str| {
            let value = members.get(name).filter(|value| !value.is_null());
            let whole = |value: &Value| value.as_i64().and_then(|value| i32::try_from(value).ok());
            value.map_or(Ok(0), |value| whole(value).ok_or_else(|| format!("{name} is out of range")))
        };
        let (pid, tid, generation) = (id("pid")?, id("tid")?, needed("maps_gen")?);
        let registers = members.get("regs").and_then(Value::as_object).ok_or("no regs")?;
        Ok(Self {
            pid,
            tid,
            generation,
            stop: Stop { signal: small("signal")?, code: small("si_code")? },
            registers: registers.clone(),
            thread_base: optional(members, "fs_base")?,
        })
    }

    /// Its registers on `arch`. Those that it does not name are unknown; names that the machine does not have are left
    /// out.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn regs(&self, arch: &Arch) -> Result<Regs, String> {
        let mut regs = Regs::new();
        if let Some(base) = self.thread_base {
            regs.set(Register::THREAD, base);
        }
        for &(register, name) in arch.registers {
            if let Some(value) = optional(&self.registers, name)? {
                regs.set(register, value);
            }
        }
        for register in [Register::PC, arch.sp] {
            let name = || arch.register_name(register).unwrap_or("pc");
            regs.get(register).ok_or_else(|| format!("regs has no {}", name()))?;
        }
        Ok(regs)
    }
}

/// The member `name`, as a number or as digits in a string.
fn optional(members: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let wrong = || format!("{name} is not a 64-bit number");
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_u64().ok_or_else(wrong).map(Some),
        Some(Value::String(text)) => {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
            let value = digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
            value.map_err(|_| wrong()).map(Some)
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use surestack_walk::X86_64;

    fn asked(regs: Value) -> Value {
        json!({"op": "unwind", "pid": 1, "tid": "2", "maps_gen": 3, "regs": regs})
    }

    #[test]
    fn numbers_are_read_exactly_in_every_spelling() {
        let line = asked(json!({"rip": "0xffffffffff600000", "rsp": u64::MAX, "rbp": "18446744073709551615"}));
        let request = Request::parse(&line).unwrap();
        assert_eq!((request.pid, request.tid, request.generation), (1, 2, 3));
        let regs = request.regs(&X86_64).unwrap();
        assert_eq!(regs.get(Register::PC), Some(0xffff_ffff_ff60_0000));
        assert_eq!((regs.get(X86_64.sp), regs.get(X86_64.fp)), (Some(u64::MAX), Some(u64::MAX)));
        assert_eq!(regs.get(Register::THREAD), None, "what is not said is not known");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let wrong = |line: &Value| Request::parse(line).and_then(|request| request.regs(&X86_64)).unwrap_err();
        assert_eq!(wrong(&json!([])), "not an object");
        assert_eq!(wrong(&json!({"op": "fly"})), "unknown op `fly`");
        assert_eq!(wrong(&asked(json!({"rip": 1}))), "regs has no rsp");
        assert_eq!(wrong(&asked(json!({"rip": 1.5, "rsp": 1}))), "rip is not a 64-bit number");
        assert_eq!(wrong(&asked(json!({"rip": "0x1ffffffffffffffff", "rsp": 1}))), "rip is not a 64-bit number");
        assert_eq!(wrong(&json!({"op": "unwind", "pid": -1})), "pid is not a 64-bit number");
        assert_eq!(wrong(&json!({"op": "unwind", "pid": 4294967296u64})), "pid is out of range");
        assert_eq!(wrong(&json!({"op": "unwind", "pid": 1, "tid": 1})), "no maps_gen");
        assert_eq!(wrong(&json!({"op": "unwind", "pid": 1, "tid": 1, "maps_gen": 0})), "no regs");
    }

    #[test]
    fn a_signal_and_its_code_may_be_given() {
        let mut line = asked(json!({"rip": 1, "rsp": 1}));
        line["signal"] = json!(5);
        line["si_code"] = json!(-6);
        line["fs_base"] = json!("0x7000");
        let request = Request::parse(&line).unwrap();
        assert_eq!(request.stop, Stop { signal: 5, code: -6 });
        assert_eq!(request.regs(&X86_64).unwrap().get(Register::THREAD), Some(0x7000));
    }
}
