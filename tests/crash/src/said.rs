//! What a handler said: the addresses of the frames in its text. Ours also leaves a record.

use crate::contender::Contender;

/// The addresses of each trace, in the order in which they were printed.
pub fn traces(contender: Contender, text: &str) -> Vec<Vec<u64>> {
    let line: fn(&str) -> Option<u64> = match contender {
        Contender::None => |_| None,
        Contender::Ours => |line| hexadecimal(line.trim_start().strip_prefix('#')?.split_whitespace().nth(1)?),
        Contender::Std => numbered,
        Contender::Backtrace | Contender::CrashHandler => {
            |line| hexadecimal(line.strip_prefix("frame ")?.split_whitespace().next()?)
        }
        Contender::Glibc => |line| hexadecimal(line.strip_suffix(']')?.rsplit_once('[')?.1),
    };
    let mut traces = vec![Vec::new()];
    let mut left_out = false;
    for text in text.lines() {
        let begins = ["trace:", "0:", "#0 "].iter().any(|first| text.trim_start().starts_with(first));
        if begins {
            traces.push(Vec::new());
            left_out = false;
        }
        // Our text does not print thousands of frames. What is behind the gap does not follow what is before it.
        left_out |= contender == Contender::Ours && text.trim_start().starts_with("...");
        if left_out {
            continue;
        }
        if let (Some(frame), Some(last)) = (line(text), traces.last_mut()) {
            // std prints an address again for each call that was inlined there.
            if contender != Contender::Std || last.last() != Some(&frame) {
                last.push(frame);
            }
        }
    }
    for trace in &mut traces {
        // The backtrace crate's way to say that it is at the end.
        trace.pop_if(|address| *address == 0);
    }
    traces.retain(|t| !t.is_empty());
    traces
}

/// The first registers that our own text prints: general ones in the order of DWARF's numbers, then the pc.
pub fn registers(text: &str) -> Option<[u64; 17]> {
    const NAMES: [&str; 17] = [
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let value = |name: &str| {
        let pair = words.windows(2).find(|pair| pair.first() == Some(&name))?;
        hexadecimal(pair.get(1)?)
    };
    let all: Option<Vec<u64>> = NAMES.iter().map(|name| value(name)).collect();
    all?.try_into().ok()
}

/// `   3:     0x55d0c8a41234 - name`
fn numbered(line: &str) -> Option<u64> {
    let (number, rest) = line.trim_start().split_once(':')?;
    number.parse::<u32>().ok()?;
    hexadecimal(rest.split_whitespace().next()?)
}

fn hexadecimal(word: &str) -> Option<u64> {
    if word == "(nil)" {
        return Some(0);
    }
    u64::from_str_radix(word.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::traces;
    use crate::contender::Contender;

    #[test]
    fn each_form_of_a_frame_is_read_and_nothing_else() {
        let std = "thread panicked at 0x12:\n   0:     0x5510 - a\n      at /src/a.rs:3\n  11:     0x5520 - b\n";
        assert_eq!(traces(Contender::Std, std), [[0x5510, 0x5520]]);
        let glibc = "program(main+0x1f)[0x77]\n/lib/libc.so.6(+0x2724a)[0x88]\nnot a frame\n";
        assert_eq!(traces(Contender::Glibc, glibc), [[0x77, 0x88]]);
        let two = "trace:\nframe 0x0000000000000099\ntrace:\nframe 0x0000000000000098\n";
        assert_eq!(traces(Contender::CrashHandler, two), [[0x99], [0x98]]);
        assert!(traces(Contender::None, glibc).is_empty());
    }
}
