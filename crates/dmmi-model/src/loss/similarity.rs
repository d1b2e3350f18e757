//! Cosine similarity of the words and their reconstruction (CCR).

use candle_core::{DType, Result, Tensor, bail};

/// Smallest norm of a vector in the cosine.
const EPS: f64 = 1e-6;

/// Norm over the last dimension, at least [`EPS`]; clamped inside the root, so that a zero vector has a zero gradient.
fn norm(xs: &Tensor) -> Result<Tensor> {
    xs.sqr()?.sum(candle_core::D::Minus1)?.maximum(EPS * EPS)?.sqrt()
}

/// `1 - mean_b δ_b Σ_l cos(words, reconstructed) / (real tokens)`, words detached, both times the attention mask.
///
/// Words and reconstruction `(B, L, D)`, attention `(B, L)`, has_target `(B)`.
pub fn similarity(
    words: &Tensor,
    reconstructed: &Tensor,
    attention: &Tensor,
    has_target: &Tensor,
) -> Result<Tensor> {
    let (b, l, _) = words.dims3()?;
    if reconstructed.dims() != words.dims()
        || attention.dims() != [b, l]
        || has_target.dims() != [b]
    {
        bail!(
            "similarity loss: words {:?}, reconstruction {:?}, attention {:?}, has_target {:?}",
            words.dims(),
            reconstructed.dims(),
            attention.dims(),
            has_target.dims()
        );
    }
    let wide = if words.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let real = attention.to_dtype(wide)?;
    let mask = real.unsqueeze(2)?;
    let words = words.detach().to_dtype(wide)?.broadcast_mul(&mask)?;
    let found = reconstructed.to_dtype(wide)?.broadcast_mul(&mask)?;
    let cosine = (&words * &found)?.sum(2)?.div(&(norm(&words)? * norm(&found)?)?)?; // (B, L)
    let per_sample = cosine.sum(1)?.div(&real.sum(1)?)?.mul(&has_target.to_dtype(wide)?)?;
    1.0 - per_sample.mean(0)?
}
