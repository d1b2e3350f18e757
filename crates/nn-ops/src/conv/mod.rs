//! 2-D convolution with any stride, padding and kernel, on odd sizes too.
//!
//! Candle's backward errs when stride > 1 leaves a remainder, and is several times slower than a GEMM. Here the CPU kernel
//! multiplies panels filled from the maps (`direct`: stride 1), unfolds tiles of output rows (`image`), or saves three
//! quarters of the products (`winograd`: f32, 3x3, stride 1, 32 channels and 32 tiles or more); other devices crop the padded
//! input to what the kernel touches, for which Candle's own convolution is right.

mod direct;
mod image;
mod winograd;

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::VarBuilder;

use crate::activation::relu;
use crate::kernel::{self, Plan, Real, dispatch};
use crate::linear::default_init;
use crate::mode::Mode;
use crate::norm::BatchNorm2d;
pub(crate) use image::Geometry;
use winograd::Finish;

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

/// What follows a normalised convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// `max(x, 0)`.
    Relu,
}

impl After {
    pub(crate) fn apply(self, xs: Tensor) -> Result<Tensor> {
        match self {
            Self::Nothing => Ok(xs),
            Self::Relu => relu(&xs),
        }
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
            let f32 = DType::F32;
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
    let in_size = g.c_in * g.h * g.w;
    let quick = is_quick(&g, xs.dtype());
    dispatch!(xs.dtype(), T => {
        let ys = {
            let (x, w) = (kernel::read(&xs)?, kernel::read(&weight)?);
            let b = bias.as_ref().map(kernel::read).transpose()?;
            let b = b.as_ref().map(|b| b.slice::<T>()).transpose()?;
            let finish = |c: usize| Finish::shift(b.map_or(T::default(), |b| b[c]));
            values(&g, x.slice::<T>()?, w.slice::<T>()?, &finish)
        };
        let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
        let (need_x, need_w) = (xs.track_op(), weight.track_op());
        let backward = move |grad: &Tensor| {
            let (dy, x, w) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (dy, x, w) = (dy.slice::<T>()?, x.slice::<T>()?, w.slice::<T>()?);
            let dx = if need_x {
                let mut dx = kernel::zeros::<T>(g.b * in_size);
                if quick {
                    winograd::input_gradient(&g, w, dy, &mut dx);
                } else if direct::fits(&g) {
                    direct::input_gradient(&g, w, dy, &mut dx);
                } else {
                    image::input_gradient(&g, w, dy, &mut dx);
                }
                kernel::from_vec(dx, xd.shape())?
            } else { xd.clone() };
            let dw = if need_w {
                let mut dw = vec![T::default(); g.c_out * g.patch()];
                if quick {
                    winograd::weight_gradient(&g, x, dy, &mut dw);
                } else if direct::fits(&g) {
                    direct::weight_gradient(&g, x, dy, &mut dw);
                } else {
                    image::weight_gradient(&g, x, dy, &mut dw);
                }
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

/// The result, each output channel finished as asked.
fn values<T: Real>(
    g: &Geometry,
    x: &[T],
    w: &[T],
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
) -> Vec<T> {
    let cells = g.ho * g.wo;
    let mut ys = kernel::zeros::<T>(g.b * g.c_out * cells);
    if is_quick(g, T::DTYPE) {
        winograd::forward(g, x, w, finish, &mut ys);
        return ys;
    }
    if direct::fits(g) {
        direct::forward(g, x, w, finish, &mut ys);
        return ys;
    }
    image::forward(g, x, w, &mut ys);
    kernel::par_chunks(&mut ys, cells, |i, plane| finish(i % g.c_out).apply(plane));
    ys
}

fn is_quick(g: &Geometry, dtype: DType) -> bool {
    dtype == DType::F32 && winograd::fits(g)
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

    /// Convolution, batch normalisation and what `after` says. In evaluation without gradients all of it happens where a
    /// sum is written.
    pub fn forward_normalised(
        &self,
        xs: &Tensor,
        norm: &BatchNorm2d,
        after: After,
        mode: Mode,
    ) -> Result<Tensor> {
        let plain = || norm.forward_then(&self.forward(xs)?, after, mode);
        let tracked = [Some(xs), Some(&self.weight), self.bias.as_ref()];
        let tracked = tracked.iter().flatten().any(|t| t.track_op());
        #[cfg(feature = "cuda")]
        if !mode.is_train() && !tracked && kernel::plan(xs) == Plan::Cuda {
            return norm.evaluate_own(self.forward(xs)?, after);
        }
        let alike = self.weight.dtype() == xs.dtype();
        if mode.is_train() || tracked || !alike || kernel::plan(xs) != Plan::Fused {
            return plain();
        }
        let (scale, shift) = norm.scale_and_shift()?;
        if scale.track_op() || shift.track_op() || scale.dtype() != xs.dtype() {
            return plain();
        }
        let g = Geometry::of(xs, &self.weight, self.cfg)?;
        if scale.dims() != [g.c_out] {
            bail!("{} channels are normalised as {:?}", g.c_out, scale.dims());
        }
        let shift = match &self.bias {
            Some(b) => (b * &scale)?.add(&shift)?,
            None => shift,
        };
        let (xs, weight) = (xs.contiguous()?, self.weight.contiguous()?);
        dispatch!(xs.dtype(), T => {
            let (scale, shift) = (scale.to_vec1::<T>()?, shift.to_vec1::<T>()?);
            let floor = if after == After::Relu { T::default() } else { T::NEG_INF };
            let finish = |c: usize| Finish { scale: scale[c], shift: shift[c], floor };
            let (x, w) = (kernel::read(&xs)?, kernel::read(&weight)?);
            let ys = values(&g, x.slice::<T>()?, w.slice::<T>()?, &finish);
            crate::profile::end("forward", "conv2d + norm", &[g.b, g.c_out, g.ho, g.wo]);
            kernel::from_vec(ys, (g.b, g.c_out, g.ho, g.wo))
        })
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
