//! Normalisations: over channels (layer), over cells (instance), over batch and cells (batch).
//!
//! All use the two-pass variance. Candle's fused layer norm has no gradient and a one-pass variance.

mod batch;
mod instance;
mod layer;

pub use batch::{BatchNorm2d, batch_norm2d};
pub use instance::instance_norm;
pub use layer::{LayerNorm, layer_norm, layer_norm_layer};

use crate::kernel::Real;

/// Sum in eight interleaved lanes: quick, and closer to the exact value than one running sum.
pub(crate) fn sum<T: Real>(xs: &[T]) -> T {
    let mut lanes = [T::default(); 8];
    let chunks = xs.chunks_exact(8);
    let rest = chunks.remainder();
    for c in chunks {
        for (l, v) in lanes.iter_mut().zip(c) {
            *l += *v;
        }
    }
    for (l, v) in lanes.iter_mut().zip(rest) {
        *l += *v;
    }
    pairwise(lanes)
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
pub(crate) fn moments<T: Real>(xs: &[T], eps: f64) -> (T, T) {
    let n = T::of(xs.len() as f64);
    let mean = sum(xs) / n;
    let var = sum_of(xs.len(), |i| (xs[i] - mean) * (xs[i] - mean)) / n;
    (mean, T::of(1.0) / (var + T::of(eps)).sqrt())
}
