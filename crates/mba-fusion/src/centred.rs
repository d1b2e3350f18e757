//! Projected and instance-normed cells that are never written down, for inference.
//!
//! `IN(V Wᵀ + b)` is linear in `V` once its variances are known, and these follow from the covariance of `V`:
//! `var_d = w_dᵀ Cov(V) w_d`; the bias and the mean cancel. So scores are `(q ⊙ rstd) W` times the centred cells, and
//! gathered cells are projected after the sum: a map of 14,400 cells needs no 14,400 x 768 values a projection.

use candle_core::{DType, Result, Tensor};
use nn_ops::{linear, matmul, matmul_nt, turn};

use crate::IN_EPS;

/// Cells `(B, N, C)` minus their mean, and their covariance `(B, C, C)`.
#[derive(Clone, Debug)]
pub(crate) struct Centred {
    cells: Tensor,
    covariance: Tensor,
}

impl Centred {
    /// Nothing where a gradient is needed, where there are too few cells to gain, or away from f32 and f64 on the CPU.
    pub(crate) fn of(visual: &Tensor, weight: &Tensor) -> Result<Option<Self>> {
        let (b, n, c) = visual.dims3()?;
        let tracked = visual.track_op() || weight.track_op();
        let exact = matches!(visual.dtype(), DType::F32 | DType::F64) && visual.device().is_cpu();
        if tracked || !exact || weight.dtype() != visual.dtype() || n < 2 * c {
            return Ok(None);
        }
        let share = Tensor::full(1.0 / n as f64, (b, 1, n), visual.device())?;
        let mean = matmul(&share.to_dtype(visual.dtype())?, visual)?; // (B, 1, C)
        let cells = visual.broadcast_sub(&mean)?;
        let across = turn(&cells)?;
        let covariance = (matmul_nt(&across, &across)? / n as f64)?;
        Ok(Some(Self { cells, covariance }))
    }

    /// `1 / sqrt(variance + eps)` of each projected channel: weight `(D, C)` to `(B, 1, D)`.
    fn rstd(&self, weight: &Tensor) -> Result<Tensor> {
        let half = turn(&linear(&self.covariance, weight, None)?)?; // (B, D, C)
        let variance = half.broadcast_mul(weight)?.sum_keepdim(2)?;
        (turn(&variance)? + IN_EPS)?.sqrt()?.recip()
    }

    /// Queries `(B, L, D)` times the normed projections of the cells, up to a constant a row: `(B, L, N)`. One picture may be
    /// asked by several sentences.
    pub(crate) fn scores(&self, queries: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (b, l, d) = queries.dims3()?;
        let scaled = queries.broadcast_mul(&self.rstd(weight)?)?.reshape((b * l, d))?;
        let scaled = matmul(&scaled, weight)?.reshape((self.cells.dim(0)?, (), weight.dim(1)?))?;
        matmul_nt(&scaled, &self.cells)?.reshape((b, l, ()))
    }

    /// Sums of the normed projections of the cells, weighted by a map `(B, L, N)`: `(B, L, D)`.
    pub(crate) fn gathered(&self, map: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (b, l, n) = map.dims3()?;
        let sums = matmul(&map.reshape((self.cells.dim(0)?, (), n))?, &self.cells)?;
        linear(&sums, weight, None)?.reshape((b, l, ()))?.broadcast_mul(&self.rstd(weight)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nn_ops::instance_norm;

    #[test]
    fn the_same_as_writing_them_down() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let values = |shape: &[usize], step: f64| -> Result<Tensor> {
                let n = shape.iter().product::<usize>() as f64;
                let t = ((Tensor::arange(0f64, n, &Device::Cpu)? * step)?.sin()? + 0.3)?;
                t.reshape(shape)?.to_dtype(dtype)
            };
            let (visual, weight) = (values(&[2, 40, 5], 1.7)?, values(&[7, 5], 2.3)?);
            let (queries, map) = (values(&[2, 3, 7], 0.9)?, values(&[2, 3, 40], 3.1)?);
            let Some(centred) = Centred::of(&visual, &weight)? else {
                candle_core::bail!("40 cells of 5 channels are enough");
            };
            let projected = instance_norm(&linear(&visual, &weight, None)?, IN_EPS)?;
            let far = |a: &Tensor, b: &Tensor| -> Result<f64> {
                (a - b)?.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()
            };
            let want = matmul_nt(&queries, &projected)?;
            assert!(far(&centred.scores(&queries, &weight)?, &want)? < tolerance);
            let want = matmul(&map, &projected)?;
            assert!(far(&centred.gathered(&map, &weight)?, &want)? < tolerance);
        }
        Ok(())
    }
}
