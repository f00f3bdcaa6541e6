//! The framehop crate, given what its documentation asks for.

use super::{Answer, Contender, MAX_FRAMES, Stop};
use crate::maps::Module;
use crate::memory::Memory;
use ::framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use ::framehop::{ExplicitModuleSectionInfo, Unwinder};
use object::{Object, ObjectSection, ObjectSegment};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::sync::Arc;

type Bytes = Arc<[u8]>;

/// framehop, with modules from the process's mappings and the vDSO from its memory.
#[derive(Default)]
pub struct Framehop {
    unwinder: UnwinderX86_64<Bytes>,
    cache: CacheX86_64,
    generation: u64,
    /// By path: files do not change under a run.
    files: HashMap<String, Option<Sections>>,
}

#[derive(Clone, Default)]
struct Sections {
    low: u64,
    named: HashMap<&'static str, (Range<u64>, Bytes)>,
}

const WANTED: [&str; 5] = [".text", ".got", ".eh_frame", ".eh_frame_hdr", ".debug_frame"];

impl Contender for Framehop {
    fn name(&self) -> &str {
        "framehop"
    }

    fn ask(&mut self, stop: &Stop<'_>) -> Answer {
        if self.generation != stop.modules_generation {
            self.generation = stop.modules_generation;
            self.reload(stop);
        }
        let registers = &stop.registers;
        let memory = stop.memory();
        let mut read = |address| memory.word(address).ok_or(());
        let start = UnwindRegsX86_64::new(registers.rip, registers.rsp, registers.rbp);
        let mut frames = self.unwinder.iter_frames(registers.rip, start, &mut self.cache, &mut read);
        let mut pcs = Vec::new();
        while pcs.len() < MAX_FRAMES {
            match frames.next() {
                Ok(Some(frame)) => pcs.push(frame.address()),
                Ok(None) => {
                    return Answer { pcs, trusted: true, why: "end of the stack".to_owned() };
                }
                Err(error) => {
                    return Answer { pcs, trusted: false, why: error.to_string() };
                }
            }
        }
        Answer { pcs, trusted: false, why: "too many frames".to_owned() }
    }
}

impl Framehop {
    fn reload(&mut self, stop: &Stop<'_>) {
        self.unwinder = UnwinderX86_64::default();
        self.cache = CacheX86_64::default();
        for module in stop.modules {
            let memory = stop.memory();
            let sections = self.files.entry(module.name.clone()).or_insert_with(|| sections(memory, module));
            if let Some(sections) = sections {
                self.unwinder.add_module(adapted(module, sections));
            }
        }
    }
}

fn sections(memory: Memory, module: &Module) -> Option<Sections> {
    let bytes = if module.name.starts_with('/') { fs::read(&module.name).ok()? } else { in_memory(memory, module)? };
    let file = object::File::parse(&*bytes).ok()?;
    let low = file.segments().map(|s| s.address()).min().unwrap_or(0);
    let mut sections = Sections { low, ..Sections::default() };
    for section in file.sections() {
        let Some(&name) = WANTED.iter().find(|&&w| section.name() == Ok(w)) else {
            continue;
        };
        if let Ok(data) = section.uncompressed_data() {
            let range = section.address()..section.address() + section.size();
            sections.named.insert(name, (range, data.as_ref().into()));
        }
    }
    Some(sections)
}

fn in_memory(memory: Memory, module: &Module) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(module.end.checked_sub(module.base)?).ok()?];
    let len = memory.read_some(module.base, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

fn adapted(module: &Module, sections: &Sections) -> ::framehop::Module<Bytes> {
    let range = |name| sections.named.get(name).map(|(range, _)| range.clone());
    let data = |name| sections.named.get(name).map(|(_, bytes)| bytes.clone());
    let info = ExplicitModuleSectionInfo {
        base_svma: sections.low & !0xfff,
        text_svma: range(".text"),
        text: data(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame: data(".debug_frame"),
        ..Default::default()
    };
    ::framehop::Module::new(module.name.clone(), module.base..module.end, module.base, info)
}
