//! Work on several threads whose result does not depend on their number.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::Real;

/// Below this many elements a loop stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 13;

/// Calls `f(index, chunk)` for consecutive chunks of `out`, on several threads when that pays.
pub(crate) fn par_chunks<T: Send, F>(out: &mut [T], chunk: usize, f: F)
where
    F: Fn(usize, &mut [T]) + Send + Sync,
{
    let chunk = chunk.max(1);
    if out.len() < PARALLEL_FROM {
        out.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
    } else {
        let at_once = (PARALLEL_FROM / 4 / chunk).max(1);
        out.par_chunks_mut(chunk).enumerate().with_min_len(at_once).for_each(|(i, c)| f(i, c));
    }
}

/// `n` values that `f(index, chunk)` makes out of zeros, chunk by chunk, on several threads when that pays: the thread that
/// writes a chunk clears it, in its own cache, where `vec![0; n]` would send all of it through memory first.
pub(crate) fn par_filled<T: Real, F>(n: usize, chunk: usize, f: F) -> Vec<T>
where
    F: Fn(usize, &mut [T]) + Send + Sync,
{
    let mut values = Vec::with_capacity(n);
    par_chunks(&mut values.spare_capacity_mut()[..n], chunk, |i, room| {
        room.fill(MaybeUninit::new(T::default()));
        // SAFETY: all of the chunk was written by the line above.
        f(i, unsafe { room.assume_init_mut() });
    });
    // SAFETY: the chunks cover all `n` values.
    unsafe { values.set_len(n) };
    values
}

/// `n` zeros, cleared by all threads.
pub(crate) fn zeros<T: Real>(n: usize) -> Vec<T> {
    par_filled(n, 1 << 16, |_, _| {})
}

/// Sums `n` partial results of `len` elements, piece by piece in a fixed split: `f(range, partial)` adds the items of
/// `range` into `partial`. The result does not depend on the number of threads.
pub(crate) fn par_sum<T: Real, F>(n: usize, len: usize, cost_of_item: usize, f: F) -> Vec<T>
where
    F: Fn(std::ops::Range<usize>, &mut [T]) + Send + Sync,
{
    let pieces = if n * cost_of_item < PARALLEL_FROM { 1 } else { n.clamp(1, 8) };
    let per = n.div_ceil(pieces.max(1)).max(1);
    let partial = |p: usize| {
        let mut acc = vec![T::default(); len];
        f(p * per..((p + 1) * per).min(n), &mut acc);
        acc
    };
    let used = n.div_ceil(per).max(1);
    let partials: Vec<Vec<T>> =
        if used == 1 { vec![partial(0)] } else { (0..used).into_par_iter().map(partial).collect() };
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| vec![T::default(); len]);
    for p in partials {
        for (t, v) in total.iter_mut().zip(p) {
            *t += v;
        }
    }
    total
}

/// Column sums of a (rows, cols) matrix.
pub(crate) fn column_sums<T: Real>(data: &[T], cols: usize) -> Vec<T> {
    let Some(rows) = data.len().checked_div(cols) else { return Vec::new() };
    par_sum(rows, cols, cols, |range, acc| {
        for row in data[range.start * cols..range.end * cols].chunks_exact(cols) {
            for (a, v) in acc.iter_mut().zip(row) {
                *a += *v;
            }
        }
    })
}
