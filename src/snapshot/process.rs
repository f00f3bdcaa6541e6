//! A live process whose threads somebody else keeps stopped, as a snapshot that is asked again and again.
//!
//! Made for single-stepping: between two asks only the registers change and nothing is read here. Modules and mappings
//! are read when the caller says that they changed; images stay open as long as the same file is mapped.
//! It neither attaches nor stops anything: reading needs the rights of ptrace, which who stopped the process has.

mod facts;
mod files;
pub mod hold;
mod maps;
mod memory;
mod own;
mod pages;
pub mod parked;

use super::placement::Placement;
use super::{AddressSpace, Identity, LoadedModule, Snapshot, Thread, auxv, registers};
use crate::error::Error;
use crate::image::{Find, Image};
use maps::Map;
use memory::{Handed, Peek, ProcessMemory};
pub(crate) use own::find_files;
use pages::{PagedMemory, Pages};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use surestack_walk::{Arch, Regs, Stop};

/// Auxiliary vector: address of the vDSO.
const AT_SYSINFO_EHDR: u64 = 33;
/// Largest vDSO that is read.
const VDSO: u64 = 1 << 20;

/// A process whose threads somebody keeps stopped.
pub struct StoppedProcess {
    pid: u32,
    /// The task whose files in `/proc` are read: the first thread's are empty once it has exited.
    task: u32,
    find: Find,
    images: HashMap<FileKey, (Arc<Image>, Option<Arc<Image>>)>,
    /// The mappings as they were read, without names.
    maps: Vec<Map>,
    /// Asks who holds the process for its memory.
    peek: Option<Peek>,
    /// The files of its memory, where it opened them itself.
    handed: Option<Handed>,
    snapshot: Snapshot,
    /// What was read of its memory since it was stopped; `None` while all is read anew.
    pages: Option<Pages>,
}

/// What makes two mappings show the same file.
#[derive(Clone, PartialEq, Eq, Hash)]
struct FileKey {
    device: String,
    inode: u64,
    path: PathBuf,
}

impl StoppedProcess {
    /// The process `pid`, stopped by the caller. It has no threads until [`StoppedProcess::stopped_at`] says one.
    ///
    /// # Errors
    /// [`Error::Process`] when it cannot be read.
    pub fn open(pid: u32, find: Find) -> Result<Self, Error> {
        Self::open_by(pid, pid, find)
    }

    /// The same, read by the files of one of its threads.
    pub(crate) fn open_by(pid: u32, task: u32, find: Find) -> Result<Self, Error> {
        Self::open_through(pid, task, find, None)
    }

    /// The same, its memory through files that were handed over.
    fn open_through(pid: u32, task: u32, find: Find, handed: Option<Handed>) -> Result<Self, Error> {
        let memory = handed.as_ref().map_or_else(|| ProcessMemory::open(task, None), |handed| handed.memory(task));
        let memory = memory.map_err(refused(pid, "opening its memory"))?;
        let snapshot = Snapshot {
            arch: arch(pid, task)?,
            process: super::Process { pid: Some(pid), ..super::Process::default() },
            threads: vec![],
            absent: vec![],
            space: AddressSpace { complete: true, ..AddressSpace::default() },
            memory: Box::new(memory),
            gaps: vec![],
            signed_bits: 0,
        };
        let mut process =
            Self { pid, task, find, images: HashMap::new(), maps: vec![], peek: None, handed, snapshot, pages: None };
        process.refresh()?;
        Ok(process)
    }

    /// Whether the address space that was opened still exists: it ends with the process, and when that runs another program.
    pub fn is_there(&self) -> bool {
        self.forget_pages();
        let mut byte = [0];
        let first = self.snapshot.space.modules.first();
        first.is_some_and(|first| self.snapshot.memory.read(first.start, &mut byte).is_ok())
    }

