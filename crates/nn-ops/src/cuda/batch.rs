//! Batch normalisation of maps in either layout, with what may follow it: `max(x, 0)`.

use candle_core::{CudaDevice, DType, Result, Tensor};

use super::layout::{behind, map_of};
use super::norm::{Spread, chunks, column_moments, plane_moments, strips, sum_of_parts};
use super::{
    NORM, Output, device, elementwise, f32_of, grid, int, launch, loop_grid, open, relu, suffix,
    whole,
};
use crate::kernel::attach_storage;

/// Mean and biased variance of each channel of `(B, C, h, w)`, f32 `(C)` both.
pub(crate) fn batch_statistics(xs: &Tensor) -> Result<(Tensor, Tensor)> {
    let (b, c, h, w) = xs.dims4()?;
    if let Some(last) = behind(xs)? {
        let both =
            column_moments(&last.reshape((1, b * h * w, c))?, Spread::Variance)?.reshape((2, c))?;
        return Ok((both.get(0)?, both.get(1)?));
    }
    let xs = whole(xs)?;
    let dev = device(&xs)?;
    let part = plane_moments(&xs)?;
    let mean = Output::new(&dev, c, DType::F32)?;
    let var = Output::new(&dev, c, DType::F32)?;
    launch!(
        &dev,
        NORM,
        "batch_stat_f32",
        loop_grid(c)?,
        [mean.at, var.at, open(&part)?.at, int(b)?, int(c)?, (h * w) as f32]
    );
    Ok((mean.tensor(), var.tensor()))
}

/// Scale and shift of a normalisation: `w / sqrt(var + eps)` and `b - mean scale`, f32 `(C)` both.
fn scale_and_shift(
    dev: &CudaDevice,
    [mean, var, weight, bias]: [&Tensor; 4],
    eps: f32,
) -> Result<(Output, Output)> {
    let c = weight.dims1()?;
    let (scale, shift) = (Output::new(dev, c, DType::F32)?, Output::new(dev, c, DType::F32)?);
    launch!(
        dev,
        NORM,
        "batch_affine_f32",
        loop_grid(c)?,
        [
            scale.at,
            shift.at,
            open(mean)?.at,
            open(var)?.at,
            open(weight)?.at,
            open(bias)?.at,
            int(c)?,
            eps,
        ]
    );
    Ok((scale, shift))
}

/// `x scale[c] + shift[c]` of rows of C, then `max(x, 0)` if asked for.
fn affine(xs: &Tensor, scale: u64, shift: u64, c: usize, cut: bool) -> Result<Output> {
    let y = Output::new(&device(xs)?, xs.shape(), xs.dtype())?;
    affine_at(y.at, xs, scale, shift, c, cut)?;
    Ok(y)
}

/// The same, to an address, which may be that of `xs`.
fn affine_at(y: u64, xs: &Tensor, scale: u64, shift: u64, c: usize, cut: bool) -> Result<()> {
    launch!(
        &device(xs)?,
        NORM,
        format!("affine_{}", suffix(xs.dtype())?),
        loop_grid(xs.elem_count().div_ceil(4))?,
        [y, open(xs)?.at, scale, shift, xs.elem_count() as u64, int(c)?, i32::from(cut)]
    );
    Ok(())
}

/// As [`channels_affine`], of a map that nobody else reads: in its place where its channels are last.
pub(crate) fn channels_affine_of(
    map: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    cut: bool,
) -> Result<Tensor> {
    let Some(last) = behind(map)? else { return channels_affine(map, scale, shift, cut) };
    affine_at(open(&last)?.at, &last, open(scale)?.at, open(shift)?.at, map.dim(1)?, cut)?;
    map_of(&last)
}

/// A map times `scale[c]` plus `shift[c]`, f32 `(C)` both, neither with a gradient; then `max(x, 0)` if asked for.
pub(crate) fn channels_affine(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    cut: bool,
) -> Result<Tensor> {
    if let Some(last) = behind(xs)? {
        let c = xs.dim(1)?;
        return map_of(&affine(&last, open(scale)?.at, open(shift)?.at, c, cut)?.tensor());
    }
    let ys = elementwise::channel_affine(xs, Some(scale), Some(shift))?;
    if cut { relu(&ys) } else { Ok(ys) }
}

/// Normalised by the given statistics of this very batch, whose gradient is part of the result's; then `max(x, 0)` if asked
/// for.
pub(crate) fn batch_norm(
    xs: &Tensor,
    [mean, var]: [&Tensor; 2],
    [weight, bias]: [&Tensor; 2],
    eps: f64,
    cut: bool,
) -> Result<Tensor> {
    if let Some(last) = behind(xs)? {
        return map_of(&of_columns(&last, [mean, var], [weight, bias], eps as f32, cut)?);
    }
    let ys = of_planes(xs, mean, var, weight, bias, eps)?;
    if cut { relu(&ys) } else { Ok(ys) }
}

