//! Weighted cross-entropy of two classes over pixels.

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::ops::log_softmax;

#[cfg(feature = "cuda")]
use crate::kernel::{self, Plan};

/// `Σ w_y nll / Σ w_y` of logits `(B, 2, H, W)` against masks `(B, H, W)` (0 or not), in f32 at least; a scalar.
///
/// # Errors
/// When the shapes do not fit each other.
pub fn pixel_cross_entropy(logits: &Tensor, masks: &Tensor, weights: [f32; 2]) -> Result<Tensor> {
    let (b, k, h, w) = logits.dims4()?;
    if k != 2 || masks.dims() != [b, h, w] {
        bail!("cross-entropy: logits {:?} for masks {:?}", logits.dims(), masks.dims());
    }
    let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let logits = logits.to_dtype(wide)?;
    #[cfg(feature = "cuda")]
    if kernel::plan(&logits) == Plan::Cuda {
        return crate::cuda::pixel_cross_entropy(&logits, &masks.ne(0u8)?, weights);
    }
    composed(&logits, masks, weights)
}

/// From Candle operations: oracle of the kernel, and the path of other devices.
pub(crate) fn composed(logits: &Tensor, masks: &Tensor, weights: [f32; 2]) -> Result<Tensor> {
    let fore = masks.ne(0u8)?.to_dtype(logits.dtype())?;
    let back = (1.0 - &fore)?;
    let weighted = [(back * f64::from(weights[0]))?, (fore * f64::from(weights[1]))?];
    let total = (sum(&weighted[0])? + sum(&weighted[1])?)?;
    let per_class = Tensor::stack(&weighted, 1)?; // (B, 2, H, W)
    sum(&(log_softmax(logits, 1)? * per_class)?)?.neg()?.div(&total)
}

/// Rows first: one running f32 sum over all pixels loses two digits.
fn sum(xs: &Tensor) -> Result<Tensor> {
    xs.sum(candle_core::D::Minus1)?.sum_all()
}
