//! Convolution: through cuDNN with the feature `cudnn`, else unfolded columns and cuBLAS. Forward and both gradients.

use candle_core::{Result, Tensor};

use super::norm::channel_sums;
use super::{ELEMENTWISE, device, f32_of, int, launch, loop_grid, open, suffix};
use crate::conv::Geometry;
use crate::kernel::attach_storage;

#[cfg(not(feature = "cudnn"))]
use super::columns as engine;
#[cfg(feature = "cudnn")]
use super::cudnn as engine;

/// As [`crate::conv2d`], on checked sizes. The weight is cast to the type of `xs`, the bias added in f32.
pub(crate) fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    g: Geometry,
) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let weight = weight.to_dtype(xs.dtype())?.contiguous()?;
    let bias = bias.map(f32_of).transpose()?;
    let y = engine::forward(&g, &xs, &weight)?;
    if let Some(b) = &bias {
        let (dev, n, cells) = (device(&xs)?, g.b * g.c_out * g.ho * g.wo, g.ho * g.wo);
        launch!(
            &dev,
            ELEMENTWISE,
            format!("channels_{}", suffix(xs.dtype())?),
            loop_grid(n.div_ceil(4))?,
            [y.at, y.at, 0u64, open(b)?.at, n as u64, int(g.c_out)?, int(cells)?]
        );
    }
    let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
    let (need_x, need_w) = (xs.track_op(), weight.track_op());
    let backward = move |_: &Tensor, grad: &Tensor| {
        let dx = if need_x { engine::input_gradient(&g, &wd, grad)? } else { xd.clone() };
        let dw = if need_w { engine::weight_gradient(&g, &xd, grad)? } else { wd.clone() };
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
