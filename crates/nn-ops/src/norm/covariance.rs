//! Instance norm of a projection that is never written down.
//!
//! `IN(V Wᵀ + b)` is linear in `V` once its variances are known, and these follow from the covariance of `V`:
//! `var_d = w_dᵀ Cov(V) w_d`; the bias and the mean cancel. So many cells need no projection of their own, only their mean
//! taken off ([`centre`]), their [`covariance`], and what the norm divides by ([`projected_rstd`]).

use candle_core::{DType, Result, Tensor, bail};

#[cfg(feature = "cuda")]
use crate::kernel::{Plan, plan};
use crate::{linear, matmul, matmul_nt, turn};

/// `(B, N, C)` minus the mean of each channel over `N`.
///
/// # Errors
/// When the tensor is not of rank 3.
pub fn centre(xs: &Tensor) -> Result<Tensor> {
    let (b, n, _) = xs.dims3()?;
    #[cfg(feature = "cuda")]
    if plan(xs) == Plan::Cuda {
        return crate::cuda::centre(xs);
    }
    let share = Tensor::full(1.0 / n as f64, (b, 1, n), xs.device())?;
    xs.broadcast_sub(&matmul(&share.to_dtype(xs.dtype())?, xs)?)
}

/// Covariance of the channels of `(B, N, C)`, whose mean over `N` is zero: `(B, C, C)`, f32 at least.
///
/// # Errors
/// When the tensor is not of rank 3.
pub fn covariance(centred: &Tensor) -> Result<Tensor> {
    let (_, n, _) = centred.dims3()?;
    #[cfg(feature = "cuda")]
    if plan(centred) == Plan::Cuda {
        return crate::cuda::covariance(centred);
    }
    let across = turn(&wide(centred)?)?;
    matmul_nt(&across, &across)? / n as f64
}

/// `1 / sqrt(w_dᵀ Cov w_d + eps)` for each row of a weight `(D, C)` and covariance `(B, C, C)`: `(B, 1, D)` in the type of
/// the covariance. The gradient of `bias` `(D)` is zero. A variance that rounding made negative counts as 0; on the CPU the
/// product is f64, because it cancels where channels vary together.
///
/// # Errors
/// When the sizes do not fit.
pub fn projected_rstd(
    covariance: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let ((_, c, across), (d, width)) = (covariance.dims3()?, weight.dims2()?);
    if c != across || c != width || bias.is_some_and(|b| b.dims() != [d]) {
        bail!("projected_rstd: covariance {:?} for weight ({d}, {width})", covariance.dims());
    }
    #[cfg(feature = "cuda")]
    if plan(covariance) == Plan::Cuda {
        return crate::cuda::projected_rstd(covariance, weight, bias, eps);
    }
    let product = if covariance.device().is_cpu() { DType::F64 } else { covariance.dtype() };
    let weight = weight.to_dtype(product)?;
    let half = turn(&linear(&covariance.to_dtype(product)?, &weight, None)?)?; // (B, D, C)
    let variance = half.broadcast_mul(&weight)?.sum_keepdim(2)?.maximum(0.0)?;
    let rstd = (turn(&variance)? + eps)?.sqrt()?.recip()?.to_dtype(covariance.dtype())?;
    match bias.filter(|b| b.track_op()) {
        Some(bias) => {
            // Not `bias * 0.0`, which Candle does not differentiate.
            let nothing = (bias * bias.zeros_like()?)?.to_dtype(rstd.dtype())?;
            rstd.broadcast_add(&nothing.reshape((1, 1, d))?)
        }
        None => Ok(rstd),
    }
}

/// `(B, L, D)` times factors `(B, 1, D)` or `(1, 1, D)` of any float type, in the type of `xs`.
///
/// # Errors
/// When the sizes do not fit.
pub fn scale_columns(xs: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let ((b, _, d), (groups, one, width)) = (xs.dims3()?, factors.dims3()?);
    if one != 1 || d != width || (groups != 1 && groups != b) {
        bail!("scale_columns: factors {:?} for {:?}", factors.dims(), xs.dims());
    }
    #[cfg(feature = "cuda")]
    if plan(xs) == Plan::Cuda {
        return crate::cuda::scale_columns(xs, factors);
    }
    let ys = wide(xs)?;
    ys.broadcast_mul(&factors.to_dtype(ys.dtype())?)?.to_dtype(xs.dtype())
}

