//! The notes of a core: threads, signals, the process, the files it had mapped.

use crate::image::elf::{self, Note};
use crate::snapshot::{Gap, Mapped, Process, SignalInfo, Thread, registers};
use object::elf::{NT_AUXV, NT_FILE, NT_PRPSINFO, NT_PRSTATUS, NT_SIGINFO};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use surestack_walk::{Arch, Bytes, Memory, Stop};

/// Auxiliary vector: address of the vDSO.
pub(super) const AT_SYSINFO_EHDR: u64 = 33;
/// `NT_ARM_PAC_MASK`: masks of the signature in data and in code addresses.
const NT_ARM_PAC_MASK: u32 = 0x406;
/// `pr_reg` in `struct elf_prstatus`, the same on every 64-bit machine.
const PR_REG: usize = 112;

/// What the notes said.
pub(super) struct Notes {
    arch: &'static Arch,
    pub process: Process,
    pub threads: Vec<Thread>,
    /// Ascending by address.
    pub files: Vec<MappedFile>,
    /// Bits of a code address that hold a signature.
    pub signed_bits: u64,
    early_signal: Option<SignalInfo>,
    damaged: usize,
}

/// An entry of NT_FILE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedFile {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    pub path: PathBuf,
}

impl MappedFile {
    /// The entry that covers `address`.
    pub fn covering(files: &[Self], address: u64) -> Option<&Self> {
        let after = files.partition_point(|file| file.start <= address);
        files.get(after.checked_sub(1)?).filter(|file| address < file.end)
    }

    /// A mapping of which no more is known.
    pub fn mapped(&self) -> Mapped {
        let file = Some((self.path.clone(), self.offset));
        Mapped { start: self.start, end: self.end, executable: None, writable: None, file, probe: None }
    }
}

impl Notes {
    pub fn new(arch: &'static Arch) -> Self {
        Self {
            arch,
            process: Process::default(),
            threads: vec![],
            files: vec![],
            signed_bits: 0,
            early_signal: None,
            damaged: 0,
        }
    }

    /// Takes in the notes of one segment.
    pub fn read(&mut self, bytes: &[u8], align: u64) {
        for note in elf::notes(bytes, align) {
            let known = match (note.kind, note.owner) {
                (NT_PRSTATUS, b"CORE") => self.thread(&note),
                (NT_SIGINFO, b"CORE") => self.signal(&note),
                (NT_PRPSINFO, b"CORE") => self.program(&note),
                (NT_AUXV, b"CORE") => self.auxiliary(&note),
                (NT_FILE, b"CORE") => self.mapped_files(&note),
                (NT_ARM_PAC_MASK, _) => self.pac_mask(&note),
                _ => Some(()),
            };
            if known.is_none() {
                self.damaged = self.damaged.saturating_add(1);
            }
        }
    }

    /// The threads in the order promised, and what was wrong.
    pub fn finish(mut self, gaps: &mut Vec<Gap>) -> Self {
        if self.damaged > 0 {
            gaps.push(Gap::Damaged { what: format!("{} of its notes cannot be used", self.damaged) });
        }
        if self.threads.is_empty() {
            gaps.push(Gap::Damaged { what: "it holds no thread".to_owned() });
        }
        // Linux writes the thread that took the signal first; others may not.
        let crashed = self.threads.iter().position(|thread| thread.stop.signal != 0);
        if let Some((first, index)) = self.threads.first().zip(crashed)
            && first.stop.signal == 0
        {
            self.threads[..=index].rotate_right(1);
        }
        // Linux writes the fatal signal into every thread's NT_PRSTATUS, but only one thread took it.
        let others = self.threads.iter_mut().skip(1).filter(|thread| thread.signal.is_none());
        others.for_each(|thread| thread.stop = Stop::default());
        self.files.sort_by_key(|file| file.start);
        self
    }

    fn thread(&mut self, note: &Note<'_>) -> Option<()> {
        let word = |at: u64, width: u8| Bytes { address: 0, bytes: note.contents }.value(at, width).ok();
        let regs = registers::live(self.arch, note.contents.get(PR_REG..)?)?;
        let signal = i32::try_from(word(12, 2)?).ok()?;
        let id = u32::try_from(word(32, 4)?).ok()?;
        let signal_info = if self.threads.is_empty() { self.early_signal.take() } else { None };
        let code = signal_info.map_or(0, |signal| signal.code);
        let stop = Stop { signal, code };
        self.threads.push(Thread { id, name: None, regs, stop, signal: signal_info });
        Some(())
    }

    /// Belongs to the thread before it; the kernel writes it after the thread's NT_PRSTATUS.
    fn signal(&mut self, note: &Note<'_>) -> Option<()> {
        let signal = signal_info(note.contents)?;
        let Some(thread) = self.threads.last_mut() else {
            self.early_signal = Some(signal);
            return Some(());
        };
        thread.signal = Some(signal);
        if thread.stop.signal == 0 {
            thread.stop.signal = signal.number;
        }
        if thread.stop.signal == signal.number {
            thread.stop.code = signal.code;
        }
        Some(())
    }

    fn program(&mut self, note: &Note<'_>) -> Option<()> {
        let pid = note.contents.get(24..28)?.first_chunk::<4>()?;
        let text = |field: &[u8]| {
            let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).trim_end().to_owned()
        };
        self.process.pid = Some(u32::from_le_bytes(*pid));
        self.process.name = Some(text(note.contents.get(40..56)?));
        self.process.arguments = Some(text(note.contents.get(56..136)?));
        Some(())
    }

    fn auxiliary(&mut self, note: &Note<'_>) -> Option<()> {
        self.process.auxv = super::super::auxv(note.contents);
        Some(())
    }

    fn mapped_files(&mut self, note: &Note<'_>) -> Option<()> {
        let (words, _) = note.contents.as_chunks::<8>();
        let word = |at: usize| words.get(at).map(|word| u64::from_le_bytes(*word));
        let (count, page) = (usize::try_from(word(0)?).ok()?, word(1)?);
        let names = note.contents.get(count.checked_mul(24)?.checked_add(16)?..)?;
        for (entry, name) in (0..count).zip(names.split(|&byte| byte == 0)) {
            let at = entry.checked_mul(3)?.checked_add(2)?;
            let (start, end) = (word(at)?, word(at.checked_add(1)?)?);
            let offset = word(at.checked_add(2)?)?.checked_mul(page)?;
            if start < end {
                self.files.push(MappedFile { start, end, offset, path: PathBuf::from(OsStr::from_bytes(name)) });
            }
        }
        Some(())
    }

    fn pac_mask(&mut self, note: &Note<'_>) -> Option<()> {
        self.signed_bits |= u64::from_le_bytes(*note.contents.get(8..)?.first_chunk::<8>()?);
        Some(())
    }
}

/// A `siginfo_t`.
fn signal_info(bytes: &[u8]) -> Option<SignalInfo> {
    let memory = Bytes { address: 0, bytes };
    let int = |at: u64| Some(u32::try_from(memory.value(at, 4).ok()?).ok()?.cast_signed());
    let (number, code) = (int(0)?, int(8)?);
    Some(SignalInfo::from_words(number, code, memory.word(16).ok()?))
}
