//! Softmax of attention scores with bias and mask.

use candle_core::{CudaDevice, DType, Result, Tensor};

use super::norm::column_sums;
use super::{Output, SOFTMAX, device, f32_of, grid, int, launch, open, suffix, whole};
use crate::dropout::Drawn;
use crate::kernel::attach_with_result;
use crate::softmax::ScoreTerms;

/// Rows of scores: groups of heads of queries, each of `keys`; `first` is the number of the first group.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) groups: usize,
    pub(super) first: usize,
    pub(super) heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
}

/// Longest row that a block holds in shared memory; `HELD` of softmax.cu.
const HELD: usize = 8192;

/// How a row is computed: by a warp that holds it in registers, or by a block.
fn kernel(base: &str, k: usize, dtype: DType) -> Result<(String, bool)> {
    let s = suffix(dtype)?;
    Ok(match k {
        0..=32 => (format!("{base}_warp1_{s}"), true),
        33..=160 => (format!("{base}_warp5_{s}"), true),
        161..=1024 => (format!("{base}_warp32_{s}"), true),
        _ => (format!("{base}_block_{s}"), false),
    })
}

fn config(
    rows: usize,
    by_warp: bool,
) -> Result<candle_core::cuda_backend::cudarc::driver::LaunchConfig> {
    if by_warp { grid((rows.div_ceil(4), 1, 1), (32, 4)) } else { grid((rows, 1, 1), (256, 1)) }
}

/// `y = softmax(scale x + bias + mask)`; `y` may be `x`. Bias `(M, N, K)` and mask `(W, N or 1, K)` in f32.
#[allow(clippy::too_many_arguments)]
pub(super) fn softmax_rows(
    dev: &CudaDevice,
    y: u64,
    x: u64,
    at: Rows,
    scale: f64,
    bias: Option<&Tensor>,
    mask: Option<&Tensor>,
    dtype: DType,
) -> Result<()> {
    let rows = at.groups * at.heads * at.queries;
    let (w, nm) = match mask {
        Some(t) => (t.dim(0)?, t.dim(1)?),
        None => (1, 1),
    };
    let bias = bias.map(open).transpose()?;
    let mask = mask.map(open).transpose()?;
    let (name, by_warp) = kernel("softmax", at.keys, dtype)?;
    let mut config = config(rows, by_warp)?;
    if !by_warp && at.keys <= HELD {
        config.shared_mem_bytes = (at.keys * size_of::<f32>()) as u32;
    }
    launch!(
        dev,
        SOFTMAX,
        name,
        config,
        [
            y,
            x,
            rows as u64,
            bias.as_ref().map_or(0u64, |t| t.at),
            mask.as_ref().map_or(0u64, |t| t.at),
            int(at.keys)?,
            int(at.queries)?,
            int(at.heads)?,
            int(w)?,
            int(nm)?,
            int(at.first)?,
            scale as f32,
        ]
    );
    Ok(())
}

/// Rows that one launch takes from scores to what dropout leaves of the weights.
pub(super) fn is_long(keys: usize) -> bool {
    (1025..=4096).contains(&keys) && keys.is_multiple_of(4)
}

fn words(drop: Option<Drawn>) -> (u32, u32, u64, u32, f32) {
    match drop {
        Some(d) => (d.key as u32, (d.key >> 32) as u32, d.at, d.threshold, d.scale),
        None => (0, 0, 0, 0, 1.0),
    }
}

