//! Which module is at an address: the map's answer, and the C library's two.

use libc::{c_int, c_void, dl_phdr_info};
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use surestack::this_process::modules;

const COUNT: u32 = 1 << 16;
/// Frames of a deep stack.
const STACK: u32 = 80;

/// glibc's `struct dl_find_object` on machines without a data base.
#[repr(C)]
struct Object {
    flags: u64,
    start: u64,
    end: u64,
    link_map: u64,
    eh_frame: u64,
    reserved: [u64; 7],
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut Object) -> c_int;

/// How many different addresses there are among those that are looked up.
#[derive(Clone, Copy)]
pub enum Variety {
    /// So many that nobody foresees the next.
    Random,
    /// Those of one deep stack, again and again.
    Stack,
}

/// Random addresses in the code of all modules.
pub struct Addresses {
    addresses: Vec<u64>,
    modules: usize,
    find_object: FindObject,
    /// What of the last answer is added to an address that depends on it.
    nothing: u64,
    /// Look-ups that the map did not answer, because it changed too often meanwhile.
    unanswered: AtomicU64,
}

impl Addresses {
    /// Of what is loaded now, as both the map and glibc know it.
    pub fn of_all_modules(variety: Variety) -> Result<Self, Box<dyn Error>> {
        // SAFETY: a string that ends with zero.
        let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
        if function.is_null() {
            return Err("this C library has no _dl_find_object".into());
        }
        // SAFETY: the function of that name is of this type.
        let find_object = unsafe { std::mem::transmute::<*mut c_void, FindObject>(function) };
        let mut records = Vec::new();
        for record in (0..).map_while(|index| modules().at(index).unwrap_or(None)) {
            // The kernel's own page is no object of glibc's.
            if record.code.iter().all(|&(start, _)| object(find_object, start).is_some()) && !record.code.is_empty() {
                records.push(record);
            }
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut addresses = Vec::new();
        let distinct = match variety {
            Variety::Random => COUNT,
            Variety::Stack => STACK,
        };
        for _ in 0..distinct {
            let record = random.among(&records);
            let &(start, end) = random.among(record.code);
            addresses.push(start + random.next() % (end.min(record.end) - start));
        }
        let addresses: Vec<u64> = addresses.iter().copied().cycle().take(COUNT as usize).collect();
        for &address in &addresses {
            let ours = modules().look_up(address).ok().and_then(|(found, _)| Some(found?.record.start));
            let theirs = object(find_object, address);
            // glibc says where the first mapping begins, we where the first segment does, in the same page.
            if ours.map(|start| start & !0xfff) != theirs || ours.is_none() {
                return Err(format!("{address:#x}: {ours:x?} and {theirs:x?}").into());
            }
        }
        Ok(Self {
            addresses,
            modules: records.len(),
            find_object,
            nothing: black_box(0),
            unanswered: AtomicU64::new(0),
        })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        COUNT
    }

    /// In how many modules.
    pub fn modules(&self) -> usize {
        self.modules
    }

    /// What the map did not answer.
    pub fn unanswered(&self) -> String {
        format!("Look-ups that gave up because the map changed: {}.", self.unanswered.load(Ordering::Relaxed))
    }

    /// Looks all of them up in the map.
    pub fn ours(&self) {
        let map = modules();
        let mut missed = 0;
        for &address in &self.addresses {
            match map.look_up(address) {
                Ok((Some(found), generation)) => {
                    black_box((found.record, generation));
                }
                Ok((None, _)) | Err(_) => missed += 1,
            }
        }
        self.miss(missed);
    }

    /// The same, each where the last answer says.
    pub fn ours_in_turn(&self) {
        let (map, mut last, mut missed) = (modules(), 0, 0);
        for &address in &self.addresses {
            match map.look_up(address + (last & self.nothing)) {
                Ok((Some(found), _)) => last = std::ptr::from_ref(found.record).addr() as u64,
                Ok((None, _)) | Err(_) => missed += 1,
            }
        }
        black_box(last);
        self.miss(missed);
    }

    /// Looks all of them up by `_dl_find_object`.
    pub fn theirs(&self) {
        for &address in &self.addresses {
            black_box(object(self.find_object, address));
        }
    }

    /// The same, each where the last answer says.
    pub fn theirs_in_turn(&self) {
        let mut last = 0;
        for &address in &self.addresses {
            last = object(self.find_object, address + (last & self.nothing)).unwrap_or_default();
        }
        black_box(last);
    }

    /// Looks all of them up under the loader's lock.
    pub fn lock(&self) {
        for &address in &self.addresses {
            let mut search = Search { address, bias: 0 };
            // SAFETY: the callback is called before this returns, with a pointer to `search`.
            unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut search).cast()) };
            black_box(search.bias);
        }
    }

    fn miss(&self, missed: u64) {
        if missed > 0 {
            self.unanswered.fetch_add(missed, Ordering::Relaxed);
        }
    }
}

/// Where the object begins that glibc finds at an address.
fn object(find_object: FindObject, address: u64) -> Option<u64> {
    let mut found = std::mem::MaybeUninit::<Object>::uninit();
    let address = std::ptr::without_provenance_mut(usize::try_from(address).ok()?);
    // SAFETY: it fills the structure where it returns zero, and reads nothing of the address.
    unsafe { (find_object(address, found.as_mut_ptr()) == 0).then(|| found.assume_init_ref().start) }
}

struct Search {
    address: u64,
    bias: u64,
}

/// Whether the address is in a segment of this module.
unsafe extern "C" fn each(info: *mut dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: as `lock` passes them.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    // SAFETY: the loader says where the headers are, and how many.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let linked = search.address.wrapping_sub(info.dlpi_addr);
    let loaded = |header: &libc::Elf64_Phdr| header.p_type == libc::PT_LOAD;
    let holds = |header: &libc::Elf64_Phdr| linked.wrapping_sub(header.p_vaddr) < header.p_memsz;
    if headers.iter().any(|header| loaded(header) && holds(header)) {
        search.bias = info.dlpi_addr;
        return 1;
    }
    0
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn among<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.next() as usize % all.len()]
    }
}
