//! Working memory that large kernels hand to each other, so that its pages are not fetched and cleared anew for every call.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::{Real, zeros};

/// Buffers kept for the next caller, at most.
const KEPT: usize = 16;

/// Buffers nobody uses.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<Vec<T>>>);

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

/// Bytes of a cache line, where buffers begin: a register of as many bytes is then read from one.
const LINE: usize = 64;

/// `len` values, left as the last user left them. Goes back to its pool when dropped.
pub(crate) struct Scratch<T: Real> {
    buffer: Vec<T>,
    from: usize,
    len: usize,
}

impl<T: Real> Scratch<T> {
    /// The smallest kept buffer that is long enough, or a new one in place of the largest that is not.
    pub(crate) fn new(len: usize) -> Self {
        let buffer = Self::buffer(len + LINE / size_of::<T>());
        let from = buffer.as_ptr().align_offset(LINE).min(buffer.len() - len);
        Self { buffer, from, len }
    }

    fn buffer(len: usize) -> Vec<T> {
        let mut kept = T::pool().0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = kept.iter().enumerate().filter(|(_, b)| b.len() >= len);
        let found = fitting.min_by_key(|(_, b)| b.len()).map(|(i, _)| i);
        if let Some(i) = found {
            return kept.swap_remove(i);
        }
        let largest = kept.iter().enumerate().max_by_key(|(_, b)| b.len()).map(|(i, _)| i);
        let replaced = largest.map(|i| kept.swap_remove(i));
        drop(kept);
        drop(replaced);
        zeros(len)
    }
}

impl<T: Real> Drop for Scratch<T> {
    fn drop(&mut self) {
        let mut kept = T::pool().0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl<T: Real> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer[self.from..][..self.len]
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.from..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        // Nothing else in this test binary uses f64 buffers of this size.
        const LEN: usize = 30_000_003;
        let mut first = Scratch::<f64>::new(LEN);
        first[LEN - 1] = 7.0;
        drop(first);
        let second = Scratch::<f64>::new(LEN - 2);
        assert_eq!((second.len(), second.buffer[second.from + LEN - 1]), (LEN - 2, 7.0));
        assert_eq!(second.as_ptr().addr() % LINE, 0);
    }
}
