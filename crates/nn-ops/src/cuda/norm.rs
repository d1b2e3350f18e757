//! Layer and instance normalisation, and sums down columns.

use candle_core::{CudaDevice, DType, Result, Tensor};

use super::{NORM, Output, device, f32_of, grid, int, launch, open, suffix, whole};
use crate::kernel::{attach_storage, attach_with_result};

/// Blocks of 32 threads side by side over `columns`, of which each thread takes four where they go in fours.
pub(super) fn strips(columns: usize) -> usize {
    let wide = if columns.is_multiple_of(4) { 4 } else { 1 };
    (columns / wide).div_ceil(32).max(1)
}

/// Pieces into which `rows` are split, and rows of a piece: enough blocks for the card, and one piece, which spares a launch to
/// add them up, where it takes no longer; numbers that depend on the sizes alone.
pub(super) fn chunks(rows: usize, columns: usize) -> (usize, usize) {
    if rows <= 256 {
        return (1, rows.max(1));
    }
    let wanted = (1024 / strips(columns)).clamp(1, 256);
    let per = rows.div_ceil(wanted).max(64);
    (rows.div_ceil(per), per)
}

/// `scale` times the sums of the columns of `(rows, cols)`, f32 `(cols)`.
pub(crate) fn column_sums(xs: &Tensor, scale: f64) -> Result<Tensor> {
    let xs = whole(xs)?;
    column_sums_at(&device(&xs)?, open(&xs)?.at, xs.dims2()?, scale, xs.dtype())
}

/// The same of what lies at an address.
pub(super) fn column_sums_at(
    dev: &CudaDevice,
    at: u64,
    (rows, cols): (usize, usize),
    scale: f64,
    dtype: DType,
) -> Result<Tensor> {
    let (count, per) = chunks(rows, cols);
    let pass = |at: u64, rows: usize, (count, per): (usize, usize), scale: f64, dtype: DType| {
        let out = Output::new(dev, (count, cols), DType::F32)?;
        let config = grid((strips(cols), count, 1), (32, 8))?;
        launch!(
            dev,
            NORM,
            format!("columns_{}", suffix(dtype)?),
            config,
            [out.at, at, rows as u64, cols as u64, per as u64, scale as f32]
        );
        Ok::<_, candle_core::Error>(out.tensor())
    };
    if count == 1 {
        return pass(at, rows, (1, rows), scale, dtype)?.reshape(cols);
    }
    let parts = pass(at, rows, (count, per), 1.0, dtype)?;
    pass(open(&parts)?.at, count, (1, count), scale, DType::F32)?.reshape(cols)
}

/// The sums of the columns of `(parts, cols)`, `(cols)`: of a single part, that part.
pub(super) fn sum_of_parts(parts: Output) -> Result<Tensor> {
    let parts = parts.tensor();
    match parts.dims2()? {
        (1, cols) => parts.reshape(cols),
        _ => column_sums(&parts, 1.0),
    }
}

pub(crate) fn layer_norm(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (xs, weight, bias) = (whole(xs)?, f32_of(weight)?, f32_of(bias)?);
    let c = weight.dims1()?;
    let rows = xs.elem_count() / c.max(1);
    let (dev, s) = (device(&xs)?, suffix(xs.dtype())?);
    let y = Output::new(&dev, xs.shape(), xs.dtype())?;
    let stat = Output::new(&dev, (rows, 2), DType::F32)?;
    launch!(
        &dev,
        NORM,
        format!("layer_{s}"),
        grid((rows.div_ceil(4), 1, 1), (32, 4))?,
        [
            y.at,
            stat.at,
            open(&xs)?.at,
            open(&weight)?.at,
            open(&bias)?.at,
            rows as u64,
            int(c)?,
            eps as f32,
        ]
    );
    let (xd, wd, stat) = (xs.detach(), weight.detach(), stat.tensor());
    let backward = move |grad: &Tensor| {
        let (g, x, w, st) = (open(grad)?, open(&xd)?, open(&wd)?, open(&stat)?);
        let dx = Output::new(&dev, xd.shape(), xd.dtype())?;
        launch!(
            &dev,
            NORM,
            format!("layer_dx_{s}"),
            grid((rows.div_ceil(4), 1, 1), (32, 4))?,
            [dx.at, x.at, g.at, w.at, st.at, rows as u64, int(c)?]
        );
        let (count, per) = chunks(rows, c);
        let part = Output::new(&dev, (count, 2 * c), DType::F32)?;
        launch!(
            &dev,
            NORM,
            format!("layer_dw_{s}"),
            grid((strips(c), count, 1), (32, 8))?,
            [part.at, x.at, g.at, st.at, rows as u64, int(c)?, per as u64]
        );
        let both = sum_of_parts(part)?;
        Ok(vec![dx.tensor(), both.narrow(0, 0, c)?, both.narrow(0, c, c)?])
    };
    let (value, shape) = y.value();
    attach_storage("layer-norm", &[&xs, &weight, &bias], value, shape, backward)
}

