//! Cross-entropy over pixels: weighted, of two classes; and of any number of them.

use candle_core::{DType, Result, Tensor, WithDType, bail};
use candle_nn::ops::log_softmax;

use crate::kernel::{self, Plan, Real, dispatch, wide};
use crate::norm::sum as sum_of;

/// Pixels a thread takes at a time.
const BLOCK: usize = 1 << 10;

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
    match kernel::plan(&logits) {
        Plan::Fused if logits.elem_count() > 0 => fused(&logits, masks, weights),
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::pixel_cross_entropy(&logits, &masks.ne(0u8)?, weights),
        _ => composed(&logits, masks, weights),
    }
}

/// Of the two logits only their difference counts: `nll = ln(1 + exp(z_other - z_y))`, and `dnll/dz_1 = p_1 - y`.
fn fused(logits: &Tensor, masks: &Tensor, weights: [f32; 2]) -> Result<Tensor> {
    let logits = logits.contiguous()?;
    let (b, _, h, w) = logits.dims4()?;
    let cells = h * w;
    let masks = masks.ne(0u8)?.flatten_all()?.to_vec1::<u8>()?;
    dispatch!(logits.dtype(), T => {
        let weights = weights.map(|w| <T as Real>::of(f64::from(w)));
        let (loss, total) = {
            let z = kernel::read(&logits)?;
            let z = z.slice::<T>()?;
            let parts = kernel::par_sum::<f64, _>(b * cells, 2, 1, |mut range, sums| {
                let mut found = ([T::default(); BLOCK], [T::default(); BLOCK]);
                while !range.is_empty() {
                    let (image, first) = (range.start / cells, range.start % cells);
                    let n = BLOCK.min(cells - first).min(range.len());
                    let [back, fore] = [0, 1].map(|c| &z[(2 * image + c) * cells + first..][..n]);
                    let (nll, share) = (&mut found.0[..n], &mut found.1[..n]);
                    terms::<T>(back, fore, &masks[range.start..range.start + n], weights, nll, share);
                    sums[0] += WithDType::to_f64(sum_of(nll));
                    sums[1] += WithDType::to_f64(sum_of(share));
                    range.start += n;
                }
            });
            (parts[0], parts[1])
        };
        let zd = logits.detach();
        let backward = move |grad: &Tensor| {
            let (z, g) = (kernel::read(&zd)?, kernel::read(grad)?);
            let z = z.slice::<T>()?;
            let factor = g.slice::<T>()?[0] / <T as Real>::of(total);
            let dz = kernel::par_filled(z.len(), cells, |p, plane| {
                let [back, fore] = [0, 1].map(|c| &z[(p / 2 * 2 + c) * cells..][..cells]);
                let sign = if p % 2 == 1 { factor } else { -factor };
                gradients::<T>(back, fore, &masks[p / 2 * cells..][..cells], weights, sign, plane);
            });
            Ok(vec![kernel::from_vec(dz, zd.shape())?])
        };
        let value = vec![<T as Real>::of(loss / total)];
        kernel::attach("cross-entropy", &[&logits], value, (), backward)
    })
}

wide! {
    /// Of each pixel its weighted negative logarithm and its weight.
    fn terms(back: &[T], fore: &[T], masks: &[u8], weights: [T; 2], nll: &mut [T], share: &mut [T]) {
        let pixels = back.iter().zip(fore).zip(masks).zip(nll.iter_mut().zip(share.iter_mut()));
        for (((z0, z1), y), (nll, share)) in pixels {
            let (weight, d) = if *y != 0 { (weights[1], *z0 - *z1) } else { (weights[0], *z1 - *z0) };
            let far = d.larger(T::default() - d);
            *share = weight;
            *nll = weight * (d.larger(T::default()) + (T::default() - far).exp().ln_1p());
        }
    }
}

