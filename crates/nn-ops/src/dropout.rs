//! Dropout and stochastic depth, drawing from the noise of the step.

use candle_core::{Result, Tensor, bail};

use crate::mode::Mode;

fn check(p: f64) -> Result<()> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout probability {p} is not in [0, 1)");
    }
    Ok(())
}

/// Zeroes each element with probability `p` and divides the others by `1 - p`; the identity in evaluation.
pub fn dropout(xs: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    check(p)?;
    match mode {
        Mode::Train(noise) if p > 0.0 => {
            let mask = noise.keep_mask(xs.elem_count(), p, (1.0 / (1.0 - p)) as f32);
            let mask = Tensor::from_vec(mask, xs.shape(), xs.device())?.to_dtype(xs.dtype())?;
            xs.mul(&mask)
        }
        _ => Ok(xs.clone()),
    }
}

/// Zeroes whole samples (first dimension) with probability `p` and divides the others by `1 - p`: stochastic depth
/// (Huang et al. 2016), applied to a residual branch.
pub fn drop_path(xs: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    check(p)?;
    match mode {
        Mode::Train(noise) if p > 0.0 => {
            let b = xs.dim(0)?;
            let mut shape = vec![1; xs.rank()];
            shape[0] = b;
            let mask = noise.keep_mask(b, p, (1.0 / (1.0 - p)) as f32);
            let mask = Tensor::from_vec(mask, shape, xs.device())?.to_dtype(xs.dtype())?;
            xs.broadcast_mul(&mask)
        }
        _ => Ok(xs.clone()),
    }
}

/// Rates rising linearly from 0 to `last` over `n` blocks (PyTorch's `linspace`, in f32 as the release computes them).
pub fn drop_path_rates(last: f64, n: usize) -> Vec<f64> {
    if n < 2 {
        return vec![0.0; n];
    }
    // linspace fills from both ends: the first half upwards, the second half downwards from the last value.
    let step = last as f32 / (n - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                f64::from(step * i as f32)
            } else {
                f64::from(last as f32 - step * (n - 1 - i) as f32)
            }
        })
        .collect()
}
