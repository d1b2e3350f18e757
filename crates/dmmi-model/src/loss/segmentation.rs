//! Weighted cross-entropy over pixels.
//!
//! With equal weights this is the paper's binary cross-entropy: the foreground probability of two classes is the logistic
//! function of the difference of their logits, and the weighted mean is then the mean.

use candle_core::{Result, Tensor, bail};
use nn_ops::pixel_cross_entropy;

/// `Σ w_y nll / Σ w_y` of logits `(B, 2, H, W)` against masks `(B, H, W)`, in f32 at least.
pub fn segmentation(logits: &Tensor, masks: &Tensor, weights: [f32; 2]) -> Result<Tensor> {
    let (b, k, h, w) = logits.dims4()?;
    if k != 2 || masks.dims() != [b, h, w] {
        bail!("segmentation loss: logits {:?} for masks {:?}", logits.dims(), masks.dims());
    }
    pixel_cross_entropy(logits, masks, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn equal_weights_are_binary_cross_entropy() -> Result<()> {
        let (b, h, w) = (2, 3, 5);
        let logits: Vec<f64> = (0..b * 2 * h * w).map(|i| (i as f64 * 0.9).sin() * 4.0).collect();
        let masks: Vec<u8> = (0..b * h * w).map(|i| u8::from(i % 3 == 0)).collect();
        let mut expected = 0.0;
        for s in 0..b {
            for i in 0..h * w {
                let at = |class: usize| logits[(s * 2 + class) * h * w + i];
                let p = 1.0 / (1.0 + (at(0) - at(1)).exp());
                let y = f64::from(masks[s * h * w + i]);
                expected -= (y * p.ln() + (1.0 - y) * (1.0 - p).ln()) / (b * h * w) as f64;
            }
        }
        let logits = Tensor::from_vec(logits, (b, 2, h, w), &Device::Cpu)?;
        let masks = Tensor::from_vec(masks, (b, h, w), &Device::Cpu)?;
        let found = segmentation(&logits, &masks, [1.0, 1.0])?.to_scalar::<f64>()?;
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        Ok(())
    }
}
