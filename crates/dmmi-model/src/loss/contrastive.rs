//! Pictures and expressions of a batch attract in pairs and repel otherwise.

use candle_core::{D, DType, Result, Tensor, bail};
use candle_nn::ops::log_softmax;
use nn_ops::matmul_nt;

/// Smallest norm of a vector that is normalised.
const EPS: f64 = 1e-12;

fn normalise(xs: &Tensor) -> Result<Tensor> {
    let norm = xs.sqr()?.sum_keepdim(D::Minus1)?.maximum(EPS * EPS)?.sqrt()?;
    xs.broadcast_div(&norm)
}

/// Cross-entropy on the diagonal of `V Eᵀ / τ`, both ways, each times `δ`, mean over the batch, summed.
///
/// Picture and expression vectors `(B, D)`, has_target `(B)`.
pub fn contrastive(
    visual: &Tensor,
    aligned: &Tensor,
    has_target: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let (b, _) = visual.dims2()?;
    if aligned.dims() != visual.dims() || has_target.dims() != [b] {
        bail!(
            "contrastive loss: pictures {:?}, expressions {:?}, has_target {:?}",
            visual.dims(),
            aligned.dims(),
            has_target.dims()
        );
    }
    let wide = if visual.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let visual = normalise(&visual.to_dtype(wide)?)?;
    let aligned = normalise(&aligned.to_dtype(wide)?)?;
    let logits = (matmul_nt(&visual, &aligned)? / temperature)?; // (B, B)
    let diagonal = Tensor::eye(b, wide, visual.device())?;
    let both = (log_softmax(&logits, 1)? + log_softmax(&logits, 0)?)?;
    let per_sample = (both * diagonal)?.sum(1)?.neg()?;
    per_sample.mul(&has_target.to_dtype(wide)?)?.mean(0)
}
