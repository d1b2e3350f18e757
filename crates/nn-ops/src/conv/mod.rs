//! 2-D convolution with any stride, padding and kernel, on odd sizes too.
//!
//! Candle's backward errs when stride > 1 leaves a remainder, and is several times slower than a GEMM. Here the CPU kernel
//! unfolds tiles of output rows and multiplies; other devices crop the padded input to what the kernel touches, for which
//! Candle's own convolution is right.

mod image;

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use crate::kernel::{self, Plan, Threads, dispatch};
use crate::linear::default_init;
pub(crate) use image::Geometry;
use image::{forward_image, input_gradient_image, weight_gradient_image};

/// Stride, zero padding (rows, columns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step between outputs, both axes.
    pub stride: usize,
    /// Zeros added on both ends of each axis (rows, columns).
    pub padding: (usize, usize),
}

impl Conv2dConfig {
    /// Stride and equal padding on both axes.
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride, padding: (padding, padding) }
    }
}

/// 2-D cross-correlation: `(B, Cin, h, w)`, weight `(Cout, Cin, kh, kw)`, bias `(Cout)` to `(B, Cout, h', w')`.
///
/// # Errors
/// When the channels differ or the kernel is larger than the padded map.
pub fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
) -> Result<Tensor> {
    let g = Geometry::of(xs, weight, cfg)?;
    if let Some(b) = bias
        && b.dims() != [g.c_out]
    {
        bail!("conv2d: bias {:?} for weight {:?}", b.dims(), weight.dims());
    }
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, weight, bias, g),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            let bias = bias.map(|b| b.to_dtype(f32)).transpose()?;
            conv2d(&xs.to_dtype(f32)?, &weight.to_dtype(f32)?, bias.as_ref(), cfg)?
                .to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::conv2d(xs, weight, bias, g),
        Plan::Composed => composed(xs, weight, bias, cfg),
    }
}

/// Padding, a crop to what the kernel touches, then Candle's convolution without padding: the oracle of the kernel, and
/// the path of other devices.
#[allow(clippy::disallowed_methods)] // the crop leaves no remainder, the only case Candle's backward refuses
pub(crate) fn composed(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
) -> Result<Tensor> {
    let g = Geometry::of(xs, weight, cfg)?;
    let mut xs = xs.contiguous()?;
    if g.ph > 0 {
        xs = xs.pad_with_zeros(2, g.ph, g.ph)?;
    }
    if g.pw > 0 {
        xs = xs.pad_with_zeros(3, g.pw, g.pw)?;
    }
    let xs = xs
        .narrow(2, 0, (g.ho - 1) * g.stride + g.kh)?
        .narrow(3, 0, (g.wo - 1) * g.stride + g.kw)?
        .contiguous()?;
    let ys = xs.conv2d(&weight.contiguous()?, 0, g.stride, 1, 1)?;
    match bias {
        Some(b) => ys.broadcast_add(&b.reshape((1, g.c_out, 1, 1))?),
        None => Ok(ys),
    }
}

