//! Projected and instance-normed cells that are never written down.
//!
//! `IN(V Wᵀ + b)` is linear in `V` once its variances are known, and these follow from the covariance of `V`:
//! `var_d = w_dᵀ Cov(V) w_d`; the bias and the mean cancel. So scores are `(q ⊙ rstd) W` times the centred cells, and
//! gathered cells are projected after the sum: a map of 14,400 cells needs no 14,400 x 768 values a projection.

use candle_core::{DType, Result, Tensor};
use nn_ops::{
    Linear, centre, covariance, linear, matmul, matmul_nt, projected_rstd, reshape, scale_columns,
};

use crate::IN_EPS;

/// Cells `(B, N, C)` minus their mean, and their covariance `(B, C, C)`.
#[derive(Clone, Debug)]
pub(crate) struct Centred {
    cells: Tensor,
    covariance: Tensor,
}

impl Centred {
    /// Nothing where there are too few cells to gain. Where a gradient is needed, on a GPU in bf16 only: elsewhere its rounding
    /// would be another than the reference's.
    pub(crate) fn of(visual: &Tensor, projection: &Linear) -> Result<Option<Self>> {
        let (_, n, c) = visual.dims3()?;
        let weight = projection.weight()?;
        let (dtype, cpu) = (visual.dtype(), visual.device().is_cpu());
        let exact = matches!(dtype, DType::F32 | DType::F64) && weight.dtype() == dtype;
        let tracked = visual.track_op() || weight.track_op();
        let gains = if cpu { exact && !tracked } else { dtype == DType::BF16 || !tracked };
        if !gains || n < 2 * c {
            return Ok(None);
        }
        let cells = centre(visual)?;
        let covariance = covariance(&cells)?;
        Ok(Some(Self { cells, covariance }))
    }

    /// `1 / sqrt(variance + eps)` of each projected channel, `(B, 1, D)`.
    fn rstd(&self, projection: &Linear) -> Result<Tensor> {
        projected_rstd(&self.covariance, &projection.weight()?, projection.bias(), IN_EPS)
    }

    /// Queries `(B, L, D)` times the normed projections of the cells, up to a constant a row: `(B, L, N)`. One picture may be
    /// asked by several sentences.
    pub(crate) fn scores(&self, queries: &Tensor, projection: &Linear) -> Result<Tensor> {
        let ((b, l, d), (pictures, n, c)) = (queries.dims3()?, self.cells.dims3()?);
        let scaled = scale_columns(queries, &self.rstd(projection)?)?;
        let scaled = matmul(&reshape(&scaled, (b * l, d))?, &projection.weight()?)?;
        let scaled = reshape(&scaled, (pictures, b * l / pictures, c))?;
        reshape(&matmul_nt(&scaled, &self.cells)?, (b, l, n))
    }

    /// Sums of the normed projections of the cells, weighted by a map `(B, L, N)`: `(B, L, D)`.
    pub(crate) fn gathered(&self, map: &Tensor, projection: &Linear) -> Result<Tensor> {
        let ((b, l, n), pictures) = (map.dims3()?, self.cells.dim(0)?);
        let sums = matmul(&reshape(map, (pictures, b * l / pictures, n))?, &self.cells)?;
        let projected = linear(&sums, &projection.weight()?, None)?;
        let d = projected.dim(2)?;
        scale_columns(&reshape(&projected, (b, l, d))?, &self.rstd(projection)?)
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
            let projection = Linear::new(weight.clone(), None);
            let Some(centred) = Centred::of(&visual, &projection)? else {
                candle_core::bail!("40 cells of 5 channels are enough");
            };
            let projected = instance_norm(&linear(&visual, &weight, None)?, IN_EPS)?;
            let far = |a: &Tensor, b: &Tensor| -> Result<f64> {
                (a - b)?.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()
            };
            let want = matmul_nt(&queries, &projected)?;
            assert!(far(&centred.scores(&queries, &projection)?, &want)? < tolerance);
            let want = matmul(&map, &projected)?;
            assert!(far(&centred.gathered(&map, &projection)?, &want)? < tolerance);
        }
        Ok(())
    }
}