/// What [`column_moments`] finds beside the mean.
#[derive(Clone, Copy)]
pub(super) enum Spread {
    /// `1 / sqrt(variance + eps)`, of the biased variance.
    Rstd(f64),
    /// The biased variance.
    Variance,
    /// 1: only the mean is asked for.
    One,
}

/// Of each column of each `(N, C)` in `(B, N, C)`: mean and spread; f32 `(B, 2, C)`.
pub(super) fn column_moments(xs: &Tensor, spread: Spread) -> Result<Tensor> {
    let (b, n, c) = xs.dims3()?;
    let dev = device(xs)?;
    let (count, per) = chunks(n, c);
    let part = Output::new(&dev, (b, count, 3, c), DType::F32)?;
    launch!(
        &dev,
        NORM,
        format!("instance_part_{}", suffix(xs.dtype())?),
        grid((strips(c), count, b), (32, 8))?,
        [part.at, open(xs)?.at, int(n)?, int(c)?, int(per)?]
    );
    let stat = Output::new(&dev, (b, 2, c), DType::F32)?;
    let (eps, what) = match spread {
        Spread::Rstd(eps) => (eps as f32, 0),
        Spread::Variance => (0.0, 1),
        Spread::One => (0.0, 2),
    };
    launch!(
        &dev,
        NORM,
        "instance_stat_f32",
        grid((c.div_ceil(32), b, 1), (32, 8))?,
        [stat.at, part.at, int(c)?, int(count)?, eps, what]
    );
    Ok(stat.tensor())
}

/// `(x - mean) spread` of each column of each `(N, C)` in `(B, N, C)`, by its moments.
pub(super) fn normed(xs: &Tensor, moments: &Tensor) -> Result<Output> {
    let (b, n, c) = xs.dims3()?;
    let (count, per) = chunks(n, c);
    let y = Output::new(&device(xs)?, (b, n, c), xs.dtype())?;
    launch!(
        &device(xs)?,
        NORM,
        format!("instance_{}", suffix(xs.dtype())?),
        grid((strips(c), count, b), (32, 8))?,
        [y.at, open(xs)?.at, open(moments)?.at, int(n)?, int(c)?, int(per)?]
    );
    Ok(y)
}

pub(crate) fn instance_norm(xs: &Tensor, eps: f64) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (b, n, c) = xs.dims3()?;
    let (dev, s) = (device(&xs)?, suffix(xs.dtype())?);
    let (count, per) = chunks(n, c);
    let across = grid((strips(c), count, b), (32, 8))?;
    let stat = column_moments(&xs, Spread::Rstd(eps))?;
    let y = normed(&xs, &stat)?;
    let backward = move |y: &Tensor, grad: &Tensor| {
        let (g, y, st) = (open(grad)?, open(y)?, open(&stat)?);
        let part = Output::new(&dev, (b, count, 2, c), DType::F32)?;
        launch!(
            &dev,
            NORM,
            format!("instance_back_part_{s}"),
            across,
            [part.at, y.at, g.at, int(n)?, int(c)?, int(per)?]
        );
        let mean = Output::new(&dev, (b, 2, c), DType::F32)?;
        launch!(
            &dev,
            NORM,
            "instance_back_stat_f32",
            grid(((2 * c).div_ceil(32), b, 1), (32, 8))?,
            [mean.at, part.at, int(c)?, int(count)?, n as f32]
        );
        let d = Output::new(&dev, (b, n, c), grad.dtype())?;
        launch!(
            &dev,
            NORM,
            format!("instance_dx_{s}"),
            across,
            [d.at, y.at, g.at, st.at, mean.at, int(n)?, int(c)?, int(per)?]
        );
        Ok(vec![d.tensor()])
    };
    let (value, shape) = y.value();
    attach_with_result("instance-norm", &[&xs], value, shape, backward)
}

/// Mean and sum of squared deviations of each plane: `(B, C, h, w)` to `(B, C, 2)`.
pub(super) fn plane_moments(xs: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let dev = device(xs)?;
    let part = Output::new(&dev, (b, c, 2), DType::F32)?;
    launch!(
        &dev,
        NORM,
        format!("batch_part_{}", suffix(xs.dtype())?),
        grid((b * c, 1, 1), (256, 1))?,
        [part.at, open(xs)?.at, int(h * w)?]
    );
    Ok(part.tensor())
}

/// Sum over batch and cells of each channel, f32 `(C)`: the gradient of a convolution's bias.
pub(super) fn channel_sums(xs: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let means = plane_moments(xs)?.narrow(2, 0, 1)?.contiguous()?.reshape((b, c))?;
    column_sums(&means, (h * w) as f64)
}
