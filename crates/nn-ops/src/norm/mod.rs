//! Normalisations: over channels (layer), over cells (instance), over batch and cells (batch).
//!
//! All use the two-pass variance. Candle's fused layer norm has no gradient and a one-pass variance.

mod batch;
mod covariance;
mod instance;
mod layer;

pub(crate) use batch::batch_norm_for_selftest;
pub use batch::{BatchNorm2d, batch_norm2d};
pub use covariance::{centre, covariance, projected_rstd, scale_columns};
pub use instance::instance_norm;
pub use layer::{LayerNorm, layer_norm, layer_norm_layer};

use crate::kernel::Real;

/// Sum of `f` over equally long slices, in eight interleaved lanes: quick, and closer to the exact value than one running
/// sum.
#[inline(always)]
pub(crate) fn sum_over<T: Real, const K: usize>(xs: [&[T]; K], f: impl Fn([T; K]) -> T) -> T {
    let n = xs.iter().map(|x| x.len()).min().unwrap_or(0);
    let split = xs.map(|x| x[..n].as_chunks::<8>());
    let mut lanes = [T::default(); 8];
    for i in 0..n / 8 {
        let block = split.map(|(blocks, _)| &blocks[i]);
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += f(block.map(|b| b[j]));
        }
    }
    for (i, lane) in (0..n % 8).zip(&mut lanes) {
        *lane += f(split.map(|(_, rest)| rest[i]));
    }
    pairwise(lanes)
}

/// Sum of a slice.
#[inline(always)]
pub(crate) fn sum<T: Real>(xs: &[T]) -> T {
    sum_over([xs], |[x]| x)
}

/// Sum of `f(i)` for the first `n` indices, in eight lanes.
pub(crate) fn sum_of<T: Real>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::default(); 8];
    let whole = n / 8 * 8;
    for i in (0..whole).step_by(8) {
        for (j, l) in lanes.iter_mut().enumerate() {
            *l += f(i + j);
        }
    }
    for i in whole..n {
        lanes[i - whole] += f(i);
    }
    pairwise(lanes)
}

fn pairwise<T: Real>(l: [T; 8]) -> T {
    ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]))
}

/// Mean and 1 / sqrt(variance + eps) of a slice.
#[inline(always)]
pub(crate) fn moments<T: Real>(xs: &[T], eps: f64) -> (T, T) {
    let n = T::of(xs.len() as f64);
    let mean = sum(xs) / n;
    let var = sum_over([xs], |[x]| (x - mean) * (x - mean)) / n;
    (mean, T::of(1.0) / (var + T::of(eps)).sqrt())
}
