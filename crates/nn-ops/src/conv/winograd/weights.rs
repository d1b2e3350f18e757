//! The filters of a 3x3 convolution, transformed and laid out for the products.

use rayon::prelude::*;

use super::tiling::POINTS;
use super::tiling::square;
use super::transform::{LANES, filter};
use crate::kernel::{ROWS, Real, copy_past_caches, settle, wide};

/// Input channels of one product: a right panel of them fits the first-level cache.
const DEPTH: usize = 256;
/// Channels transformed before they are written.
const RUN: usize = 16;
/// Left panels of one piece of work, at most.
const PANELS: usize = 16;
/// Transformed filters (values) that no cache holds until they are used.
const LARGE: usize = 1 << 21;

/// Where the taps of output `m` and input `k` stand in a `(Cout, Cin, 3, 3)` weight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taps {
    /// `m` is Cout, `k` Cin.
    Forward,
    /// The convolution that carries gradients back: `m` is Cin, `k` Cout, and the taps are turned by half a turn.
    Backward,
}

/// How `m` outputs and `k` inputs are split. Decided by the sizes alone, as it decides the order of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) k: usize,
    /// Input channels of a product.
    pub(super) depth: usize,
    /// Left panels in all.
    pub(super) panels: usize,
    /// Left panels of a piece of work.
    pub(super) each: usize,
}

impl Split {
    pub(super) fn new(m: usize, k: usize) -> Self {
        let panels = m.div_ceil(ROWS);
        let pieces = panels.div_ceil(PANELS).max(panels.min(8));
        Self { k, depth: k.div_ceil(k.div_ceil(DEPTH)), panels, each: panels.div_ceil(pieces) }
    }
    /// First channel and number of channels of each product.
    pub(super) fn depths(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Self { k, depth, .. } = *self;
        (0..k).step_by(depth).map(move |k0| (k0, depth.min(k - k0)))
    }
}

/// The filters of a convolution as they stand in its weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filters<'a, T> {
    pub(super) w: &'a [T],
    pub(super) taps: Taps,
    pub(super) split: Split,
    /// Outputs.
    pub(super) m: usize,
}

impl<T: Real> Filters<'_, T> {
    /// Values of `depth` input channels, transformed.
    pub(super) fn len(&self, depth: usize) -> usize {
        POINTS * self.split.panels * ROWS * depth
    }

    /// `G g Gᵀ` of all outputs and the input channels of one product: for each piece of work, for each of the 36 points,
    /// panels.
    pub(super) fn transform(&self, (k0, depth): (usize, usize), out: &mut [T]) {
        let each = self.split.each;
        let copy = if out.len() < LARGE { <[T]>::copy_from_slice } else { copy_past_caches };
        out.par_chunks_mut(POINTS * each * ROWS * depth).enumerate().for_each(|(i, out)| {
            piece(self, k0, depth, i * each, copy, out);
            settle();
        });
    }
}

wide! {
    fn piece(filters: &Filters<T>, k0: usize, depth: usize, first: usize, copy: fn(&mut [T], &[T]), out: &mut [T]) {
        let (w, m, k) = (filters.w, filters.m, filters.split.k);
        let panels = out.len() / (POINTS * ROWS * depth);
        let mut found = [[[T::default(); ROWS]; RUN]; POINTS];
        let none = [T::default(); 9];
        let turned: usize = match filters.taps {
            Taps::Forward => 0,
            Taps::Backward => 8,
        };
        for p in 0..panels {
            // Runs of channels: values of single ones would go to 36 places that share a cache set.
            for c0 in (0..depth).step_by(RUN) {
                let run = RUN.min(depth - c0);
                for c in 0..run {
                    let mut rows = [&none; ROWS];
                    for (l, taps) in rows.iter_mut().enumerate() {
                        let row = (first + p) * ROWS + l;
                        let at = match filters.taps {
                            Taps::Forward => row * k + k0 + c0 + c,
                            Taps::Backward => (k0 + c0 + c) * m + row,
                        };
                        if row < m && let Some(found) = w[at * 9..].first_chunk() {
                            *taps = found;
                        }
                    }
                    let mut taken = [[[T::default(); LANES]; 3]; 3];
                    for (t, taken) in taken.as_flattened_mut().iter_mut().enumerate() {
                        for (v, taps) in taken.iter_mut().zip(&rows) {
                            *v = taps[turned.abs_diff(t)];
                        }
                    }
                    for (found, v) in found.iter_mut().zip(square(&taken, filter).iter().flatten()) {
                        found[c].copy_from_slice(&v[..ROWS]);
                    }
                }
                for (f, found) in found.iter().enumerate() {
                    let at = ((f * panels + p) * depth + c0) * ROWS;
                    copy(&mut out[at..at + run * ROWS], &found.as_flattened()[..run * ROWS]);
                }
            }
        }
    }
}
