//! Every operation at the sizes of Swin-B and BERT-base at 480 pixels, batch 1: `forward` alone, and `both` with the backward
//! pass. `candle` beside it is the same from Candle's operations, where these are right.
//!
//! `cargo bench -p nn-ops --bench ops -- FILTER` runs those whose names hold the filter; all take a minute and a half on two
//! cores. `NN_OPS_SIMD=baseline` or `=avx2` measures a lesser copy of the kernels.
// Candle's own operations are measured here, those too that the rest of the project must not call.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod attention;
mod convolution;
mod dense;
mod elementwise;
mod harness;
mod maps;
mod training;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    dense::dense,
    convolution::convolution,
    attention::attention,
    elementwise::elementwise,
    maps::maps,
    training::training
);
criterion_main!(benches);
