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

/// `len` values, left as the last user left them. Goes back to its pool when dropped.
pub(crate) struct Scratch<T: Real> {
    buffer: Vec<T>,
    len: usize,
}

impl<T: Real> Scratch<T> {
    /// The smallest kept buffer that is long enough, or a new one in place of the largest that is not.
    pub(crate) fn new(len: usize) -> Self {
        let mut kept = T::pool().0.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = kept.iter().enumerate().filter(|(_, b)| b.len() >= len);
        let found = fitting.min_by_key(|(_, b)| b.len()).map(|(i, _)| i);
        if let Some(i) = found {
            return Self { buffer: kept.swap_remove(i), len };
        }
        let largest = kept.iter().enumerate().max_by_key(|(_, b)| b.len()).map(|(i, _)| i);
        let replaced = largest.map(|i| kept.swap_remove(i));
        drop(kept);
        drop(replaced);
        Self { buffer: zeros(len), len }
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
        &self.buffer[..self.len]
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
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
        assert_eq!((second.len(), second.buffer[LEN - 1]), (LEN - 2, 7.0));
    }
}