/// Of `(B, h, w, C)`.
fn of_columns(
    xs: &Tensor,
    [mean, var]: [&Tensor; 2],
    [weight, bias]: [&Tensor; 2],
    eps: f32,
    cut: bool,
) -> Result<Tensor> {
    let (weight, bias) = (f32_of(weight)?, f32_of(bias)?);
    let (mean, var) = (mean.detach().contiguous()?, var.detach().contiguous()?);
    let (dev, s, c) = (device(xs)?, suffix(xs.dtype())?, xs.dim(3)?);
    let (scale, shift) = scale_and_shift(&dev, [&mean, &var, &weight, &bias], eps)?;
    let (value, shape) = affine(xs, scale.at, shift.at, c, cut)?.value();
    let (xd, scale, shift) = (xs.detach(), scale.tensor(), shift.tensor());
    let backward = move |grad: &Tensor| {
        let (g, x) = (open(grad)?, open(&xd)?);
        let (m, v, sc, sh) = (open(&mean)?, open(&var)?, open(&scale)?, open(&shift)?);
        let (n, cut) = (xd.elem_count(), i32::from(cut));
        let rows = n / c;
        let (count, per) = chunks(rows, c);
        let part = Output::new(&dev, (count, 2 * c), DType::F32)?;
        launch!(
            &dev,
            NORM,
            format!("affine_back_part_{s}"),
            grid((strips(c), count, 1), (32, 8))?,
            [
                part.at,
                x.at,
                g.at,
                m.at,
                v.at,
                sc.at,
                sh.at,
                rows as u64,
                int(c)?,
                per as u64,
                eps,
                cut,
            ]
        );
        let sums = sum_of_parts(part)?;
        let d = Output::new(&dev, xd.shape(), xd.dtype())?;
        launch!(
            &dev,
            NORM,
            format!("affine_dx_{s}"),
            loop_grid(n.div_ceil(4))?,
            [
                d.at,
                x.at,
                g.at,
                m.at,
                v.at,
                sc.at,
                sh.at,
                open(&sums)?.at,
                n as u64,
                int(c)?,
                rows as f32,
                eps,
                cut,
            ]
        );
        Ok(vec![d.tensor(), sums.narrow(0, c, c)?, sums.narrow(0, 0, c)?])
    };
    attach_storage("batch-norm", &[xs, &weight, &bias], value, shape, backward)
}

/// Of `(B, C, h, w)`.
fn of_planes(
    xs: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (xs, weight, bias) = (whole(xs)?, f32_of(weight)?, f32_of(bias)?);
    let (b, c, h, w) = xs.dims4()?;
    let (cells, eps) = (h * w, eps as f32);
    let (dev, s) = (device(&xs)?, suffix(xs.dtype())?);
    let (mean, var) = (mean.detach(), var.detach());
    let (scale, shift) = scale_and_shift(&dev, [&mean, &var, &weight, &bias], eps)?;
    let y = elementwise::affine(&xs, Some(&scale.tensor()), Some(&shift.tensor()))?;
    let (xd, wd) = (xs.detach(), weight.detach());
    let backward = move |grad: &Tensor| {
        let (g, x, w) = (open(grad)?, open(&xd)?, open(&wd)?);
        let (m, v) = (open(&mean)?, open(&var)?);
        let part = Output::new(&dev, (b, c, 2), DType::F32)?;
        launch!(
            &dev,
            NORM,
            format!("batch_back_part_{s}"),
            grid((b * c, 1, 1), (256, 1))?,
            [part.at, x.at, g.at, m.at, v.at, int(c)?, int(cells)?, eps]
        );
        let dw = Output::new(&dev, c, DType::F32)?;
        let db = Output::new(&dev, c, DType::F32)?;
        launch!(
            &dev,
            NORM,
            "batch_back_stat_f32",
            loop_grid(c)?,
            [dw.at, db.at, part.at, int(b)?, int(c)?]
        );
        let d = Output::new(&dev, xd.shape(), xd.dtype())?;
        launch!(
            &dev,
            NORM,
            format!("batch_dx_{s}"),
            grid((b * c, 1, 1), (256, 1))?,
            [
                d.at,
                x.at,
                g.at,
                m.at,
                v.at,
                w.at,
                dw.at,
                db.at,
                int(c)?,
                int(cells)?,
                (b * cells) as f32,
                eps,
            ]
        );
        Ok(vec![d.tensor(), dw.tensor(), db.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage("batch-norm", &[&xs, &weight, &bias], value, shape, backward)
}
