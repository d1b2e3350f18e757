//! Activations, sums and products, channel-wise affine maps and dropout.

use candle_core::{DType, Device, Result, Tensor};

use super::layout::{behind, map_of};
use super::norm::column_sums;
use super::{ELEMENTWISE, Output, device, f32_of, int, launch, loop_grid, open, suffix, whole};
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

/// The hyperbolic tangent.
pub(crate) fn tanh(xs: &Tensor) -> Result<Tensor> {
    pair("tanh", xs)
}

fn pair(name: &'static str, xs: &Tensor) -> Result<Tensor> {
    if let Some(last) = behind(xs)? {
        return map_of(&pair(name, &last)?);
    }
    let xs = whole(xs)?;
    let y = Output::new(&device(&xs)?, xs.shape(), xs.dtype())?;
    put_value(name, &y, open(&xs)?.at)?;
    let xd = xs.detach();
    let backward = move |grad: &Tensor| Ok(vec![slope(name, &xd, grad)?.tensor()]);
    let (value, shape) = y.value();
    attach_storage(name, &[&xs], value, shape, backward)
}

/// The function's values of what lies at `x`, which may be `y`.
fn put_value(name: &str, y: &Output, x: u64) -> Result<()> {
    let n = y.len();
    launch!(
        &y.storage.device,
        ELEMENTWISE,
        format!("{name}_{}", suffix(y.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [y.at, x, n as u64]
    );
    Ok(())
}

/// The gradient times the slope at `xs`.
fn slope(name: &str, xs: &Tensor, grad: &Tensor) -> Result<Output> {
    let (dev, n) = (device(xs)?, xs.elem_count());
    let d = Output::new(&dev, xs.shape(), xs.dtype())?;
    launch!(
        &dev,
        ELEMENTWISE,
        format!("{name}_back_{}", suffix(xs.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [d.at, open(xs)?.at, open(grad)?.at, n as u64]
    );
    Ok(d)
}

/// `max(x, 0)` in the place of `x`.
pub(super) fn relu_at(x: Output) -> Result<Output> {
    put_value("relu", &x, x.at)?;
    Ok(x)
}

/// The gradient that `max(x, 0)` lets through, by its result, which is above 0 where `x` is.
pub(super) fn relu_back(y: &Tensor, grad: &Tensor) -> Result<Output> {
    slope("relu", y, grad)
}

/// `(B, C, cells..)` times `scale[c]` plus `shift[c]`, both f32 of length C, neither with a gradient.
pub(super) fn channel_affine(
    xs: &Tensor,
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
) -> Result<Tensor> {
    Ok(affine(&whole(xs)?, scale, shift)?.tensor())
}

pub(super) fn affine(
    xs: &Tensor,
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
) -> Result<Output> {
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

/// Equal parts of `xs`, one after another, each times its number in `factors`, which are constants.
pub(crate) fn scale_parts(name: &'static str, xs: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let xs = whole(xs)?;
    let factors = f32_of(&factors.detach())?;
    let apply = move |xs: &Tensor| {
        let (parts, n) = (factors.elem_count(), xs.elem_count());
        affine(&xs.reshape((1, parts, n / parts.max(1)))?, Some(&factors), None)
    };
    let (value, _) = apply(&xs.detach())?.value();
    let shape = xs.shape().clone();
    let backward = move |grad: &Tensor| Ok(vec![apply(grad)?.tensor().reshape(grad.shape())?]);
    attach_storage(name, &[&xs], value, shape, backward)
}

/// `a b` of one shape and type.
pub(crate) fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (whole(a)?, whole(b)?);
    let product = |a: &Tensor, b: &Tensor| {
        let (dev, n) = (device(a)?, a.elem_count());
        let y = Output::new(&dev, a.shape(), a.dtype())?;
        launch!(
            &dev,
            ELEMENTWISE,
            format!("mul_{}", suffix(a.dtype())?),
            loop_grid(n.div_ceil(4))?,
            [y.at, open(a)?.at, open(b)?.at, n as u64]
        );
        Ok::<_, candle_core::Error>(y)
    };
    let (value, shape) = product(&a, &b)?.value();
    let (ad, bd, needed) = (a.detach(), b.detach(), [a.track_op(), b.track_op()]);
    let backward = move |grad: &Tensor| {
        let times = |needed: bool, other: &Tensor| match needed {
            true => product(grad, other).map(Output::tensor),
            false => Ok(grad.clone()),
        };
        Ok(vec![times(needed[0], &bd)?, times(needed[1], &ad)?])
    };
    attach_storage("mul", &[&a, &b], value, shape, backward)
}

/// `xs` `(B, ..)` plus `part` `(..)`, the same for every sample, added in f32.
pub(crate) fn add_repeated(xs: &Tensor, part: &Tensor) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (dtype, of_part) = (part.dtype(), part.shape().clone());
    let each = of_part.elem_count();
    let y = Output::new(&device(&xs)?, xs.shape(), xs.dtype())?;
    add_bias(&y, open(&xs)?.at, &f32_of(part)?, each)?;
    let backward = move |grad: &Tensor| {
        let sums = column_sums(&grad.reshape(((), each))?, 1.0)?;
        Ok(vec![grad.clone(), sums.reshape(&of_part)?.to_dtype(dtype)?])
    };
    let (value, shape) = y.value();
    attach_storage("add-repeated", &[&xs, part], value, shape, backward)
}

/// `y = x + bias`, rows of `columns`; `x` may be `y`. The bias is f32.
pub(super) fn add_bias(y: &Output, x: u64, bias: &Tensor, columns: usize) -> Result<()> {
    let n = y.len();
    launch!(
        &y.storage.device,
        ELEMENTWISE,
        format!("bias_{}", suffix(y.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [y.at, x, open(bias)?.at, n as u64, int(columns)?]
    );
    Ok(())
}

/// `gelu(x + bias)`, rows of `columns`. The bias is f32.
pub(super) fn gelu_of_sum(x: &Tensor, bias: &Tensor, columns: usize) -> Result<Output> {
    let y = Output::new(&device(x)?, x.shape(), x.dtype())?;
    put_gelu_of_sum(&y, open(x)?.at, bias, columns)?;
    Ok(y)
}

/// The same, in the place of `x`.
pub(super) fn gelu_of_sum_at(x: Output, bias: &Tensor, columns: usize) -> Result<Output> {
    put_gelu_of_sum(&x, x.at, bias, columns)?;
    Ok(x)
}

fn put_gelu_of_sum(y: &Output, x: u64, bias: &Tensor, columns: usize) -> Result<()> {
    let n = y.len();
    launch!(
        &y.storage.device,
        ELEMENTWISE,
        format!("gelu_bias_{}", suffix(y.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [y.at, x, open(bias)?.at, n as u64, int(columns)?]
    );
    Ok(())
}

/// Its gradient with respect to the sum.
pub(super) fn gelu_of_sum_back(
    x: &Tensor,
    bias: &Tensor,
    columns: usize,
    grad: &Tensor,
) -> Result<Output> {
    let (dev, n) = (device(x)?, x.elem_count());
    let d = Output::new(&dev, x.shape(), x.dtype())?;
    launch!(
        &dev,
        ELEMENTWISE,
        format!("gelu_bias_back_{}", suffix(x.dtype())?),
        loop_grid(n.div_ceil(4))?,
        [d.at, open(x)?.at, open(grad)?.at, open(bias)?.at, n as u64, int(columns)?]
    );
    Ok(d)
}

/// `Σ w_r x_r`, summed in f32.
pub(crate) fn weighted_sum(xs: &[Tensor], weights: &Tensor) -> Result<Tensor> {
    let weights = f32_of(weights)?;
    let mut total = None;
    for (r, x) in xs.iter().enumerate() {
        total = Some(add_weighted(total, x, &weights, r, r + 1 == xs.len())?);
    }
    match total {
        Some(total) => Ok(total),
        None => candle_core::bail!("weighted_sum: of nothing"),
    }
}

/// Blocks that add up products for the gradient of a weight.
const BLOCKS: usize = 256;

/// `base + w_r x`, or without a base. Sums are f32 until the last, which has the type of `x`.
fn add_weighted(
    base: Option<Tensor>,
    x: &Tensor,
    weights: &Tensor,
    r: usize,
    last: bool,
) -> Result<Tensor> {
    let x = whole(x)?;
    let base = base.map(|b| whole(&b)).transpose()?;
    let (dev, n, count) = (device(&x)?, x.elem_count(), weights.elem_count());
    let dtype = if last { x.dtype() } else { candle_core::DType::F32 };
    let s = suffix(x.dtype())?;
    let y = Output::new(&dev, x.shape(), dtype)?;
    // What is not there is at address 0.
    let places = move |at: u64| if last { (0, at) } else { (at, 0) };
    {
        let from = base.as_ref().map(open).transpose()?;
        let (wide, y) = places(y.at);
        launch!(
            &dev,
            ELEMENTWISE,
            format!("weigh_{s}"),
            loop_grid(n)?,
            [
                wide,
                y,
                from.as_ref().map_or(0u64, |t| t.at),
                open(&x)?.at,
                open(weights)?.at,
                int(r)?,
                n as u64,
            ]
        );
    }
    let (xd, wd, with_base) = (x.detach(), weights.detach(), base.is_some());
    let backward = move |grad: &Tensor| {
        let (wide, g) = places(open(grad)?.at);
        let dx = Output::new(&dev, xd.shape(), xd.dtype())?;
        let blocks = n.div_ceil(1024).min(BLOCKS);
        let part = Output::new(&dev, blocks, candle_core::DType::F32)?;
        launch!(
            &dev,
            ELEMENTWISE,
            format!("weigh_back_{s}"),
            super::grid((blocks, 1, 1), (256, 1))?,
            [dx.at, part.at, wide, g, open(&xd)?.at, open(&wd)?.at, int(r)?, n as u64]
        );
        let dw = Output::new(&dev, count, candle_core::DType::F32)?;
        launch!(
            &dev,
            ELEMENTWISE,
            "weigh_sum",
            super::grid((1, 1, 1), (256, 1))?,
            [dw.at, part.at, int(blocks)?, int(r)?, int(count)?]
        );
        let mut found = vec![dx.tensor(), dw.tensor()];
        if with_base {
            found.push(grad.to_dtype(candle_core::DType::F32)?);
        }
        Ok(found)
    };
    let (value, shape) = y.value();
    match &base {
        Some(base) => attach_storage("weigh", &[&x, weights, base], value, shape, backward),
        None => attach_storage("weigh", &[&x, weights], value, shape, backward),
    }
}

/// `xs + branch * scale`, one f32 factor a sample, a constant; none: 1.
pub(crate) fn add_scaled(xs: &Tensor, branch: &Tensor, scale: Option<Tensor>) -> Result<Tensor> {
    if let (Some(xs), Some(branch)) = (behind(xs)?, behind(branch)?) {
        return map_of(&add_scaled(&xs, &branch, scale)?);
    }
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
    let backward = move |grad: &Tensor| {
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
    let Drawn { key, at, threshold, scale } = drawn;
    let xs = whole(xs)?;
    let apply = move |xs: &Tensor| {
        let (dev, n) = (device(xs)?, xs.elem_count());
        let y = Output::new(&dev, xs.shape(), xs.dtype())?;
        launch!(
            &dev,
            ELEMENTWISE,
            format!("dropout_{}", suffix(xs.dtype())?),
            loop_grid(n.div_ceil(4))?,
            [
                y.at,
                open(xs)?.at,
                n as u64,
                0u64,
                key as u32,
                (key >> 32) as u32,
                at,
                threshold,
                scale
            ]
        );
        Ok(y)
    };
    let (value, shape) = apply(&xs)?.value();
    let backward = move |grad: &Tensor| Ok(vec![apply(grad)?.tensor()]);
    attach_storage("dropout", &[&xs], value, shape, backward)
}

/// What stochastic depth multiplies each of `n` samples by, f32 `(n)`.
pub(crate) fn kept_samples(n: usize, device: &Device, drawn: Drawn) -> Result<Tensor> {
    dropout(&Tensor::ones(n, DType::F32, device)?, drawn)
}
