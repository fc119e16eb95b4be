//! Handles: numbers in a pointer's clothes.
//!
//! A handle is never followed. It names a place in a table and the generation of what is there, so
//! that a handle that was freed, is of another kind, or was never given out finds nothing.
//!
//! ```text
//! bit  63        32 31       8 7      4 3     0
//!      generation   index      shard    0001        64-bit targets only
//! ```
//!
//! The lowest bit is set: no object of C has such an address.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::failure::Failure;
use crate::object::{Kind, Object};
use crate::status::kogge_status;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("handles need 64-bit pointers");

/// Tables, so that threads seldom meet at one lock.
const SHARDS: usize = 16;

/// Most objects of one shard; 16 times as many in total. More are a leak of the host: then calls
/// that would make one fail with `KOGGE_STATUS_BUSY`.
const INDEX_MAX: usize = (1 << 24) - 1;

struct Slot {
    generation: u32,
    object: Option<Object>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

static LIVE: AtomicUsize = AtomicUsize::new(0);

fn tables() -> &'static [RwLock<Table>; SHARDS] {
    static TABLES: OnceLock<[RwLock<Table>; SHARDS]> = OnceLock::new();
    TABLES.get_or_init(Default::default)
}

/// Where a handle points.
#[derive(Clone, Copy)]
struct Place {
    shard: usize,
    index: usize,
    generation: u32,
}

impl Place {
    fn of(handle: *const c_void) -> Option<Self> {
        let bits = handle.addr();
        (bits & 0xf == 1).then_some(Self {
            shard: (bits >> 4) & 0xf,
            index: (bits >> 8) & INDEX_MAX,
            generation: u32::try_from(bits >> 32).unwrap_or(0),
        })
    }

    fn handle(self) -> *mut c_void {
        let bits = 1 | self.shard << 4 | self.index << 8 | (self.generation as usize) << 32;
        std::ptr::without_provenance_mut(bits)
    }

    fn read(self) -> RwLockReadGuard<'static, Table> {
        tables()[self.shard]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(self) -> RwLockWriteGuard<'static, Table> {
        tables()[self.shard]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives an object a handle.
///
/// # Errors
///
/// `Busy` if the host has leaked hundreds of millions of them.
pub(crate) fn put(object: Object) -> Result<*mut c_void, Failure> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut place = Place {
        shard: NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS,
        index: 0,
        generation: 1,
    };
    let mut table = place.write();
    match table.free.pop() {
        Some(index) => place.index = index,
        None if INDEX_MAX < table.slots.len() => {
            let message = "too many objects are alive; free what is not needed";
            return Err(Failure::new(kogge_status::Busy, message));
        }
        None => {
            place.index = table.slots.len();
            table.slots.push(Slot {
                generation: 1,
                object: None,
            });
        }
    }
    let slot = &mut table.slots[place.index];
    (slot.object, place.generation) = (Some(object), slot.generation);
    LIVE.fetch_add(1, Ordering::Relaxed);
    Ok(place.handle())
}

/// The object behind a handle.
pub(crate) fn get<K: Kind>(handle: *const c_void) -> Result<K, Failure> {
    let found = Place::of(handle).and_then(|place| {
        let table = place.read();
        let slot = table.slots.get(place.index)?;
        let is_current = slot.generation == place.generation;
        K::of(slot.object.as_ref().filter(|_| is_current)?)
    });
    found.ok_or_else(|| bad::<K>(handle))
}

/// Takes the object of kind `K` out; the handle is stale from now on. `None` if there is none.
pub(crate) fn take<K: Kind>(handle: *const c_void) -> Option<Object> {
    let place = Place::of(handle)?;
    let mut table = place.write();
    let slot = table.slots.get_mut(place.index)?;
    if slot.generation != place.generation {
        return None;
    }
    K::of(slot.object.as_ref()?)?;
    let object = slot.object.take();
    // A place whose generations are used up is not used again.
    slot.generation = slot.generation.wrapping_add(1);
    if slot.generation != 0 {
        table.free.push(place.index);
    }
    LIVE.fetch_sub(1, Ordering::Relaxed);
    object
}

/// Objects that have a handle.
pub(crate) fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

fn bad<K: Kind>(handle: *const c_void) -> Failure {
    let what = if handle.is_null() {
        "NULL"
    } else {
        "stale or foreign"
    };
    let message = format!("the handle is {what}; want {}", K::NAME);
    Failure::new(kogge_status::BadHandle, message)
}
