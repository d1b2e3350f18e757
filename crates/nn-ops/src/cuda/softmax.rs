//! Softmax of attention scores with bias and mask.

use candle_core::{Result, Tensor};

use super::norm::column_sums;
use super::{Output, SOFTMAX, device, f32_of, grid, int, launch, open, suffix};
use crate::kernel::attach_storage;
use crate::softmax::ScoreTerms;

/// How a row is computed: by a warp that holds it in registers, or by a block.
fn kernel(base: &str, k: usize, s: &str) -> (String, bool) {
    match k {
        0..=32 => (format!("{base}_warp1_{s}"), true),
        33..=160 => (format!("{base}_warp5_{s}"), true),
        161..=1024 => (format!("{base}_warp32_{s}"), true),
        _ => (format!("{base}_block_{s}"), false),
    }
}

pub(crate) fn attention_softmax(scores: &Tensor, scale: f64, terms: ScoreTerms) -> Result<Tensor> {
    let scores = scores.contiguous()?;
    let (g, m, n, k) = scores.dims4()?;
    let (dev, s, rows) = (device(&scores)?, suffix(scores.dtype())?, g * m * n);
    let bias = terms.bias.map(f32_of).transpose()?;
    let mask = terms.mask.map(|t| f32_of(&t.detach())).transpose()?;
    let (w, nm) = match &mask {
        Some(t) => (t.dim(0)?, t.dim(1)?),
        None => (1, 1),
    };
    let launch_of = |by_warp: bool| {
        if by_warp { grid((rows.div_ceil(4), 1, 1), (32, 4)) } else { grid((rows, 1, 1), (256, 1)) }
    };
    let y = Output::new(&dev, (g, m, n, k), scores.dtype())?;
    {
        let b = bias.as_ref().map(open).transpose()?;
        let a = mask.as_ref().map(open).transpose()?;
        let (name, by_warp) = kernel("softmax", k, s);
        launch!(
            &dev,
            SOFTMAX,
            name,
            launch_of(by_warp)?,
            [
                y.at,
                open(&scores)?.at,
                rows as u64,
                b.as_ref().map_or(0u64, |t| t.at),
                a.as_ref().map_or(0u64, |t| t.at),
                int(k)?,
                int(n)?,
                int(m)?,
                int(w)?,
                int(nm)?,
                scale as f32,
            ]
        );
    }
    let with_bias = bias.is_some();
    let backward = move |res: &Tensor, grad: &Tensor| {
        let d = Output::new(&dev, (g, m, n, k), res.dtype())?;
        let (name, by_warp) = kernel("softmax_back", k, s);
        let config = if by_warp {
            grid((rows.div_ceil(4), 1, 1), (32, 4))?
        } else {
            grid((rows, 1, 1), (256, 1))?
        };
        launch!(
            &dev,
            SOFTMAX,
            name,
            config,
            [d.at, open(res)?.at, open(grad)?.at, rows as u64, int(k)?, scale as f32]
        );
        let d = d.tensor();
        if !with_bias {
            return Ok(vec![d]);
        }
        let db = column_sums(&d.reshape((g, m * n * k))?, 1.0 / scale)?.reshape((m, n, k))?;
        Ok(vec![d, db])
    };
    let (value, shape) = y.value();
    match &bias {
        Some(b) => attach_storage("softmax", &[&scores, b], value, shape, backward),
        None => attach_storage("softmax", &[&scores], value, shape, backward),
    }
}
