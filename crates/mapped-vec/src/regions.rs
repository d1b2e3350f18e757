//! The mapped files in use, and how many vectors are alive in each.
//!
//! The allocator asks about every block it frees: nothing here allocates, and a look at two numbers answers for blocks that
//! lie outside all mapped files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// Files mapped at the same time, at most.
pub(crate) const PLACES: usize = 64;

struct Region {
    map: MmapMut,
    vectors: usize,
}

static REGIONS: Mutex<[Option<Region>; PLACES]> = Mutex::new([const { None }; PLACES]);

/// No region lies outside `LOW..HIGH`. They only grow, before the first vector of a region exists: who frees a vector has it
/// from someone who saw them.
static LOW: AtomicUsize = AtomicUsize::new(usize::MAX);
static HIGH: AtomicUsize = AtomicUsize::new(0);

fn regions() -> MutexGuard<'static, [Option<Region>; PLACES]> {
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Region {
    fn contains(&self, at: usize) -> bool {
        let start = self.map.as_ptr() as usize;
        (start..start + self.map.len()).contains(&at)
    }
}

#[inline]
fn may_contain(at: usize) -> bool {
    (LOW.load(Ordering::Relaxed)..HIGH.load(Ordering::Relaxed)).contains(&at)
}

/// Takes a mapping in until `vectors` vectors are gone, and says where it starts; `None`: no place.
pub(crate) fn keep(map: MmapMut, vectors: usize) -> Option<*mut u8> {
    let mut regions = regions();
    // A map without a place is dropped after the lock: unmapping needs none, but dropping must not hold it for long.
    let place = regions.iter_mut().find(|place| place.is_none())?;
    let region = place.insert(Region { map, vectors });
    let start = region.map.as_mut_ptr();
    LOW.fetch_min(start as usize, Ordering::Relaxed);
    HIGH.fetch_max(start as usize + region.map.len(), Ordering::Relaxed);
    Some(start)
}

/// Whether a block lies in a mapped file.
#[inline]
pub(crate) fn contain(block: *mut u8) -> bool {
    let at = block as usize;
    may_contain(at) && regions().iter().flatten().any(|region| region.contains(at))
}

/// Ends the life of the vector at `block`, and of its region with the last; false: it lies in no region.
#[inline]
pub(crate) fn take_back(block: *mut u8) -> bool {
    may_contain(block as usize) && take_back_vector(block as usize)
}

#[cold]
fn take_back_vector(at: usize) -> bool {
    let mut regions = regions();
    let of = |place: &&mut Option<Region>| place.as_ref().is_some_and(|r| r.contains(at));
    let Some(place) = regions.iter_mut().find(of) else { return false };
    let ended = match place {
        Some(region) if region.vectors > 1 => {
            region.vectors -= 1;
            None
        }
        _ => place.take(),
    };
    drop(regions);
    drop(ended); // unmaps
    true
}
