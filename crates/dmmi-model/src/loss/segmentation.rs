//! Weighted cross-entropy over pixels.

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::ops::log_softmax;

/// `Σ w_y nll / Σ w_y` of logits `(B, 2, H, W)` against masks `(B, H, W)`, in f32 at least.
pub fn segmentation(logits: &Tensor, masks: &Tensor, weights: [f32; 2]) -> Result<Tensor> {
    let (b, k, h, w) = logits.dims4()?;
    if k != 2 || masks.dims() != [b, h, w] {
        bail!("segmentation loss: logits {:?} for masks {:?}", logits.dims(), masks.dims());
    }
    let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let logits = logits.to_dtype(wide)?;
    let fore = masks.ne(0u8)?.to_dtype(wide)?;
    let back = (1.0 - &fore)?;
    let weighted = [(back * f64::from(weights[0]))?, (fore * f64::from(weights[1]))?];
    let total = (sum(&weighted[0])? + sum(&weighted[1])?)?;
    let per_class = Tensor::stack(&weighted, 1)?; // (B, 2, H, W)
    sum(&(log_softmax(&logits, 1)? * per_class)?)?.neg()?.div(&total)
}

/// Rows first: one running f32 sum over all pixels loses two digits.
fn sum(xs: &Tensor) -> Result<Tensor> {
    xs.sum(candle_core::D::Minus1)?.sum_all()
}
