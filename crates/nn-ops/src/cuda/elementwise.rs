//! Activations, channel-wise affine maps and dropout.

use candle_core::{Result, Tensor};

use super::{ELEMENTWISE, Output, device, int, launch, loop_grid, open, suffix, whole};
use crate::dropout::Drawn;
use crate::kernel::attach_storage;

/// Exact GELU.
pub(crate) fn gelu(xs: &Tensor) -> Result<Tensor> {
    pair("gelu", xs)
}

/// ReLU with slope 0 at 0.
pub(crate) fn relu(xs: &Tensor) -> Result<Tensor> {
    pair("relu", xs)
}

fn pair(name: &'static str, xs: &Tensor) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (dev, s, n) = (device(&xs)?, suffix(xs.dtype())?, xs.elem_count());
    let y = Output::new(&dev, xs.shape(), xs.dtype())?;
    launch!(
        &dev,
        ELEMENTWISE,
        format!("{name}_{s}"),
        loop_grid(n.div_ceil(4))?,
        [y.at, open(&xs)?.at, n as u64]
    );
    let xd = xs.detach();
    let backward = move |_: &Tensor, grad: &Tensor| {
        let d = Output::new(&dev, xd.shape(), xd.dtype())?;
        launch!(
            &dev,
            ELEMENTWISE,
            format!("{name}_back_{s}"),
            loop_grid(n.div_ceil(4))?,
            [d.at, open(&xd)?.at, open(grad)?.at, n as u64]
        );
        Ok(vec![d.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage(name, &[&xs], value, shape, backward)
}

/// `(B, C, cells..)` times `scale[c]` plus `shift[c]`, both f32 of length C, neither with a gradient.
pub(crate) fn channel_affine(
    xs: &Tensor,
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
) -> Result<Tensor> {
    Ok(affine(&whole(xs)?, scale, shift)?.tensor())
}

fn affine(xs: &Tensor, scale: Option<&Tensor>, shift: Option<&Tensor>) -> Result<Output> {
    let dev = device(xs)?;
    let (n, c) = (xs.elem_count(), xs.dim(1)?);
    let cells: usize = xs.dims()[2..].iter().product();
    let y = Output::new(&dev, xs.shape(), xs.dtype())?;
    let scale = scale.map(open).transpose()?;
    let shift = shift.map(open).transpose()?;
    launch!(
        &dev,
        ELEMENTWISE,
        format!("channels_{}", suffix(xs.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [
            y.at,
            open(xs)?.at,
            scale.as_ref().map_or(0u64, |t| t.at),
            shift.as_ref().map_or(0u64, |t| t.at),
            n as u64,
            int(c)?,
            int(cells)?,
        ]
    );
    Ok(y)
}

/// Each sample (first dimension) times its entry of `scale`, f32 `(B)`, a constant.
pub(crate) fn scale_samples(xs: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let xs = whole(xs)?;
    let scale = super::f32_of(&scale.detach())?;
    let shape = xs.shape().clone();
    let apply = move |xs: &Tensor| {
        let (b, n) = (xs.dim(0)?, xs.elem_count());
        affine(&xs.reshape((1, b, n / b.max(1)))?, Some(&scale), None)
    };
    let (value, _) = apply(&xs.detach())?.value();
    let backward =
        move |_: &Tensor, grad: &Tensor| Ok(vec![apply(grad)?.tensor().reshape(grad.shape())?]);
    attach_storage("drop-path", &[&xs], value, shape, backward)
}

/// `xs + branch * scale`, one f32 factor a sample, a constant; none: 1.
pub(crate) fn add_scaled(xs: &Tensor, branch: &Tensor, scale: Option<Tensor>) -> Result<Tensor> {
    let (xs, branch) = (whole(xs)?, whole(branch)?);
    let (dev, n) = (device(&xs)?, xs.elem_count());
    let each = n / xs.dim(0)?.max(1);
    let y = Output::new(&dev, xs.shape(), xs.dtype())?;
    let factors = scale.as_ref().map(open).transpose()?;
    launch!(
        &dev,
        ELEMENTWISE,
        format!("add_{}", suffix(xs.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [
            y.at,
            open(&xs)?.at,
            open(&branch)?.at,
            factors.as_ref().map_or(0u64, |t| t.at),
            n as u64,
            each as u64,
        ]
    );
    drop(factors);
    let backward = move |_: &Tensor, grad: &Tensor| {
        let db = match &scale {
            None => grad.clone(),
            Some(scale) => {
                let flat = grad.reshape((1, n / each.max(1), each))?;
                affine(&flat, Some(scale), None)?.tensor().reshape(grad.shape())?
            }
        };
        Ok(vec![grad.clone(), db])
    };
    let (value, shape) = y.value();
    attach_storage("add", &[&xs, &branch], value, shape, backward)
}

/// Zeroes elements whose random word of `(key, index)` is below the threshold, multiplies the others by the scale.
pub(crate) fn dropout(xs: &Tensor, drawn: Drawn) -> Result<Tensor> {
    let Drawn { key, threshold, scale } = drawn;
    let xs = whole(xs)?;
    let apply = move |xs: &Tensor| {
        let (dev, n) = (device(xs)?, xs.elem_count());
        let y = Output::new(&dev, xs.shape(), xs.dtype())?;
        launch!(
            &dev,
            ELEMENTWISE,
            format!("dropout_{}", suffix(xs.dtype())?),
            loop_grid(n.div_ceil(4))?,
            [y.at, open(xs)?.at, n as u64, 0u64, key as u32, (key >> 32) as u32, threshold, scale]
        );
        Ok(y)
    };
    let (value, shape) = apply(&xs)?.value();
    let backward = move |_: &Tensor, grad: &Tensor| Ok(vec![apply(grad)?.tensor()]);
    attach_storage("dropout", &[&xs], value, shape, backward)
}