/// As [`softmax_rows`] for long rows: the weights into `kept`, what dropout leaves of them into `used`; 0: not wanted. Words
/// of the mask are counted from the first score of group `at.first` on.
#[allow(clippy::too_many_arguments)]
pub(super) fn long_rows(
    dev: &CudaDevice,
    (kept, used): (u64, u64),
    x: u64,
    at: Rows,
    scale: f64,
    bias: Option<&Tensor>,
    mask: Option<&Tensor>,
    drop: Option<Drawn>,
    dtype: DType,
) -> Result<()> {
    let (w, nm) = match mask {
        Some(t) => (t.dim(0)?, t.dim(1)?),
        None => (1, 1),
    };
    let bias = bias.map(open).transpose()?;
    let mask = mask.map(open).transpose()?;
    let (k0, k1, key, threshold, keep) = words(drop);
    let rows = at.groups * at.heads * at.queries;
    launch!(
        dev,
        SOFTMAX,
        format!("long_{}", suffix(dtype)?),
        grid((rows, 1, 1), (256, 1))?,
        [
            kept,
            used,
            x,
            bias.as_ref().map_or(0u64, |t| t.at),
            mask.as_ref().map_or(0u64, |t| t.at),
            int(at.keys)?,
            int(at.queries)?,
            int(at.heads)?,
            int(w)?,
            int(nm)?,
            int(at.first)?,
            scale as f32,
            k0,
            k1,
            key,
            threshold,
            keep,
            (at.first * at.heads * at.queries * at.keys) as u64,
        ]
    );
    Ok(())
}

/// As [`softmax_gradient_rows`] for long rows, of a gradient that goes through the dropout first.
pub(super) fn long_gradient_rows(
    dev: &CudaDevice,
    [d, y, g]: [u64; 3],
    at: Rows,
    scale: f64,
    drop: Option<Drawn>,
    dtype: DType,
) -> Result<()> {
    let (k0, k1, key, threshold, keep) = words(drop);
    let rows = at.groups * at.heads * at.queries;
    launch!(
        dev,
        SOFTMAX,
        format!("long_back_{}", suffix(dtype)?),
        grid((rows, 1, 1), (256, 1))?,
        [
            d,
            y,
            g,
            int(at.keys)?,
            scale as f32,
            k0,
            k1,
            key,
            threshold,
            keep,
            (at.first * at.heads * at.queries * at.keys) as u64,
        ]
    );
    Ok(())
}

/// `d = scale y (g - g·y)` a row; `d` may be `g`.
#[allow(clippy::too_many_arguments)]
pub(super) fn softmax_gradient_rows(
    dev: &CudaDevice,
    d: u64,
    y: u64,
    g: u64,
    rows: usize,
    k: usize,
    scale: f64,
    dtype: DType,
) -> Result<()> {
    let (name, by_warp) = kernel("softmax_back", k, dtype)?;
    launch!(
        dev,
        SOFTMAX,
        name,
        config(rows, by_warp)?,
        [d, y, g, rows as u64, int(k)?, scale as f32]
    );
    Ok(())
}

/// As [`crate::attention_softmax`], on checked sizes.
pub(crate) fn attention_softmax(scores: &Tensor, scale: f64, terms: ScoreTerms) -> Result<Tensor> {
    let scores = whole(scores)?;
    let (g, m, n, k) = scores.dims4()?;
    let (dev, dtype, rows) = (device(&scores)?, scores.dtype(), g * m * n);
    let bias = terms.bias.map(f32_of).transpose()?;
    let mask = terms.mask.map(|t| f32_of(&t.detach())).transpose()?;
    let y = Output::new(&dev, (g, m, n, k), dtype)?;
    let at = Rows { groups: g, first: 0, heads: m, queries: n, keys: k };
    softmax_rows(&dev, y.at, open(&scores)?.at, at, scale, bias.as_ref(), mask.as_ref(), dtype)?;
    let with_bias = bias.is_some();
    let backward = move |res: &Tensor, grad: &Tensor| {
        let d = Output::new(&dev, (g, m, n, k), dtype)?;
        softmax_gradient_rows(&dev, d.at, open(res)?.at, open(grad)?.at, rows, k, scale, dtype)?;
        let d = d.tensor();
        if !with_bias {
            return Ok(vec![d]);
        }
        let db = column_sums(&d.reshape((g, m * n * k))?, 1.0 / scale)?.reshape((m, n, k))?;
        Ok(vec![d, db])
    };
    let (value, shape) = y.value();
    match &bias {
        Some(b) => attach_with_result("softmax", &[&scores, b], value, shape, backward),
        None => attach_with_result("softmax", &[&scores], value, shape, backward),
    }
}
