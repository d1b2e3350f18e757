//! Cosine similarity of the words and their reconstruction (CCR).

use candle_core::{DType, Result, Tensor, bail};
use nn_ops::scale_rows;

/// Smallest norm of a vector in the cosine.
const EPS: f64 = 1e-6;

/// Norm over the last dimension, at least [`EPS`]; clamped inside the root, so that a zero vector has a zero gradient.
fn norm(xs: &Tensor) -> Result<Tensor> {
    xs.sqr()?.sum(candle_core::D::Minus1)?.maximum(EPS * EPS)?.sqrt()
}

/// Mean cosine of each sample's real words and their reconstruction, `(B)`; words detached, both times the mask.
fn cosines(words: &Tensor, reconstructed: &Tensor, attention: &Tensor) -> Result<Tensor> {
    let (b, l, _) = words.dims3()?;
    if reconstructed.dims() != words.dims() || attention.dims() != [b, l] {
        bail!(
            "similarity loss: words {:?}, reconstruction {:?}, attention {:?}",
            words.dims(),
            reconstructed.dims(),
            attention.dims()
        );
    }
    let wide = if words.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let real = attention.to_dtype(wide)?;
    let mask = real.unsqueeze(2)?;
    let words = words.detach().to_dtype(wide)?.broadcast_mul(&mask)?;
    let found = scale_rows(&reconstructed.to_dtype(wide)?, &mask)?;
    let cosine = (&words * &found)?.sum(2)?.div(&(norm(&words)? * norm(&found)?)?)?; // (B, L)
    cosine.sum(1)?.div(&real.sum(1)?)
}

fn delta(has_target: &Tensor, cosines: &Tensor) -> Result<Tensor> {
    if has_target.dims() != cosines.dims() {
        bail!("similarity loss: has_target {:?} for {:?}", has_target.dims(), cosines.dims());
    }
    has_target.to_dtype(cosines.dtype())
}

/// Release: `1 - mean_b δ_b cos_b`, so a sample without target adds the constant 1.
///
/// Words and reconstruction `(B, L, D)`, attention `(B, L)`, has_target `(B)`.
pub fn similarity(
    words: &Tensor,
    reconstructed: &Tensor,
    attention: &Tensor,
    has_target: &Tensor,
) -> Result<Tensor> {
    let cosines = cosines(words, reconstructed, attention)?;
    1.0 - cosines.mul(&delta(has_target, &cosines)?)?.mean(0)?
}

/// Paper: `mean_b δ_b (1 - cos_b)`, so a sample without target adds nothing. Shapes as for [`similarity`].
pub fn similarity_of_targets(
    words: &Tensor,
    reconstructed: &Tensor,
    attention: &Tensor,
    has_target: &Tensor,
) -> Result<Tensor> {
    let cosines = cosines(words, reconstructed, attention)?;
    delta(has_target, &cosines)?.mul(&(1.0 - &cosines)?)?.mean(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// `δ (1 - cos)` as a loop, averaged over real words and samples.
    #[test]
    fn paper_loss_is_the_loop_and_has_no_gradient_in_the_words() -> Result<()> {
        let (b, l, d) = (3, 4, 5);
        let wave = |f: f64| -> Vec<f64> { (0..b * l * d).map(|i| (i as f64 * f).sin()).collect() };
        let (e, r) = (wave(0.7), wave(1.3));
        let (mask, delta) = ([[1u8, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], [1u8, 0, 1]);
        let at = |xs: &[f64], s: usize, t: usize| xs[(s * l + t) * d..][..d].to_vec();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
        let mut expected = 0.0;
        for s in 0..b {
            let real: Vec<usize> = (0..l).filter(|t| mask[s][*t] == 1).collect();
            let cosine = real.iter().map(|t| {
                let (x, y) = (at(&e, s, *t), at(&r, s, *t));
                dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt()
            });
            let mean = cosine.sum::<f64>() / real.len() as f64;
            expected += f64::from(delta[s]) * (1.0 - mean) / b as f64;
        }
        let device = Device::Cpu;
        let words = candle_core::Var::from_tensor(&Tensor::from_vec(e, (b, l, d), &device)?)?;
        let found = candle_core::Var::from_tensor(&Tensor::from_vec(r, (b, l, d), &device)?)?;
        let (mask, delta) = (Tensor::new(&mask, &device)?, Tensor::new(&delta, &device)?);
        let loss = similarity_of_targets(&words, &found, &mask, &delta)?;
        assert!((loss.to_scalar::<f64>()? - expected).abs() < 1e-12);
        let grads = loss.backward()?;
        assert!(grads.get(words.as_tensor()).is_none() && grads.get(found.as_tensor()).is_some());
        // The release counts the sample without target as 1.
        let release = similarity(&words, &found, &mask, &delta)?.to_scalar::<f64>()?;
        assert!((release - expected - 1.0 / 3.0).abs() < 1e-12);
        assert!(similarity_of_targets(&words, &found, &mask, &mask).is_err());
        Ok(())
    }
}
