//! Layer normalisation over the last dimension.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::{moments, sum_over};
use crate::kernel::{self, Plan, Real, dispatch, wide};

/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last dimension: `(.., C)` to `(.., C)`, biased variance.
///
/// # Errors
/// When the last dimension is not the `C` of weight and bias.
pub fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let c = weight.dims1()?;
    if xs.dims().last() != Some(&c) || bias.dims1()? != c {
        bail!("layer_norm: input {:?} does not end in the {c} channels of the weight", xs.dims());
    }
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, weight, bias, eps),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            layer_norm(&xs.to_dtype(f32)?, &weight.to_dtype(f32)?, &bias.to_dtype(f32)?, eps)?
                .to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::layer_norm(xs, weight, bias, eps),
        Plan::Composed => composed(xs, weight, bias, eps),
    }
}

/// From mean and variance, in f32 at least: oracle of the kernel, and the path of other devices.
pub(crate) fn composed(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = xs.dtype();
    let wide = if dtype == candle_core::DType::F64 { dtype } else { candle_core::DType::F32 };
    let xs = xs.to_dtype(wide)?;
    let centred = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
    let var = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let ys = centred.broadcast_div(&(var + eps)?.sqrt()?)?;
    ys.broadcast_mul(&weight.to_dtype(wide)?)?.broadcast_add(&bias.to_dtype(wide)?)?.to_dtype(dtype)
}

wide! {
    fn row_value(ys: &mut [T], xs: &[T], w: &[T], b: &[T], eps: f64) {
        let (mean, rstd) = moments(xs, eps);
        for ((y, x), (w, b)) in ys.iter_mut().zip(xs).zip(w.iter().zip(b)) {
            *y = (*x - mean) * rstd * *w + *b;
        }
    }
}

wide! {
    fn row_gradient(ds: &mut [T], xs: &[T], w: &[T], gs: &[T], eps: f64) {
        let n = T::of(xs.len() as f64);
        let (mean, rstd) = moments(xs, eps);
        let m1 = sum_over([gs, w], |[g, w]| g * w) / n;
        let m2 = sum_over([gs, w, xs], |[g, w, x]| g * w * (x - mean) * rstd) / n;
        for ((d, x), (w, g)) in ds.iter_mut().zip(xs).zip(w.iter().zip(gs)) {
            *d = rstd * (*g * *w - m1 - (*x - mean) * rstd * m2);
        }
    }
}

wide! {
    fn row_affine_gradient(dw: &mut [T], db: &mut [T], xs: &[T], gs: &[T], eps: f64) {
        let (mean, rstd) = moments(xs, eps);
        for ((dw, db), (x, g)) in dw.iter_mut().zip(db).zip(xs.iter().zip(gs)) {
            *dw += *g * (*x - mean) * rstd;
            *db += *g;
        }
    }
}

fn fused(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (xs, weight, bias) = (xs.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let c = weight.dims1()?;
    let shape = xs.shape().clone();
    dispatch!(xs.dtype(), T => {
        let ys = {
            let (x, w, b) = (kernel::read(&xs)?, kernel::read(&weight)?, kernel::read(&bias)?);
            let (x, w, b) = (x.slice::<T>()?, w.slice::<T>()?, b.slice::<T>()?);
            kernel::par_filled(x.len(), c, |r, y| row_value(y, &x[r * c..(r + 1) * c], w, b, eps))
        };
        let (xd, wd) = (xs.detach(), weight.detach());
        let backward = move |grad: &Tensor| {
            let (g, x, w) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (g, x, w) = (g.slice::<T>()?, x.slice::<T>()?, w.slice::<T>()?);
            let dx = kernel::par_filled(x.len(), c, |r, d| {
                row_gradient(d, &x[r * c..(r + 1) * c], w, &g[r * c..(r + 1) * c], eps);
            });
            let rows = x.len() / c.max(1);
            let both = kernel::par_sum::<T, _>(rows, 2 * c, c, |range, acc| {
                let (dw, db) = acc.split_at_mut(c);
                for r in range {
                    let (x, g) = (&x[r * c..(r + 1) * c], &g[r * c..(r + 1) * c]);
                    row_affine_gradient(dw, db, x, g, eps);
                }
            });
            Ok(vec![
                kernel::from_vec(dx, xd.shape())?,
                kernel::from_vec(both[..c].to_vec(), c)?,
                kernel::from_vec(both[c..].to_vec(), c)?,
            ])
        };
        kernel::attach("layer-norm", &[&xs, &weight, &bias], ys, shape, backward)
    })
}

/// Layer normalisation with learnt weight and bias.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `(.., C)` to `(.., C)`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        layer_norm(xs, &self.weight, &self.bias, self.eps)
    }
}

/// A layer norm over `channels`, keys `weight` (initially 1) and `bias` (0).
pub fn layer_norm_layer(channels: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    Ok(LayerNorm {
        weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
        bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
        eps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several, values};

    #[test]
    fn layer_norm_passes_the_audit() -> Result<()> {
        let small = several(&[&[2, 3, 5], &[5], &[5]])?;
        let large = several(&[&[3, 61, 77], &[77], &[77]])?;
        audit("layer_norm", &small, &large, &|x| layer_norm(&x[0], &x[1], &x[2], 1e-5), &|x| {
            composed(&x[0], &x[1], &x[2], 1e-5)
        })
    }

    #[test]
    fn a_large_mean_does_not_drown_the_variance() -> Result<()> {
        let f32 = candle_core::DType::F32;
        let xs = ((values(&[4, 768], 1)? * 2.0)? + 1000.0)?.to_dtype(f32)?;
        let (w, b) = (Tensor::ones(768, f32, xs.device())?, Tensor::zeros(768, f32, xs.device())?);
        let f64 = candle_core::DType::F64;
        let exact = composed(&xs.to_dtype(f64)?, &w.to_dtype(f64)?, &b.to_dtype(f64)?, 1e-5)?;
        let error = (layer_norm(&xs, &w, &b, 1e-5)?.to_dtype(f64)? - exact)?.abs()?;
        let error = error.max_all()?.to_scalar::<f64>()?;
        assert!(error < 2e-4, "{error:e}"); // Candle's one-pass kernel: 0.18
        Ok(())
    }
}