    /// Remembers what is read of its memory until [`StoppedProcess::stopped_at`] says that it ran, or it is refreshed: for
    /// who asks only then, and writes nothing in between.
    ///
    /// # Errors
    /// [`Error::Process`] when it cannot be read any more.
    pub fn remembering(mut self) -> Result<Self, Error> {
        self.pages = Some(Pages::default());
        self.open_memory()?;
        Ok(self)
    }

    fn open_memory(&mut self) -> Result<(), Error> {
        let memory = match &self.handed {
            Some(handed) => handed.memory(self.task),
            None => ProcessMemory::open(self.task, self.peek.clone()),
        };
        let memory = memory.map_err(refused(self.pid, "opening its memory"))?;
        self.snapshot.memory = match self.pages.clone() {
            Some(pages) => Box::new(PagedMemory { memory, pages }),
            None => Box::new(memory),
        };
        Ok(())
    }

    /// Reads everything anew by the files of this thread; its memory, where those refuse, by asking who holds it.
    fn read_by(&mut self, task: u32, peek: Peek) -> Result<(), Error> {
        (self.task, self.peek) = (task, Some(peek));
        self.snapshot.process.auxv.clear();
        self.refresh()
    }

    fn user(&mut self, user: u32) {
        self.snapshot.process.user = Some(user);
    }