fn wide(xs: &Tensor) -> Result<Tensor> {
    if xs.dtype() == DType::F64 { Ok(xs.clone()) } else { xs.to_dtype(DType::F32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{gradients, half, several};
    use crate::instance_norm;

    #[test]
    fn gradients_of_each() -> Result<()> {
        let cells = several(&[&[2, 7, 3]])?;
        gradients("centre", &cells, &|x| centre(&x[0]))?;
        half("centre", &cells, &|x| centre(&x[0]))?;
        gradients("covariance", &cells, &|x| covariance(&x[0]))?;
        let inputs = several(&[&[2, 7, 3], &[4, 3], &[4]])?;
        gradients("projected_rstd", &inputs, &|x| {
            projected_rstd(&covariance(&x[0])?, &x[1], Some(&x[2]), 1e-2)
        })?;
        for groups in [1, 2] {
            let inputs = several(&[&[2, 5, 3], &[groups, 1, 3]])?;
            gradients("scale_columns", &inputs, &|x| scale_columns(&x[0], &x[1]))?;
            half("scale_columns", &inputs, &|x| scale_columns(&x[0], &x[1]))?;
        }
        Ok(())
    }

    #[test]
    fn a_normed_projection_without_the_projection() -> Result<()> {
        let inputs = several(&[&[2, 9, 3], &[4, 3], &[4], &[2, 5, 4]])?;
        let [cells, weight, bias, queries] = [0, 1, 2, 3].map(|i| &inputs[i]);
        let want = instance_norm(&linear(cells, weight, Some(bias))?, 1e-5)?;
        let centred = centre(cells)?;
        let rstd = projected_rstd(&covariance(&centred)?, weight, Some(bias), 1e-5)?;
        let found = scale_columns(&linear(&centred, weight, None)?, &rstd)?;
        let apart = (&found - &want)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(apart < 1e-12, "{apart:e}");
        let scores = matmul_nt(queries, &want)?;
        let scaled =
            matmul(&scale_columns(queries, &rstd)?, &weight.unsqueeze(0)?.repeat((2, 1, 1))?)?;
        let apart = (matmul_nt(&scaled, &centred)? - scores)?.abs()?.max_all()?;
        assert!(apart.to_scalar::<f64>()? < 1e-12);
        Ok(())
    }

    /// Cells of one direction: what a weight across it sees is all cancellation.
    #[test]
    fn cells_of_one_direction() -> Result<()> {
        let (n, c, d) = (64, 48, 40);
        let raw = several(&[&[1, n, 1], &[1, 1, c], &[d, c]])?;
        let along = (&raw[1] * 100.0)?;
        let norm = along.sqr()?.sum_all()?.to_scalar::<f64>()?;
        let weight = &raw[2];
        let part = (weight.matmul(&along.reshape((c, 1))?)? / norm)?;
        let across = (weight - part.matmul(&along.reshape((1, c))?)?)?;
        // Signs of zero mean, so that a covariance of integers is exact.
        let signs: Vec<f64> = (0..n).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let signs = Tensor::from_vec(signs, (1, n, 1), raw[0].device())?;
        let rstd = |cells: &Tensor, weight: &Tensor| -> Result<(Tensor, Tensor)> {
            let (cells, weight) = (cells.to_dtype(DType::F32)?, weight.to_dtype(DType::F32)?);
            let ours = projected_rstd(&covariance(&cells)?, &weight, None, 1e-5)?;
            let values = linear(&cells.to_dtype(DType::F64)?, &weight.to_dtype(DType::F64)?, None)?;
            let direct = (values.sqr()?.mean_keepdim(1)? + 1e-5)?.sqrt()?.recip()?;
            Ok((ours.to_dtype(DType::F64)?, direct))
        };
        let (ours, direct) = rstd(&signs.matmul(&along.round()?)?, &across)?;
        let apart = (ours / direct)?.affine(1.0, -1.0)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(apart < 1e-6, "{apart:e}");
        // Rounding of the covariance itself is larger than eps here.
        let (ours, _) = rstd(&centre(&raw[0].matmul(&along)?)?, &across)?;
        assert!(ours.flatten_all()?.to_vec1::<f64>()?.iter().all(|r| r.is_finite() && *r > 0.0));
        Ok(())
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() -> Result<()> {
        let x = several(&[&[2, 9, 3], &[4, 5], &[3, 1, 3]])?;
        assert!(projected_rstd(&covariance(&x[0])?, &x[1], None, 1e-5).is_err());
        assert!(scale_columns(&x[0], &x[2]).is_err());
        Ok(())
    }
}