wide! {
    /// `sign w_y (p_1 - y)` of each pixel.
    fn gradients(back: &[T], fore: &[T], masks: &[u8], weights: [T; 2], sign: T, out: &mut [T]) {
        let one = T::of(1.0);
        for (((z0, z1), y), out) in back.iter().zip(fore).zip(masks).zip(out) {
            let (weight, y) = if *y != 0 { (weights[1], one) } else { (weights[0], T::default()) };
            *out = sign * weight * (one / (one + (*z0 - *z1).exp()) - y);
        }
    }
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

/// Mean over pixels of `-ln softmax(z)_y`: logits `(B, K, H, W)` and classes `y` `(B, H, W)` (`u32`), in f32 at least; a scalar.
/// Pixels whose class is `K` or more do not count.
///
/// # Errors
/// When the shapes do not fit each other.
pub fn class_cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    let (b, k, h, w) = logits.dims4()?;
    if classes.dims() != [b, h, w] || classes.dtype() != DType::U32 {
        bail!(
            "cross-entropy: logits {:?} for classes {:?} ({:?}, expected u32)",
            logits.dims(),
            classes.dims(),
            classes.dtype()
        );
    }
    let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let every = Tensor::arange(0u32, k as u32, logits.device())?.reshape((1, k, 1, 1))?;
    let chosen = classes.unsqueeze(1)?.broadcast_eq(&every)?.to_dtype(wide)?; // (B, K, H, W)
    let likely = log_softmax(&logits.to_dtype(wide)?, 1)?;
    sum(&(likely * &chosen)?)?.neg()?.div(&sum(&chosen)?.maximum(1.0)?)
}

/// Rows first: one running f32 sum over all pixels loses two digits.
fn sum(xs: &Tensor) -> Result<Tensor> {
    xs.sum(candle_core::D::Minus1)?.sum_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{several, values};

    #[test]
    fn passes_the_audit() -> Result<()> {
        let masks = |x: &Tensor| -> Result<Tensor> {
            let (b, _, h, w) = x.dims4()?;
            values(&[b, h, w], 5)?.ge(0.3)
        };
        let f = |x: &[Tensor]| pixel_cross_entropy(&x[0], &masks(&x[0])?, [0.9, 1.1]);
        let small = vec![(several(&[&[2, 2, 3, 5]])?[0].clone() * 4.0)?];
        let large = vec![(several(&[&[3, 2, 71, 53]])?[0].clone() * 30.0)?];
        let oracle = |x: &[Tensor]| composed(&x[0], &masks(&x[0])?, [0.9, 1.1]);
        for x in [&small, &large] {
            crate::audit::oracle("pixel_cross_entropy", x, &f, &oracle)?;
            crate::audit::threads("pixel_cross_entropy", x, &f)?;
        }
        crate::audit::gradients("pixel_cross_entropy", &small, &f)
    }
    #[test]
    fn classes_pass_the_audit() -> Result<()> {
        // 0 to 4, where 4 does not count.
        let classes = |x: &Tensor| -> Result<Tensor> {
            let (b, _, h, w) = x.dims4()?;
            ((values(&[b, h, w], 5)?.abs()? * 9.0)?.clamp(0.0, 4.4)?).to_dtype(DType::U32)
        };
        let f = |x: &[Tensor]| class_cross_entropy(&x[0], &classes(&x[0])?);
        let small = vec![(several(&[&[2, 4, 3, 5]])?[0].clone() * 4.0)?];
        crate::audit::gradients("class_cross_entropy", &small, &f)?;
        // Two classes: the other loss without weights.
        let x = (several(&[&[2, 2, 3, 5]])?[0].clone() * 4.0)?;
        let y = classes(&x)?.ge(2u32)?;
        let two = class_cross_entropy(&x, &y.to_dtype(DType::U32)?)?.to_dtype(DType::F64)?;
        let other = pixel_cross_entropy(&x, &y, [1.0, 1.0])?.to_dtype(DType::F64)?;
        assert!((two.to_scalar::<f64>()? - other.to_scalar::<f64>()?).abs() < 1e-6);
        // Nothing counts: no loss, and no division by zero.
        let none = class_cross_entropy(&x, &Tensor::full(7u32, (2, 3, 5), x.device())?)?;
        assert_eq!(none.to_dtype(DType::F64)?.to_scalar::<f64>()?, 0.0);
        Ok(())
    }
}