fn fused(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, g: Geometry) -> Result<Tensor> {
    let (xs, weight) = (xs.contiguous()?, weight.contiguous()?);
    let bias = bias.map(|b| b.contiguous()).transpose()?;
    let (in_size, out_size) = (g.c_in * g.h * g.w, g.c_out * g.ho * g.wo);
    // Many images: one a thread. Few: all threads inside each. The split of the weight gradient is fixed by the batch.
    let spread = g.b >= 2 * rayon::current_num_threads();
    dispatch!(xs.dtype(), T => {
        let mut ys = vec![T::default(); g.b * out_size];
        {
            let (x, w) = (kernel::read(&xs)?, kernel::read(&weight)?);
            let (x, w) = (x.slice::<T>()?, w.slice::<T>()?);
            let b = bias.as_ref().map(kernel::read).transpose()?;
            let b = b.as_ref().map(|b| b.slice::<T>()).transpose()?;
            let image = |i: usize| &x[i * in_size..(i + 1) * in_size];
            if spread {
                kernel::par_chunks(&mut ys, out_size, |i, y| forward_image(&g, image(i), w, b, y, Threads::One));
            } else {
                for (i, y) in ys.chunks_exact_mut(out_size).enumerate() {
                    forward_image(&g, image(i), w, b, y, Threads::All);
                }
            }
        }
        let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
        let (need_x, need_w) = (xs.track_op(), weight.track_op());
        let backward = move |_: &Tensor, grad: &Tensor| {
            let (dy, x, w) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (dy, x, w) = (dy.slice::<T>()?, x.slice::<T>()?, w.slice::<T>()?);
            let image = |i: usize| &x[i * in_size..(i + 1) * in_size];
            let above = |i: usize| &dy[i * out_size..(i + 1) * out_size];
            let dx = if need_x {
                let mut dx = vec![T::default(); g.b * in_size];
                if spread {
                    kernel::par_chunks(&mut dx, in_size, |i, d| {
                        input_gradient_image(&g, w, above(i), d, Threads::One);
                    });
                } else {
                    for (i, d) in dx.chunks_exact_mut(in_size).enumerate() {
                        input_gradient_image(&g, w, above(i), d, Threads::All);
                    }
                }
                kernel::from_vec(dx, xd.shape())?
            } else { xd.clone() };
            let dw = if need_w {
                let len = g.c_out * g.patch();
                let dw = if g.b >= 4 {
                    kernel::par_sum::<T, _>(g.b, len, usize::MAX / (2 * g.b), |range, acc| {
                        for i in range {
                            weight_gradient_image(&g, image(i), above(i), acc, Threads::One);
                        }
                    })
                } else {
                    let mut dw = vec![T::default(); len];
                    for i in 0..g.b {
                        weight_gradient_image(&g, image(i), above(i), &mut dw, Threads::All);
                    }
                    dw
                };
                kernel::from_vec(dw, wd.shape())?
            } else { wd.clone() };
            let mut found = vec![dx, dw];
            if has_bias {
                let cells = g.ho * g.wo;
                let mut db = vec![T::default(); g.c_out];
                for (i, plane) in dy.chunks_exact(cells).enumerate() {
                    db[i % g.c_out] += crate::norm::sum(plane);
                }
                found.push(kernel::from_vec(db, g.c_out)?);
            }
            Ok(found)
        };
        let shape = (g.b, g.c_out, g.ho, g.wo);
        match &bias {
            Some(b) => kernel::attach("conv2d", &[&xs, &weight, b], ys, shape, backward),
            None => kernel::attach("conv2d", &[&xs, &weight], ys, shape, backward),
        }
    })
}

/// A 2-D convolution layer.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    cfg: Conv2dConfig,
}

impl Conv2d {
    /// From tensors: weight `(Cout, Cin, kh, kw)`, bias `(Cout)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, cfg: Conv2dConfig) -> Self {
        Self { weight, bias, cfg }
    }

    /// `(B, Cin, h, w)` to `(B, Cout, h', w')`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        conv2d(xs, &self.weight, self.bias.as_ref(), self.cfg)
    }
}

/// A square convolution with bias, keys `weight` and `bias`.
pub fn conv2d_layer(
    c_in: usize,
    c_out: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let init = default_init(c_in * kernel * kernel);
    let weight = vb.get_with_hints((c_out, c_in, kernel, kernel), "weight", init)?;
    Ok(Conv2d { weight, bias: Some(vb.get_with_hints(c_out, "bias", init)?), cfg })
}

/// A square convolution without bias, key `weight`.
pub fn conv2d_no_bias(
    c_in: usize,
    c_out: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let init = default_init(c_in * kernel * kernel);
    let weight = vb.get_with_hints((c_out, c_in, kernel, kernel), "weight", init)?;
    Ok(Conv2d { weight, bias: None, cfg })
}

#[cfg(test)]
mod tests;
