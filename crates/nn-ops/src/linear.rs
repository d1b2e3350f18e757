//! Linear layers on any leading dimensions, and kernel-1 convolutions stored as `(out, in, 1)`.
//!
//! Candle's `Linear` is wrong on transposed rank-3 input and its `conv1d` has wrong gradients at batch >= 2.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::activation::{gelu, relu};
use crate::kernel::{self, Mat, Plan, Real, Threads, dispatch};

/// `xs wᵀ + b`: `(.., in)` with weight `(out, in)` and bias `(out)` to `(.., out)`.
///
/// # Errors
/// When the last dimension of `xs` is not `in`.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check(xs, weight, bias)?;
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, weight, bias),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            let bias = bias.map(|b| b.to_dtype(f32)).transpose()?;
            linear(&xs.to_dtype(f32)?, &weight.to_dtype(f32)?, bias.as_ref())?.to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::linear(xs, weight, bias),
        Plan::Composed => composed(xs, weight, bias),
    }
}

fn check(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (out, inner) = weight.dims2()?;
    let dims = xs.dims();
    if dims.last() != Some(&inner) {
        bail!(
            "linear: input {dims:?} does not end in the {inner} channels of weight ({out}, {inner})"
        );
    }
    match bias {
        Some(b) if b.dims() != [out] => {
            bail!("linear: bias {:?} for weight ({out}, {inner})", b.dims())
        }
        _ => Ok(()),
    }
}

/// The same from Candle's matmul on contiguous rank-2 operands: the oracle of the kernel, and the path of other devices.
pub(crate) fn composed(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let mut shape = xs.dims().to_vec();
    let rows: usize = shape[..shape.len() - 1].iter().product();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let weight = weight.to_dtype(xs.dtype())?;
    let ys = xs.contiguous()?.reshape((rows, inner))?.matmul(&weight.t()?.contiguous()?)?;
    let ys = match bias {
        Some(b) => ys.broadcast_add(&b.to_dtype(xs.dtype())?)?,
        None => ys,
    };
    ys.reshape(shape)
}

