//! A process is read by whichever way is left: each is refused in turn, by a filter of system calls, and the report is the same.
#![cfg(target_arch = "x86_64")]

mod temporary;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

/// Where the program, its libraries and stacks lie is higher than any place in a file.
const HIGH: u32 = 0x1000;

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(k: libc::c_long, then: u8, otherwise: u8) -> libc::sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    libc::sock_filter { code: code as u16, jt: then, jf: otherwise, k: k as u32 }
}

/// Refuses `calls` with EPERM; pread64 only beyond [`HIGH`], in the upper half of its offset, for the loader needs it.
fn filter(calls: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    /// `seccomp_data.args[3]`, its upper half.
    const OFFSET: u32 = 16 + 3 * 8 + 4;
    let refuse = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned());
    let mut code = vec![];
    for &call in calls {
        code.push(statement(LOAD, 0));
        if call == libc::SYS_pread64 {
            code.push(jump(call, 0, 3));
            code.push(statement(LOAD, OFFSET));
            let above = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
            code.push(libc::sock_filter { code: above as u16, jt: 0, jf: 1, k: HIGH });
        } else {
            code.push(jump(call, 0, 1));
        }
        code.push(refuse);
    }
    code.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    code
}

/// `surestack process`, with these calls refused.
fn process(pid: u32, refused: &[libc::c_long]) -> Output {
    let code = filter(refused);
    let install = move || {
        let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut() };
        // SAFETY: takes numbers only.
        let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the kernel copies the filter, which lives until the call returns.
        let second = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if first == 0 && second == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
    command.args(["process", "--json", &pid.to_string()]);
    // SAFETY: `install` makes system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
    command.output().unwrap()
}

/// The frames of every thread, as JSON, with the exit code.
fn frames(pid: u32, refused: &[libc::c_long]) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = process(pid, refused);
    let error = String::from_utf8_lossy(&output.stderr);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    let threads = json["threads"].as_array().unwrap().iter();
    (output.status.code(), threads.map(|thread| thread["frames"].clone()).collect())
}

#[test]
fn with_one_way_refused_the_next_reads_the_same() {
    let path = temporary::path("memory");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/targets.c");
    let mut cc = Command::new("cc");
    assert!(cc.args(["-O1", "-g", "-pthread", source, "-o"]).arg(&path).status().unwrap().success());
    let mut child = Command::new(&path).arg("threads").stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));

    let (file, remote) = (libc::SYS_pread64, libc::SYS_process_vm_readv);
    let (code, all) = frames(child.id(), &[]);
    assert_eq!((code, all.len()), (Some(0), 2), "main, and three threads that look alike");
    assert!(all.iter().all(|frames| frames.as_array().unwrap().len() >= 4));
    for refused in [vec![file], vec![remote], vec![file, remote]] {
        assert_eq!(frames(child.id(), &refused), (Some(0), all.clone()), "{refused:?}");
    }
    // Without ptrace nothing can be stopped at all: the filters do refuse.
    let output = process(child.id(), &[libc::SYS_ptrace]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && error.contains("seccomp filter forbids ptrace"), "{error}");

    child.kill().unwrap();
    child.wait().unwrap();
}
