//! Evidence for the judge, from the target's instructions.

mod call_site;
mod correct;
mod files;
mod frame;
mod imports;
mod landing;
mod linkage;
mod nowhere;
mod part;
mod reach;
mod root;
mod table;
mod text;

pub use files::FileProofs;
pub use text::Unprobed;
mod row;

use crate::analysis::Text;
use crate::image::Image;
use crate::kept::Kept;
use crate::snapshot::initial_stack::initial_sp;
use crate::snapshot::{AddressSpace, Snapshot};
use call_site::Lasting;
use linkage::Linkage;
use object::elf::{PT_INTERP, PT_TLS};
use part::Parts;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use surestack_cfi::{DwarfRows, Lookup, Row, Rows};
use surestack_walk::{
    Arch, CodeAddress, Evidence, Memory, Modules, NoEvidence, Proof, Registry, Regs, Root, RowEvidence, Stack, Stacks,
    Stop, Target, Witness, X86_64,
};

const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_SYSINFO_EHDR: u64 = 33;
/// Offset of `e_entry` in the header of a 64-bit ELF file.
const E_ENTRY: u64 = 24;

/// Answers that stay true as long as nothing is mapped anew; shared by all evidence about one target.
#[derive(Default)]
pub struct Answers {
    calls: RefCell<Kept<(u64, CodeAddress), Witness>>,
    /// Calls through words that the loader may still write.
    passing_calls: RefCell<Kept<(u64, CodeAddress), Witness>>,
    initial_sp: OnceCell<Option<u64>>,
    /// By function, the instructions at which its rows describe another frame.
    moved: RefCell<Kept<u64, Vec<u64>>>,
    parts: RefCell<Parts>,
    /// By the module's number.
    linkages: RefCell<HashMap<usize, Linkage>>,
    /// By function, and by what was asked.
    texts: RefCell<Kept<u64, Proof>>,
    unchanged: RefCell<Kept<CodeAddress, Proof>>,
    imports: imports::Imports,
    rows: row::Rows,
    files: FileProofs,
}

impl Answers {
    /// None yet, but what was proven of files.
    pub fn sharing(files: &FileProofs) -> Self {
        Self { files: files.clone(), ..Self::default() }
    }

    /// None yet, but what was proven of the same files.
    pub fn anew(&self) -> Self {
        Self::sharing(&self.files)
    }

    /// Forgets what a target that ran may have changed without mapping anything.
    pub fn ran_on(&self) {
        self.passing_calls.borrow_mut().clear();
        self.parts.borrow_mut().ran_on();
        self.texts.borrow_mut().clear();
        self.unchanged.borrow_mut().clear();
    }
}

/// What the code of one target says about calls and roots. Answers are kept.
pub struct FileEvidence<'s> {
    arch: &'static Arch,
    memory: &'s dyn Memory,
    code: Unprobed<'s>,
    space: Option<&'s AddressSpace>,
    modules: &'s dyn Modules,
    stacks: &'s dyn Stacks,
    registry: Registry<'static>,
    starts: Vec<u64>,
    vdso: Option<u64>,
    /// Room for static thread-local storage.
    thread_local: u64,
    initial_sp: Option<u64>,
    answers: Rc<Answers>,
}

impl<'s> FileEvidence<'s> {
    /// Evidence from a snapshot, adding to `answers` about it.
    pub fn new(snapshot: &'s Snapshot, answers: Rc<Answers>) -> Self {
        let memory = &*snapshot.memory;
        let interpreter = snapshot.process.aux(AT_BASE).filter(|base| *base != 0);
        let loader =
            interpreter.and_then(|base| Some(memory.word(base.checked_add(E_ENTRY)?).ok()?.wrapping_add(base)));
        // The loader run as a command starts the program that it was given, of which the auxiliary vector knows nothing.
        let programs = snapshot.space.modules.iter().filter_map(|module| {
            let image = module.image.as_ref().filter(|_| interpreter.is_none())?;
            let has_loader = image.segments().iter().any(|segment| segment.kind == PT_INTERP);
            has_loader.then(|| image.entry().wrapping_add(module.bias))
        });
        let starts = snapshot.process.aux(AT_ENTRY).into_iter().chain(loader).chain(programs).collect();
        let initial_sp = *answers.initial_sp.get_or_init(|| initial_sp(snapshot));
        let evidence = Self::of(snapshot.arch, memory, &snapshot.space, &snapshot.space);
        let space = Some(&snapshot.space);
        let (code, vdso) = (Unprobed::new(memory, space), snapshot.process.aux(AT_SYSINFO_EHDR));
        let thread_local = thread_local(&snapshot.space);
        Self { answers, space, code, vdso, thread_local, ..evidence.starts(starts).initial_stack(initial_sp) }
    }

