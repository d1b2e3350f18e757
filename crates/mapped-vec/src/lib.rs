#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod regions;

use std::alloc::{GlobalAlloc, Layout};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapOptions;

/// Set by the allocator itself when it is first asked for memory: then it is the global one.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A global allocator that hands everything to `A` but the memory of [`floats`], which it takes back itself.
#[derive(Debug)]
pub struct Mapped<A>(A);

impl<A> Mapped<A> {
    /// To be the `#[global_allocator]`, and nothing else.
    pub const fn new(allocator: A) -> Self {
        Self(allocator)
    }
}

// SAFETY: memory of `A` goes to and comes from `A` with the layouts it was asked for; no block of it lies in a mapped region,
// as the system maps each address once. Memory of a region is never freed but with its whole region, when the last vector
// in it is gone.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Mapped<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !INSTALLED.load(Ordering::Relaxed) {
            INSTALLED.store(true, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !regions::take_back(block) {
            // SAFETY: the caller's promise; the block lies in no region, so it came from `A`.
            unsafe { self.0.dealloc(block, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !regions::contain(block) {
            // SAFETY: the caller's promise; the block lies in no region, so it came from `A`.
            return unsafe { self.0.realloc(block, layout, new_size) };
        }
        // SAFETY: `new_size` is valid with this alignment by the caller's promise; both blocks hold what is copied, and
        // one is new.
        unsafe {
            let layout_now = Layout::from_size_align_unchecked(new_size, layout.align());
            let moved = self.0.alloc(layout_now);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                regions::take_back(block);
            }
            moved
        }
    }
}

/// Vectors over ranges of bytes of `file`, in their order, without reading it: little-endian f32.
///
/// `None` where that cannot be: [`Mapped`] is not the global allocator, a range is empty or no whole number of aligned
/// floats, ranges overlap or are not sorted, the machine is big-endian, or too many files are mapped.
///
/// # Errors
/// Those of the system's mapping, and a range past the end of the file.
pub fn floats(file: &File, ranges: &[Range<u64>]) -> io::Result<Option<Vec<Vec<f32>>>> {
    let size = size_of::<f32>() as u64;
    let aligned = |at: u64| at.is_multiple_of(size);
    let whole = |r: &Range<u64>| r.start < r.end && aligned(r.start) && aligned(r.end);
    let apart = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let usable = cfg!(target_endian = "little") && INSTALLED.load(Ordering::Relaxed);
    let Some(last) = ranges.last().filter(|_| usable && apart && ranges.iter().all(whole)) else {
        return Ok(None);
    };
    if last.end > file.metadata()?.len() || usize::try_from(last.end).is_err() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the mapping is private: nobody else writes to it here, what is written to it does not reach the file, and
    // f32 has no invalid values should the file change. That it is not cut short is for the user to see to (README).
    let map = unsafe { MmapOptions::new().len(last.end as usize).map_copy(file)? };
    let Some(start) = regions::keep(map, ranges.len()) else { return Ok(None) };
    let vector = |r: &Range<u64>| {
        let (at, len) = (r.start as usize, ((r.end - r.start) / size) as usize);
        // SAFETY: the range lies inside the mapping, which starts at a page, so it is aligned; its bytes are initialised
        // and in no other vector, as the ranges do not overlap. The global allocator takes such a block back.
        unsafe { Vec::from_raw_parts(start.add(at).cast::<f32>(), len, len) }
    };
    Ok(Some(ranges.iter().map(vector).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Mapped<std::alloc::System> = Mapped::new(std::alloc::System);

    fn one(file: &File, range: Range<u64>) -> io::Result<Option<Vec<Vec<f32>>>> {
        floats(file, std::slice::from_ref(&range))
    }

    /// One test fills all places.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file of `n` floats: their indices.
    fn file(n: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn values_are_the_files_and_writing_leaves_it_alone() {
        let _alone = alone();
        let file = file(10_000);
        let mut vectors = floats(&file, &[4..8, 40..20_000]).unwrap().unwrap();
        assert_eq!(vectors[0], [1.0]);
        assert!(vectors[1].iter().enumerate().all(|(i, v)| *v == (i + 10) as f32));
        vectors[1][5] = -1.0;
        let again = one(&file, 60..64).unwrap().unwrap();
        assert_eq!((again[0][0], vectors[1][5]), (15.0, -1.0));
    }

    #[test]
    fn vectors_live_apart_and_regions_end_with_the_last() {
        let _alone = alone();
        let file = file(5_000);
        let mut vectors = floats(&file, &[0..400, 400..20_000]).unwrap().unwrap();
        let at = vectors[1].as_mut_ptr().cast::<u8>();
        drop(vectors.remove(0));
        assert!(regions::contain(at));
        assert_eq!(vectors[0][0], 100.0);
        drop(vectors);
        assert!(!regions::contain(at));
    }

    #[test]
    fn vectors_may_grow_shrink_and_change_threads() {
        let _alone = alone();
        let file = file(5_000);
        let vectors = floats(&file, &[0..400, 400..800]).unwrap().unwrap();
        std::thread::spawn(move || {
            let [mut a, mut b]: [Vec<f32>; 2] = vectors.try_into().unwrap();
            a.push(-1.0);
            assert_eq!((a.len(), a[99], a[100]), (101, 99.0, -1.0));
            b.truncate(3);
            b.shrink_to_fit();
            assert_eq!(b, [100.0, 101.0, 102.0]);
            let all = b.into_boxed_slice();
            assert_eq!(all.len(), 3);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_cannot_be_mapped_is_none_or_an_error() {
        let _alone = alone();
        let file = file(100);
        let none = |ranges: &[Range<u64>]| floats(&file, ranges).unwrap().is_none();
        assert!(none(&[]));
        assert!(one(&file, 2..6).unwrap().is_none(), "not aligned");
        assert!(one(&file, 0..6).unwrap().is_none(), "half a float");
        assert!(one(&file, 8..8).unwrap().is_none(), "empty");
        assert!(none(&[0..8, 4..12]), "overlap");
        assert!(none(&[8..12, 0..4]), "not sorted");
        assert!(one(&file, 396..404).is_err(), "past the end");
    }

    #[test]
    fn more_files_than_places_are_left_to_the_caller() {
        let _alone = alone();
        let file = file(10);
        let mut kept = Vec::new();
        while let Some(vectors) = one(&file, 0..40).unwrap() {
            kept.push(vectors);
            assert!(kept.len() <= regions::PLACES);
        }
        drop(kept);
        assert!(one(&file, 0..40).unwrap().is_some());
    }
}