    fn snapshot_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// Reads the mappings and modules anew, and after an exec the program and its memory too.
    ///
    /// # Errors
    /// [`Error::Process`] when the process cannot be read any more.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let (pid, task) = (self.pid, self.task);
        let read = |name: &str| std::fs::read(format!("/proc/{task}/{name}"));
        self.forget_pages();
        let auxiliary = read("auxv").map_err(refused(pid, "reading its auxiliary vector"))?;
        let auxiliary = auxv(&auxiliary);
        if auxiliary != self.snapshot.process.auxv {
            // The memory file belongs to the address space it was opened in, which exec has replaced.
            self.open_memory()?;
            let name = read("comm").map_err(refused(pid, "reading its name"))?;
            self.snapshot.process.name = Some(String::from_utf8_lossy(&name).trim_end().to_owned());
            self.snapshot.process.auxv = auxiliary;
        }
        let text = read("maps").map_err(refused(pid, "reading its mappings"))?;
        let maps = maps::parse(&text);
        self.snapshot.space.modules = self.modules(&maps);
        let main_stack = maps.iter().find(|map| map.path.as_deref() == Some(Path::new("[stack]")));
        self.snapshot.space.main_stack = main_stack.and_then(|map| map.end.checked_sub(1));
        self.maps = maps.iter().cloned().map(Map::unnamed).collect();
        self.snapshot.space.mappings = maps.into_iter().map(Map::mapped).collect();
        Ok(())
    }

    /// Whether everything is mapped as it was when it was read last. To be asked after a walk, where not everything that
    /// runs in this memory is known to stand still.
    pub fn is_mapped_as_read(&self) -> bool {
        let now = std::fs::read(format!("/proc/{}/maps", self.task)).unwrap_or_default();
        maps::parse(&now).into_iter().map(Map::unnamed).eq(self.maps.iter().cloned())
    }

    /// Makes thread `id` the snapshot's only one, stopped with these registers (`struct user_regs_struct`).
    ///
    /// # Errors
    /// [`Error::Process`] when `block` is shorter than the registers.
    pub fn stopped_at(&mut self, id: u32, block: &[u8], stop: Stop) -> Result<&Snapshot, Error> {
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let regs = registers::live(self.snapshot.arch, block);
        let regs: Regs = regs.ok_or_else(short).map_err(refused(self.pid, "decoding registers"))?;
        self.stopped_with(id, regs, stop)
    }

    /// Makes thread `id` the snapshot's only one, stopped with these registers.
    ///
    /// # Errors
    /// [`Error::Process`] when its stack has grown and the mappings cannot be read any more.
    pub fn stopped_with(&mut self, id: u32, regs: Regs, stop: Stop) -> Result<&Snapshot, Error> {
        // The kernel grows the initial stack without anybody asking for it.
        self.forget_pages();
        let sp = regs.get(self.snapshot.arch.sp);
        if sp.is_some_and(|sp| self.snapshot.space.mapped(sp).is_none()) {
            self.refresh()?;
        }
        let threads = &mut self.snapshot.threads;
        match threads.as_mut_slice() {
            [thread] => (thread.id, thread.regs, thread.stop) = (id, regs, stop),
            _ => *threads = vec![Thread { id, name: None, regs, stop, signal: None }],
        }
        Ok(&self.snapshot)
    }

    fn forget_pages(&self) {
        self.pages.iter().for_each(Pages::forget);
    }

    /// The process as it is known.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Files mapped from their beginning with code in them, and the vDSO.
    fn modules(&mut self, maps: &[Map]) -> Vec<LoadedModule> {
        let vdso = self.snapshot.process.aux(AT_SYSINFO_EHDR);
        let mut modules: Vec<LoadedModule> = vec![];
        for (index, map) in maps.iter().enumerate() {
            let begins = modules.last().is_none_or(|last| map.start >= last.end);
            let is_vdso = vdso == Some(map.start);
            let rest = maps.get(index..).unwrap_or_default();
            let has_code = || {
                let same = |other: &&Map| other.path == map.path || other.path.is_none();
                rest.iter().take_while(same).any(|other| other.executable && other.path == map.path)
            };
            if !begins || map.offset != 0 || !(is_vdso || map.inode != 0 && has_code()) {
                continue;
            }
            let found = if is_vdso { self.vdso(map) } else { self.file(rest) };
            let Some((path, image, debug, identity)) = found else { continue };
            let Some(Placement { bias, start, end }) = Placement::at_base(image.segments(), map.start) else {
                continue;
            };
            let build_id = image.build_id();
            modules.push(LoadedModule { start, end, bias, path, build_id, image: Some(image), debug, identity });
        }
        modules
    }

    /// The file that the first of `maps` shows from its beginning; what of it is in memory, where it cannot be had.
    fn file(&mut self, maps: &[Map]) -> Option<Named> {
        let map = maps.first()?;
        let path = map.path.clone()?;
        let key = FileKey { device: map.device.clone(), inode: map.inode, path: path.clone() };
        if !self.images.contains_key(&key) {
            let Some(image) = files::image(self.task, map) else {
                let image = files::from_memory(&*self.snapshot.memory, maps)?;
                let debug = self.find.debug_file(&image, &path).map(Arc::new);
                return Some((path, Arc::new(image), debug, Identity::Memory));
            };
            let debug = self.find.debug_file(&image, &path).map(Arc::new);
            self.images.insert(key.clone(), (Arc::new(image), debug));
        }
        let (image, debug) = self.images.get(&key)?;
        Some((path, image.clone(), debug.clone(), Identity::Mapped))
    }

    fn vdso(&self, map: &Map) -> Option<Named> {
        let size = map.end.checked_sub(map.start)?.min(VDSO);
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.snapshot.memory.read(map.start, &mut bytes).ok()?;
        let image = Image::from_bytes(bytes, "[vdso]").ok()?;
        Some((PathBuf::from("[vdso]"), Arc::new(image), None, Identity::Memory))
    }
}

/// A module's path, image, debug file and identity.
type Named = (PathBuf, Arc<Image>, Option<Arc<Image>>, Identity);

/// The architecture of the program that the process runs.
fn arch(pid: u32, task: u32) -> Result<&'static Arch, Error> {
    let program = Image::open(Path::new(&format!("/proc/{task}/exe")))?;
    let unknown = || io::Error::other(format!("e_machine {} is not supported", program.machine()));
    Arch::of_machine(program.machine()).ok_or_else(unknown).map_err(refused(pid, "reading its program"))
}

fn refused(pid: u32, what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Process { pid, what, source }
}