    /// Evidence from a target's memory, code and stacks.
    pub fn of(arch: &'static Arch, memory: &'s dyn Memory, modules: &'s dyn Modules, stacks: &'s dyn Stacks) -> Self {
        let registry = Registry::default();
        let answers = Rc::default();
        let code = Unprobed::new(memory, None);
        let (starts, initial_sp, vdso, space, thread_local) = (Vec::new(), None, None, None, 0);
        Self { arch, memory, code, space, modules, stacks, registry, starts, vdso, thread_local, initial_sp, answers }
    }

    /// Makes known where the program and its interpreter begin.
    #[must_use]
    pub fn starts(mut self, starts: Vec<u64>) -> Self {
        self.starts = starts;
        self
    }

    /// Makes known the stack pointer with which the kernel started the program.
    #[must_use]
    pub fn initial_stack(mut self, sp: Option<u64>) -> Self {
        self.initial_sp = sp;
        self
    }

    /// The target's code, as it was before probes were planted.
    fn text(&self) -> Text<'_> {
        Text::new(&self.code)
    }

    /// Lends what unwind information says at `address`; `None` when it says nothing.
    fn with_row<T>(&self, address: u64, look: impl FnOnce(&Row<'_>) -> T) -> Option<T> {
        let target = Target {
            arch: self.arch,
            memory: self.memory,
            modules: self.modules,
            stacks: self.stacks,
            registry: &self.registry,
            evidence: &NoEvidence,
            stop: Stop::default(),
        };
        match DwarfRows.row(&target, CodeAddress::Exact(address), look) {
            Ok(Lookup::Row(seen)) => Some(seen),
            Ok(Lookup::Missing(_)) | Err(_) => None,
        }
    }

    /// The function that covers `address`, as unwind information delimits it.
    pub(crate) fn function(&self, address: u64) -> Option<(u64, u64)> {
        self.with_row(address, |row| row.function)
    }

    /// The writable mapping that holds `address`.
    fn writable(&self, address: u64) -> Option<Stack> {
        self.stacks.find(address).filter(|stack| stack.holds(address, 1))
    }
}

/// Bytes of static thread-local storage that the modules ask for, with room to align each. One whose file is not known may
/// ask for more than most.
fn thread_local(space: &AddressSpace) -> u64 {
    const UNKNOWN: u64 = 64 << 10;
    let block = |image: &Image| {
        let blocks = image.segments().iter().filter(|segment| segment.kind == PT_TLS);
        blocks.fold(0u64, |sum, block| sum.saturating_add(block.memory_size).saturating_add(block.align.min(4096)))
    };
    let sizes = space.modules.iter().map(|module| module.image.as_deref().map_or(UNKNOWN, block));
    sizes.fold(0, u64::saturating_add)
}

impl Evidence for FileEvidence<'_> {
    fn call(&self, return_address: u64, callee: CodeAddress) -> Witness {
        let asked = (return_address, callee);
        let Answers { calls, passing_calls, .. } = &*self.answers;
        for known in [calls, passing_calls] {
            if let Some(witness) = known.borrow().get(&asked) {
                return *witness;
            }
        }
        let (witness, lasting) = self.witness(return_address, callee);
        let known = if lasting == Lasting::Yes { calls } else { passing_calls };
        *known.borrow_mut().get_or_find(asked, || witness)
    }

    fn call_to_nowhere(&self, regs: &Regs) -> Witness {
        self.arrived(regs).unwrap_or(Witness::Unknown)
    }

    fn frame(&self, pc: CodeAddress) -> Proof {
        if self.arch.machine == X86_64.machine { self.keeps_frame(pc) } else { Proof::Unknown }
    }

    fn row(&self, pc: CodeAddress) -> RowEvidence {
        if self.arch.machine == X86_64.machine { self.prove_row(pc) } else { RowEvidence::UNKNOWN }
    }

    fn text(&self, pc: CodeAddress) -> Proof {
        self.unchanged(pc)
    }

    fn root(&self, root: Root, regs: &Regs) -> Proof {
        if self.arch.machine != X86_64.machine {
            return Proof::Unknown;
        }
        self.prove(root, regs).unwrap_or(Proof::Unknown)
    }
}
