//! Proofs of files, for all targets that map them.
//!
//! What is proven from a file alone holds wherever that very file is mapped, as long as the code there is still the file's.
//! What only a running target tells (where slots lead that the loader fills, tables of addresses that it relocates) stays
//! undecided here, and is looked for in each target.

use super::FileEvidence;
use super::row::{Instruction, ProvenModule, eh_frame_only};
use crate::image::{BuildId, Image};
use crate::proof::imports::never_returning;
use crate::proof::layout::Layout;
use crate::proof::{Return, Source};
use object::elf::{PF_W, PT_LOAD};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use surestack_walk::{CodeAddress, Memory, Module};

/// Most files that are remembered: many times what a process maps.
const MOST: usize = 512;
/// Bytes compared at once.
const CHUNK: usize = 1 << 18;

/// What was proven of files, by build ID. Clones share it: made known to each [`crate::trace::Known`], every function is
/// proven once, however many cores and processes have it.
#[derive(Clone, Default)]
pub struct FileProofs {
    files: Rc<RefCell<HashMap<BuildId, Rc<ProvenFile>>>>,
    proven: Rc<Cell<usize>>,
}

/// A file and what was proven of it.
pub(super) struct ProvenFile {
    image: Arc<Image>,
    /// Slots of functions that are known by name never to return, ascending.
    never: Vec<u64>,
    module: RefCell<ProvenModule>,
    proven: Rc<Cell<usize>>,
}

impl FileProofs {
    /// How many functions were proven from their files so far.
    pub fn functions(&self) -> usize {
        self.proven.get()
    }

    /// The file with this build ID, which is `image` if none was seen before.
    fn file(&self, id: &BuildId, image: &Arc<Image>) -> Rc<ProvenFile> {
        let mut files = self.files.borrow_mut();
        if files.len() >= MOST && !files.contains_key(id) {
            files.clear();
        }
        let file = files.entry(id.clone()).or_insert_with(|| {
            let (image, proven) = (Arc::clone(image), Rc::clone(&self.proven));
            let layout = Rc::new(Layout::new(&source(&image, &|_| Return::Unknown)));
            let never = never_returning(&image);
            Rc::new(ProvenFile { image, never, module: RefCell::new(ProvenModule::new(layout)), proven })
        });
        Rc::clone(file)
    }
}

impl ProvenFile {
    /// Its functions.
    pub(super) fn layout(&self) -> Rc<Layout> {
        self.module.borrow().layout()
    }

    /// Lends what was proven about the instruction at a linked address, if that is all there is to prove.
    pub(super) fn at<T>(&self, pc: CodeAddress, look: impl FnOnce(&Instruction) -> T) -> Option<T> {
        let mut module = self.module.borrow_mut();
        let through = |slot: u64| Return::by_name(&self.never, slot);
        let source = source(&self.image, &through);
        let before = module.proven();
        let found = module.at(&source, pc, |found| found.is_whole().then(|| look(found)));
        self.proven.set(self.proven.get().saturating_add(module.proven().saturating_sub(before)));
        found?
    }
}

fn source<'m>(image: &'m Image, through: &'m dyn Fn(u64) -> Return) -> Source<'m> {
    Source { memory: image, bias: 0, unwind: eh_frame_only(image.unwind()), through, resolves: &|_| false }
}

impl FileEvidence<'_> {
    /// What was proven of the module's file, where the module is that very file and nothing of it was written over, probes
    /// aside.
    pub(super) fn proven_file(&self, module: &Module<'_>) -> Option<Rc<ProvenFile>> {
        let (_, loaded, _) = self.image(module.start)?;
        let (id, image) = (loaded.build_id.as_ref()?, loaded.image.as_ref()?);
        let file = self.answers.files.file(id, image);
        // A build ID is only a claim: whoever forges one gets nobody else's proofs, and nobody gets his.
        let same = Arc::ptr_eq(&file.image, image) || file.image.bytes() == image.bytes();
        (same && self.is_unwritten(image, module.bias)).then_some(file)
    }

    /// Whether the code and the constants at hand, among which are the tables of its switches, are the file's.
    fn is_unwritten(&self, image: &Image, bias: u64) -> bool {
        let mut now = vec![0; CHUNK];
        let mut fixed = image.segments().iter().filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_W == 0);
        fixed.all(|segment| {
            let Some(file) = usize::try_from(segment.file_size).ok().and_then(|size| image.at(segment.address, size))
            else {
                return false;
            };
            let starts = (segment.address.wrapping_add(bias)..).step_by(CHUNK);
            file.chunks(CHUNK).zip(starts).all(|(file, at)| {
                let now = now.get_mut(..file.len()).unwrap_or_default();
                self.code.read(at, now).is_ok() && now == file
            })
        })
    }
}
