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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::Queue;

    fn buffer(byte: u8) -> Object {
        Object::Buffer(Arc::new(vec![byte]))
    }

    fn byte(handle: *const c_void) -> Option<u8> {
        let found = get::<Arc<Vec<u8>>>(handle).ok()?;
        found.first().copied()
    }

    #[test]
    fn a_handle_finds_its_object_until_it_is_freed_and_nothing_after() {
        // Others work in the table too, so that a place is taken again only after a while.
        let mut stale = Vec::new();
        for round in 0..=255 {
            let handle = put(buffer(round)).unwrap();
            assert_eq!(byte(handle), Some(round));
            assert!(get::<Arc<Queue>>(handle).is_err());
            assert!(take::<Arc<Queue>>(handle).is_none());
            assert!(take::<Arc<Vec<u8>>>(handle).is_some());
            assert!(take::<Arc<Vec<u8>>>(handle).is_none());
            assert_eq!(byte(handle), None);
            stale.push(handle);
        }
        let fresh: Vec<_> = (0..64).map(|it| put(buffer(it)).unwrap()).collect();
        assert!(stale.iter().all(|it| byte(*it).is_none()));
        assert!(fresh.iter().all(|it| take::<Arc<Vec<u8>>>(*it).is_some()));
    }

    #[test]
    fn bits_that_are_no_handle_find_nothing() {
        let real = put(buffer(7)).unwrap();
        let bits = (0..usize::BITS).map(|it| real.addr() ^ 1 << it);
        for bits in bits.chain([0, 1, 2, usize::MAX]) {
            assert_eq!(byte(std::ptr::without_provenance(bits)), None, "{bits:#x}");
        }
        assert!(take::<Arc<Vec<u8>>>(real).is_some());
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_not_used_again() {
        let handle = put(buffer(1)).unwrap();
        let place = Place::of(handle).unwrap();
        let last = Place {
            generation: u32::MAX,
            ..place
        };
        place.write().slots[place.index].generation = u32::MAX;
        assert_eq!(byte(handle), None);
        assert!(take::<Arc<Vec<u8>>>(last.handle()).is_some());
        assert_eq!(byte(last.handle()), None);
        assert!(!place.read().free.contains(&place.index));
        let first = Place {
            generation: 0,
            ..place
        };
        assert_eq!(byte(first.handle()), None);
    }
}
