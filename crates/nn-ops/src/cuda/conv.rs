//! Convolution: kernel-1 through cuBLAS, others through cuDNN with the feature `cudnn`, else unfolded columns and cuBLAS.
//! Forward and both gradients. With cuDNN maps keep the layout they come in.

use candle_core::{DType, Result, Tensor};

#[cfg(not(feature = "cudnn"))]
use super::columns as engine;
#[cfg(feature = "cudnn")]
use super::conv_last;
#[cfg(feature = "cudnn")]
use super::cudnn as engine;
use super::gemm::{Operand, product};
use super::norm::{channel_sums, column_sums};
use super::{ELEMENTWISE, Output, device, f32_of, int, launch, loop_grid, open, suffix, whole};
use crate::conv::Geometry;
use crate::kernel::attach_storage;

/// As [`crate::conv2d`], on checked sizes. The weight is cast to the type of `xs`, the bias added in f32.
pub(crate) fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    g: Geometry,
) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if let Some(map) = conv_last::conv2d(xs, weight, bias, g)? {
        return Ok(map);
    }
    let xs = whole(xs)?;
    let weight = whole(weight)?;
    let bias = bias.map(f32_of).transpose()?;
    let dtype = xs.dtype();
    let y = forward(&g, &xs, &weight.detach().to_dtype(dtype)?)?;
    if let Some(b) = &bias {
        let (dev, n, cells) = (device(&xs)?, g.b * g.c_out * g.ho * g.wo, g.ho * g.wo);
        launch!(
            &dev,
            ELEMENTWISE,
            format!("channels_{}", suffix(dtype)?),
            loop_grid(n.div_ceil(4))?,
            [y.at, y.at, 0u64, open(b)?.at, n as u64, int(g.c_out)?, int(cells)?]
        );
    }
    let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
    let (need_x, need_w) = (xs.track_op(), weight.track_op());
    let backward = move |grad: &Tensor| {
        let dx = if need_x { input_gradient(&g, &wd.to_dtype(dtype)?, grad)? } else { xd.clone() };
        let dw =
            if need_w { weight_gradient(&g, &xd, grad)?.to_dtype(wd.dtype())? } else { wd.clone() };
        let mut found = vec![dx, dw];
        if has_bias {
            found.push(channel_sums(grad)?);
        }
        Ok(found)
    };
    let (value, shape) = y.value();
    match &bias {
        Some(b) => attach_storage("conv2d", &[&xs, &weight, b], value, shape, backward),
        None => attach_storage("conv2d", &[&xs, &weight], value, shape, backward),
    }
}

/// Weight `(Cout, Cin)` and maps `(B, C, cells)` of a kernel-1 convolution, as operands.
fn weight_of<'a>(g: &Geometry, weight: &'a Tensor) -> Operand<'a> {
    Operand::new(weight, (1, g.c_out, g.c_in))
}

fn forward(g: &Geometry, xs: &Tensor, weight: &Tensor) -> Result<Output> {
    if !g.is_pointwise() {
        return engine::forward(g, xs, weight);
    }
    let x = Operand::new(xs, (g.b, g.c_in, g.h * g.w));
    product(weight_of(g, weight), x, (g.b, g.c_out, g.ho, g.wo), xs.dtype())
}

fn input_gradient(g: &Geometry, weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if !g.is_pointwise() {
        return engine::input_gradient(g, weight, dy);
    }
    let dy_ = Operand::new(dy, (g.b, g.c_out, g.ho * g.wo));
    Ok(product(weight_of(g, weight).t(), dy_, (g.b, g.c_in, g.h, g.w), dy.dtype())?.tensor())
}

fn weight_gradient(g: &Geometry, xs: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if !g.is_pointwise() {
        return engine::weight_gradient(g, xs, dy);
    }
    // One product an image, summed in f32.
    let dy = Operand::new(dy, (g.b, g.c_out, g.ho * g.wo));
    let x = Operand::new(xs, (g.b, g.c_in, g.h * g.w));
    let parts = product(dy, x.t(), (g.b, g.c_out * g.c_in), DType::F32)?.tensor();
    column_sums(&parts, 1.0)?.reshape((g.c_out, g.c_in, 1, 1))
}