fn fused(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let weight = weight.contiguous()?;
    let (out, inner) = weight.dims2()?;
    let mut shape = xs.dims().to_vec();
    let rows: usize = shape[..shape.len() - 1].iter().product();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let bias = bias.map(|b| b.contiguous()).transpose()?;
    dispatch!(xs.dtype(), T => {
        let mut ys = biases::<T>(rows, out, bias.as_ref())?;
        {
            let (x, w) = (kernel::read(&xs)?, kernel::read(&weight)?);
            let (x, w) = (x.slice::<T>()?, w.slice::<T>()?);
            add_products((out, inner), x, w, &mut ys, bias.is_some());
        }
        let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
        let (need_x, need_w) = (xs.track_op(), weight.track_op());
        let backward = move |grad: &Tensor| {
            let (g, x, w) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (g, x, w) = (g.slice::<T>()?, x.slice::<T>()?, w.slice::<T>()?);
            let mut dx = kernel::zeros::<T>(if need_x { rows * inner } else { 0 });
            if need_x {
                kernel::gemm((rows, inner, out), &mut dx, inner, false,
                    Mat::rows(g, out), Mat::rows(w, inner), Threads::All);
            }
            let mut dw = kernel::zeros::<T>(if need_w { out * inner } else { 0 });
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

/// `rows` times the bias `(out)`, or zeros.
pub(crate) fn biases<T: Real>(rows: usize, out: usize, bias: Option<&Tensor>) -> Result<Vec<T>> {
    let Some(bias) = bias else { return Ok(kernel::zeros::<T>(rows * out)) };
    let bias = bias.contiguous()?;
    let b = kernel::read(&bias)?;
    let b = b.slice::<T>()?;
    Ok(kernel::par_filled(rows * out, out, |_, row| row.copy_from_slice(b)))
}

/// `y = x wᵀ`, or `y += x wᵀ` when `add`, for rows of `inner` values to rows of `out`.
pub(crate) fn add_products<T: Real>(
    (out, inner): (usize, usize),
    x: &[T],
    w: &[T],
    y: &mut [T],
    add: bool,
) {
    let rows = y.len() / out.max(1);
    if kernel::is_few::<T>(rows, inner) {
        kernel::few_rows(inner, x, w, y, add);
    } else if !(crate::device::bf16_products() && T::rounded_product((out, inner), x, w, y, add)) {
        let (x, w) = (Mat::rows(x, inner), Mat::rows(w, inner).t());
        kernel::gemm((rows, out, inner), y, out, add, x, w, Threads::All);
    }
}

/// A linear layer. Weight `(out, in)`, or `(out, in, 1)` as PyTorch's kernel-1 `Conv1d` stores it.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// From tensors: weight `(out, in)` or `(out, in, 1)`, bias `(out)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `(.., in)` to `(.., out)`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        linear(xs, &self.weight()?, self.bias.as_ref())
    }

    /// The same, then [`gelu`].
    pub fn forward_gelu(&self, xs: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(ys) = self.on_gpu(xs, crate::cuda::linear_gelu)? {
            return Ok(ys);
        }
        gelu(&self.forward(xs)?)
    }

    /// The same, then [`relu`].
    pub fn forward_relu(&self, xs: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(ys) = self.on_gpu(xs, crate::cuda::linear_relu)? {
            return Ok(ys);
        }
        relu(&self.forward(xs)?)
    }

    /// `run` of the input, the weight and the bias, where there is one and CUDA's kernels take them.
    #[cfg(feature = "cuda")]
    fn on_gpu(
        &self,
        xs: &Tensor,
        run: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        let Some(bias) = self.bias.as_ref().filter(|_| kernel::plan(xs) == Plan::Cuda) else {
            return Ok(None);
        };
        let weight = self.weight()?;
        check(xs, &weight, Some(bias))?;
        run(xs, &weight, bias).map(Some)
    }

    /// The bias, `(out)`, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The weight, `(out, in)`.
    pub fn weight(&self) -> Result<Tensor> {
        match self.weight.dims() {
            [out, inner, 1] => crate::reshape(&self.weight, (*out, *inner)),
            _ => Ok(self.weight.clone()),
        }
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
    Ok(Linear { weight, bias: Some(bias) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};

    #[test]
    fn linear_passes_the_audit() -> Result<()> {
        let small = several(&[&[2, 3, 5], &[4, 5], &[4]])?;
        let large = several(&[&[2, 157, 37], &[45, 37], &[45]])?;
        let f = |xs: &[Tensor]| linear(&xs[0], &xs[1], Some(&xs[2]));
        audit("linear", &small, &large, &f, &|xs| composed(&xs[0], &xs[1], Some(&xs[2])))?;
        let f = |xs: &[Tensor]| linear(&xs[0], &xs[1], None);
        audit("linear, no bias", &small[..2], &large[..2], &f, &|xs| composed(&xs[0], &xs[1], None))
    }

    #[test]
    fn any_rank_and_one_row_or_column() -> Result<()> {
        for shapes in [
            &[&[1, 5][..], &[1, 5], &[1]],
            &[&[5], &[3, 5], &[3]],
            &[&[2, 1, 2, 1, 2], &[1, 2], &[1]],
        ] {
            let xs = several(shapes)?;
            audit("linear", &xs, &xs, &|x| linear(&x[0], &x[1], Some(&x[2])), &|x| {
                composed(&x[0], &x[1], Some(&x[2]))
            })?;
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors() -> Result<()> {
        let xs = several(&[&[2, 5], &[3, 5], &[2], &[2, 4]])?;
        assert!(linear(&xs[0], &xs[1], Some(&xs[2])).is_err());
        assert!(linear(&xs[3], &xs[1], None).is_err());
        let empty = Tensor::zeros((0, 5), xs[0].dtype(), xs[0].device())?;
        assert_eq!(linear(&empty, &xs[1], None)?.dims(), [0, 3]);
        Ok(())
    }

    #[test]
    fn conv1x1_is_a_linear_layer_with_a_rank_3_weight() -> Result<()> {
        let store = crate::ParamStore::new(1);
        let vb = store.builder(candle_core::DType::F64, &candle_core::Device::Cpu);
        let layer = conv1x1(3, 4, vb)?;
        assert_eq!(store.get("weight").map(|v| v.dims().to_vec()), Some(vec![4, 3, 1]));
        let error =
            crate::gradcheck::gradient_error(&several(&[&[2, 5, 3]])?, |x| layer.forward(&x[0]))?;
        assert!(error < 1e-7, "{error:e}");
        let grads = layer.forward(&several(&[&[2, 5, 3]])?[0])?.sum_all()?.backward()?;
        assert!(store.parameters().iter().all(|(_, v)| grads.get(v).is_some()));
        Ok(())
    }
}
