//! Convolution of maps with their channels last, bf16 through cuDNN, whose tensor cores take them as they are.

use candle_core::{DType, Result, Tensor};

use super::cudnn::{self, Order};
use super::elementwise::add_bias;
use super::layout::{behind, map_of};
use super::norm::column_sums;
use super::take::turned;
use super::{f32_of, linear, whole};
use crate::conv::Geometry;
use crate::kernel::{attach_storage, cast};

/// As [`crate::conv2d`], on checked sizes; none for other maps.
pub(super) fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    g: Geometry,
) -> Result<Option<Tensor>> {
    if !fits_tensor_cores(&g, xs.dtype()) {
        return Ok(None);
    }
    match behind(xs)? {
        Some(last) => map_of(&of_last(&last, weight, bias, g)?).map(Some),
        None => Ok(None),
    }
}

fn fits_tensor_cores(g: &Geometry, dtype: DType) -> bool {
    dtype == DType::BF16
        && (g.is_pointwise() || (g.c_in.is_multiple_of(8) && g.c_out.is_multiple_of(8)))
}

/// Of `(B, h, w, Cin)`, to `(B, h', w', Cout)`.
fn of_last(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, g: Geometry) -> Result<Tensor> {
    if g.is_pointwise() {
        return linear(xs, &crate::reshape(weight, (g.c_out, g.c_in))?, bias);
    }
    let weight = whole(weight)?;
    let bias = bias.map(f32_of).transpose()?;
    let (dtype, window) = (xs.dtype(), g.kh * g.kw);
    // `(Cout, kh, kw, Cin)`.
    let cast = cast(&weight, dtype)?.reshape((g.c_out, g.c_in, window))?;
    let last = turned(&cast)?.tensor();
    drop(cast);
    let y = cudnn::forward_in(Order::Last, &g, xs, &last)?;
    if let Some(b) = &bias {
        add_bias(&y, y.at, b, g.c_out)?;
    }
    let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
    let (need_x, need_w) = (xs.track_op(), weight.track_op());
    let backward = move |grad: &Tensor| {
        let dx = if need_x {
            cudnn::input_gradient_in(Order::Last, &g, &last, grad)?
        } else {
            xd.clone()
        };
        let dw = if need_w {
            let dw = cudnn::weight_gradient_in(Order::Last, &g, &xd, grad)?;
            let dw = turned(&dw.reshape((g.c_out, window, g.c_in))?)?.tensor();
            dw.reshape(wd.shape())?.to_dtype(wd.dtype())?
        } else {
            wd.clone()
        };
        let mut found = vec![dx, dw];
        if has_bias {
            found.push(column_sums(&grad.reshape(((), g.c_out))?, 1.0)?);
        }
        Ok(found)
    };
    let (value, shape) = y.value();
    match &bias {
        Some(b) => attach_storage("conv2d", &[xs, &weight, b], value, shape, backward),
        None => attach_storage("conv2d", &[xs, &weight], value, shape, backward),
    }
}
