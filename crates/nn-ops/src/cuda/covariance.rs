//! What the instance norm of a projection divides by, from the covariance of what is projected.

use candle_core::{DType, Result, Tensor};

use super::elementwise::scale_parts;
use super::gemm::{Operand, product};
use super::norm::{Spread, column_moments, normed};
use super::{NORM, Output, device, f32_of, grid, int, launch, loop_grid, open, suffix, whole};
use crate::kernel::{attach_storage, attach_with_result};

/// As [`crate::centre`]. What centres the values centres the gradient.
pub(crate) fn centre(xs: &Tensor) -> Result<Tensor> {
    let xs = whole(xs)?;
    let centred = |xs: &Tensor| normed(xs, &column_moments(xs, Spread::One)?);
    let (value, shape) = centred(&xs)?.value();
    let backward = move |grad: &Tensor| Ok(vec![centred(grad)?.tensor()]);
    attach_storage("centre", &[&xs], value, shape, backward)
}

/// As [`crate::covariance`].
pub(crate) fn covariance(centred: &Tensor) -> Result<Tensor> {
    let xs = whole(centred)?;
    let (b, n, c) = xs.dims3()?;
    let of = |t| Operand::new(t, (b, n, c));
    let (value, shape) = product(of(&xs).t(), of(&xs), (b, c, c), DType::F32)?.value();
    let xd = xs.detach();
    let backward = move |grad: &Tensor| {
        let both = (grad + grad.transpose(1, 2)?.contiguous()?)?.to_dtype(xd.dtype())?;
        let (x, g) = (Operand::new(&xd, (b, n, c)), Operand::new(&both, (b, c, c)));
        Ok(vec![product(x, g, (b, n, c), xd.dtype())?.tensor()])
    };
    let sums = attach_storage("covariance", &[&xs], value, shape, backward)?;
    scale_parts("covariance", &sums, &Tensor::full(1.0 / n as f32, 1, xs.device())?)
}

/// As [`crate::projected_rstd`], on checked sizes.
pub(crate) fn projected_rstd(
    covariance: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let (covariance, weight) = (f32_of(covariance)?, f32_of(weight)?);
    let ((b, _, _), (d, c)) = (covariance.dims3()?, weight.dims2()?);
    let dev = device(&covariance)?;
    let of_weight = |t| Operand::new(t, (1, d, c));
    let square = Operand::new(&covariance, (b, c, c));
    let half = product(of_weight(&weight), square, (b, d, c), DType::F32)?.tensor();
    let r = Output::new(&dev, (b, 1, d), DType::F32)?;
    launch!(
        &dev,
        NORM,
        "rstd_f32",
        grid(((b * d).div_ceil(4), 1, 1), (32, 4))?,
        [r.at, open(&half)?.at, open(&weight)?.at, (b * d) as u64, int(d)?, int(c)?, eps as f32]
    );
    let bias = bias.filter(|b| b.track_op()).map(f32_of).transpose()?;
    let (wd, with_bias) = (weight.detach(), bias.is_some());
    let backward = move |r: &Tensor, grad: &Tensor| {
        let (g, w, at) = (open(grad)?, open(&wd)?, open(r)?);
        let scaled = Output::new(&dev, (b, d, c), DType::F32)?;
        launch!(
            &dev,
            NORM,
            "rstd_back_f32",
            loop_grid(b * d * c)?,
            [scaled.at, at.at, g.at, w.at, (b * d * c) as u64, int(d)?, int(c)?]
        );
        let scaled = scaled.tensor();
        let (w, s) = (Operand::new(&wd, (1, d, c)), Operand::new(&scaled, (b, d, c)));
        let of_covariance = product(w.t(), s, (b, c, c), DType::F32)?.tensor();
        let of_weight = Output::new(&dev, (d, c), DType::F32)?;
        launch!(
            &dev,
            NORM,
            "rstd_dw_f32",
            loop_grid(d * c)?,
            [of_weight.at, at.at, g.at, open(&half)?.at, int(b)?, int(d)?, int(c)?]
        );
        let mut found = vec![of_covariance, of_weight.tensor()];
        if with_bias {
            found.push(Tensor::zeros(d, DType::F32, grad.device())?);
        }
        Ok(found)
    };
    let (value, shape) = r.value();
    let name = "projected-rstd";
    match &bias {
        Some(bias) => {
            attach_with_result(name, &[&covariance, &weight, bias], value, shape, backward)
        }
        None => attach_with_result(name, &[&covariance, &weight], value, shape, backward),
    }
}

/// As [`crate::scale_columns`], on checked sizes.
pub(crate) fn scale_columns(xs: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let (xs, factors) = (whole(xs)?, f32_of(factors)?);
    let ((b, l, d), groups) = (xs.dims3()?, factors.dim(0)?);
    let (dev, rows) = (device(&xs)?, b * l / groups);
    let scaled = {
        let (dev, factors) = (dev.clone(), factors.detach());
        move |xs: &Tensor| {
            let (y, n) = (Output::new(&dev, xs.shape(), xs.dtype())?, xs.elem_count());
            launch!(
                &dev,
                NORM,
                format!("scale_columns_{}", suffix(xs.dtype())?),
                loop_grid(n)?,
                [y.at, open(xs)?.at, open(&factors)?.at, n as u64, int(rows)?, int(d)?]
            );
            Ok::<_, candle_core::Error>(y)
        }
    };
    let (value, shape) = scaled(&xs)?.value();
    let xd = xs.detach();
    let backward = move |grad: &Tensor| {
        let of_factors = Output::new(&dev, (groups, 1, d), DType::F32)?;
        launch!(
            &dev,
            NORM,
            format!("scale_columns_back_{}", suffix(grad.dtype())?),
            grid((d.div_ceil(32), groups, 1), (32, 8))?,
            [of_factors.at, open(grad)?.at, open(&xd)?.at, int(rows)?, int(d)?]
        );
        Ok(vec![scaled(grad)?.tensor(), of_factors.tensor()])
    };
    attach_storage("scale-columns", &[&xs, &factors], value, shape, backward)
}
