//! Linear layers on any leading dimensions, and kernel-1 convolutions stored as `(out, in, 1)`.
//!
//! Candle's `Linear` is wrong on transposed rank-3 input and its `conv1d` has wrong gradients at batch >= 2.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::kernel::{self, Mat, Plan, Threads, dispatch};

/// `xs wᵀ + b`: `(.., in)` with weight `(out, in)` and bias `(out)` to `(.., out)`.
///
/// # Errors
/// When the last dimension of `xs` is not `in`.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let dims = xs.dims();
    if dims.last() != Some(&inner) {
        bail!("linear: input {dims:?} does not end in the {inner} channels of weight ({out}, {inner})");
    }
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, weight, bias),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            let bias = bias.map(|b| b.to_dtype(f32)).transpose()?;
            linear(&xs.to_dtype(f32)?, &weight.to_dtype(f32)?, bias.as_ref())?.to_dtype(xs.dtype())
        }
        Plan::Composed => composed(xs, weight, bias),
    }
}

/// The same from Candle's matmul on contiguous rank-2 operands: the oracle of the kernel, and the path of other devices.
pub(crate) fn composed(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let mut shape = xs.dims().to_vec();
    let rows = xs.elem_count() / inner.max(1);
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let ys = xs.contiguous()?.reshape((rows, inner))?.matmul(&weight.t()?.contiguous()?)?;
    let ys = match bias {
        Some(b) => ys.broadcast_add(b)?,
        None => ys,
    };
    ys.reshape(shape)
}

fn fused(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let weight = weight.contiguous()?;
    let (out, inner) = weight.dims2()?;
    let rows = xs.elem_count() / inner.max(1);
    let mut shape = xs.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let bias = bias.map(|b| b.contiguous()).transpose()?;
    dispatch!(xs.dtype(), T => {
        let mut ys = vec![T::default(); rows * out];
        {
            let (x, w) = (kernel::read(&xs)?, kernel::read(&weight)?);
            if let Some(b) = &bias {
                let b = kernel::read(b)?;
                let b = b.slice::<T>()?;
                kernel::par_chunks(&mut ys, out, |_, row| row.copy_from_slice(b));
            }
            let (x, w) = (x.slice::<T>()?, w.slice::<T>()?);
            kernel::gemm((rows, out, inner), &mut ys, out, bias.is_some(),
                Mat::rows(x, inner), Mat::rows(w, inner).t(), Threads::All);
        }
        let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
        let (need_x, need_w) = (xs.track_op(), weight.track_op());
        let backward = move |_: &Tensor, grad: &Tensor| {
            let (g, x, w) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (g, x, w) = (g.slice::<T>()?, x.slice::<T>()?, w.slice::<T>()?);
            let mut dx = vec![T::default(); if need_x { rows * inner } else { 0 }];
            if need_x {
                kernel::gemm((rows, inner, out), &mut dx, inner, false,
                    Mat::rows(g, out), Mat::rows(w, inner), Threads::All);
            }
            let mut dw = vec![T::default(); if need_w { out * inner } else { 0 }];
            if need_w {
                kernel::gemm((out, inner, rows), &mut dw, inner, false,
                    Mat::rows(g, out).t(), Mat::rows(x, inner), Threads::All);
            }
            let dx = if need_x { kernel::from_vec(dx, xd.shape())? } else { xd.clone() };
            let dw = if need_w { kernel::from_vec(dw, (out, inner))? } else { wd.clone() };
            let mut found = vec![dx, dw];
            if has_bias {
                found.push(kernel::from_vec(kernel::column_sums(g, out), out)?);
            }
            Ok(found)
        };
        match &bias {
            Some(b) => kernel::attach("linear", &[&xs, &weight, b], ys, shape, backward),
            None => kernel::attach("linear", &[&xs, &weight], ys, shape, backward),
        }
    })
}

/// A linear layer. Weight `(out, in)`, or `(out, in, 1)` as PyTorch's kernel-1 `Conv1d` stores it.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From tensors: weight `(out, in)`, bias `(out)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `(.., in)` to `(.., out)`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        linear(xs, &self.weight, self.bias.as_ref())
    }

    /// The weight, `(out, in)`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// PyTorch's default initial distribution of `nn.Linear` and `nn.Conv*d`: uniform within `1/sqrt(fan_in)`.
pub fn default_init(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// A linear layer with bias, keys `weight` `(out, in)` and `bias`.
pub fn linear_layer(inner: usize, out: usize, vb: VarBuilder) -> Result<Linear> {
    linear_with_init(inner, out, true, default_init(inner), default_init(inner), vb)
}

/// A linear layer without bias, key `weight`.
pub fn linear_no_bias(inner: usize, out: usize, vb: VarBuilder) -> Result<Linear> {
    linear_with_init(inner, out, false, default_init(inner), default_init(inner), vb)
}

/// A linear layer with stated initial distributions.
pub fn linear_with_init(
    inner: usize,
    out: usize,
    bias: bool,
    weight_init: Init,
    bias_init: Init,
    vb: VarBuilder,
) -> Result<Linear> {
    let weight = vb.get_with_hints((out, inner), "weight", weight_init)?;
    let bias = if bias { Some(vb.get_with_hints(out, "bias", bias_init)?) } else { None };
    Ok(Linear { weight, bias })
}

/// A kernel-1 `Conv1d` over channels-last tokens: keys `weight` `(out, in, 1)` and `bias`; `(B, N, in)` to `(B, N, out)`.
pub fn conv1x1(inner: usize, out: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((out, inner, 1), "weight", default_init(inner))?;
    let bias = vb.get_with_hints(out, "bias", default_init(inner))?;
    Ok(Linear { weight: weight.reshape((out, inner))?, bias: Some(bias) })
}
