//! Linear layers and batched products, without copies of transposed operands.

use candle_core::{DType, Result, Shape, Tensor, bail};

use super::blas::{Side, Types, products};
use super::elementwise::{
    add_bias, gelu_of_sum, gelu_of_sum_at, gelu_of_sum_back, relu_at, relu_back,
};
use super::lt::product_and_bias;
use super::norm::column_sums;
use super::{Output, device, f32_of, open, whole};
use crate::kernel::{attach_storage, attach_with_result, cast};

/// A contiguous operand `(batch, rows, cols)`, read as it stands or transposed. A batch of 1 stands for all.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    tensor: &'a Tensor,
    size: (usize, usize, usize),
    transposed: bool,
}

impl<'a> Operand<'a> {
    pub(super) fn new(tensor: &'a Tensor, size: (usize, usize, usize)) -> Self {
        Self { tensor, size, transposed: false }
    }
    pub(super) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
    /// Rows and columns as they are read.
    fn extent(&self) -> (usize, usize) {
        let (_, r, c) = self.size;
        if self.transposed { (c, r) } else { (r, c) }
    }
}

/// The product of two operands as a result of `shape`, in `dtype`.
pub(super) fn product(
    a: Operand,
    b: Operand,
    shape: impl Into<Shape>,
    dtype: DType,
) -> Result<Output> {
    let ((m, k), (kb, n)) = (a.extent(), b.extent());
    let batch = a.size.0.max(b.size.0);
    let fits = |o: Operand| o.size.0 == batch || o.size.0 == 1;
    if k != kb || !fits(a) || !fits(b) || a.tensor.dtype() != b.tensor.dtype() {
        bail!("matmul: {:?} and {:?} do not fit", a.size, b.size);
    }
    let (left, right) = (open(a.tensor)?, open(b.tensor)?);
    let side = |o: Operand, at: u64| {
        let step = if o.size.0 == 1 { 0 } else { o.size.1 * o.size.2 };
        Side { t: o.transposed, ..Side::new(at, o.size.2, step) }
    };
    let dev = device(a.tensor)?;
    let out = Output::new(&dev, shape, dtype)?;
    let types = Types { operands: a.tensor.dtype(), result: dtype };
    products(&dev, batch, (m, n, k), side(a, left.at), side(b, right.at), out.at, types)?;
    Ok(out)
}

/// The product of two operands, without a batch, and a bias for each of its columns, `(n)`, which is added in the type of the
/// operands.
fn product_with(a: Operand, b: Operand, bias: &Tensor, shape: impl Into<Shape>) -> Result<Output> {
    let ((m, k), (kb, n), dtype) = (a.extent(), b.extent(), a.tensor.dtype());
    let alone = a.size.0 == 1 && b.size.0 == 1;
    if k != kb || !alone || dtype != b.tensor.dtype() || bias.elem_count() != n {
        bail!("linear: {:?}, {:?} and {:?} do not fit", a.size, b.size, bias.dims());
    }
    let (left, right) = (open(a.tensor)?, open(b.tensor)?);
    let side = |o: Operand, at: u64| Side { t: o.transposed, ..Side::new(at, o.size.2, 0) };
    let (left, right) = (side(a, left.at), side(b, right.at));
    let dev = device(a.tensor)?;
    let out = Output::new(&dev, shape, dtype)?;
    let in_type = whole(&cast(bias, dtype)?)?;
    let sizes = (m, n, k);
    if !product_and_bias(&dev, sizes, left, right, open(&in_type)?.at, out.at, dtype)? {
        products(&dev, 1, sizes, left, right, out.at, Types::all(dtype))?;
        add_bias(&out, out.at, &f32_of(&bias.detach())?, n)?;
    }
    Ok(out)
}

/// What a linear layer keeps for its backward pass.
struct Layer {
    xs: Tensor,
    weight: Tensor,
    /// The weight as it was multiplied.
    cast: Tensor,
    rows: usize,
    /// Whether gradients of `xs` and the weight are needed.
    need: [bool; 2],
}

impl Layer {
    /// The layer and the product `xs wᵀ`, with the bias if one is given.
    fn new(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<(Self, Output)> {
        let (out, inner) = weight.dims2()?;
        let mut shape = xs.dims().to_vec();
        let rows: usize = shape[..shape.len() - 1].iter().product();
        if let Some(last) = shape.last_mut() {
            *last = out;
        }
        let cast = cast(weight, xs.dtype())?;
        let (x, w) = (Operand::new(xs, (1, rows, inner)), Operand::new(&cast, (1, out, inner)));
        let y = match bias {
            Some(bias) => product_with(x, w.t(), bias, shape)?,
            None => product(x, w.t(), shape, xs.dtype())?,
        };
        let need = [xs.track_op(), weight.track_op()];
        Ok((Self { xs: xs.detach(), weight: weight.detach(), cast, rows, need }, y))
    }

    /// Gradients of `xs`, the weight, in its own type, and with `biased` the bias, f32.
    fn gradients(&self, grad: &Tensor, biased: bool) -> Result<Vec<Tensor>> {
        let (out, inner) = self.weight.dims2()?;
        let dtype = self.xs.dtype();
        let g = Operand::new(grad, (1, self.rows, out));
        let dx = if self.need[0] {
            let w = Operand::new(&self.cast, (1, out, inner));
            product(g, w, self.xs.shape(), dtype)?.tensor()
        } else {
            self.xs.clone()
        };
        let dw = if self.need[1] {
            let x = Operand::new(&self.xs, (1, self.rows, inner));
            product(g.t(), x, (out, inner), self.weight.dtype())?.tensor()
        } else {
            self.weight.clone()
        };
        let mut found = vec![dx, dw];
        if biased {
            found.push(column_sums(&grad.reshape((self.rows, out))?, 1.0)?);
        }
        Ok(found)
    }
}

/// `xs wᵀ + b`. The weight and the bias are cast to the type of `xs`, the product and the sum are rounded once; gradients come
/// in the parameters' own types.
pub(crate) fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (xs, weight) = (whole(xs)?, whole(weight)?);
    let (layer, y) = Layer::new(&xs, &weight, bias)?;
    // Its gradient is found in f32.
    let bias = bias.filter(|b| b.track_op()).map(f32_of).transpose()?;
    let (value, shape) = y.value();
    let biased = bias.is_some();
    let backward = move |grad: &Tensor| layer.gradients(grad, biased);
    match &bias {
        Some(b) => attach_storage("linear", &[&xs, &weight, b], value, shape, backward),
        None => attach_storage("linear", &[&xs, &weight], value, shape, backward),
    }
}

/// `gelu(xs wᵀ + b)`: the bias is added where the activation reads.
pub(crate) fn linear_gelu(xs: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (xs, weight, bias) = (whole(xs)?, whole(weight)?, f32_of(bias)?);
    let (layer, raw) = Layer::new(&xs, &weight, None)?;
    let out = weight.dim(0)?;
    if ![&xs, &weight, &bias].iter().any(|t| t.track_op()) {
        return gelu_of_sum_at(raw, &bias, out).map(Output::tensor);
    }
    let raw = raw.tensor();
    let (value, shape) = gelu_of_sum(&raw, &bias, out)?.value();
    let shift = bias.detach();
    let backward = move |grad: &Tensor| {
        layer.gradients(&gelu_of_sum_back(&raw, &shift, out, grad)?.tensor(), true)
    };
    attach_storage("linear-gelu", &[&xs, &weight, &bias], value, shape, backward)
}

/// `max(xs wᵀ + b, 0)`, in the place of the product.
pub(crate) fn linear_relu(xs: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (xs, weight) = (whole(xs)?, whole(weight)?);
    let (layer, y) = Layer::new(&xs, &weight, Some(bias))?;
    let bias = f32_of(bias)?;
    let (value, shape) = relu_at(y)?.value();
    let backward =
        move |y: &Tensor, grad: &Tensor| layer.gradients(&relu_back(y, grad)?.tensor(), true);
    attach_with_result("linear-relu", &[&xs, &weight, &bias], value, shape, backward)
}

/// `a b`, or `a bᵀ`, for equal leading dimensions. `b` is read in the type of `a`; gradients come in the operands' own types.
pub(crate) fn matmul(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
    let (a, b) = (whole(a)?, whole(b)?);
    let (rank, dtype) = (a.rank(), a.dtype());
    let in_type = cast(&b, dtype)?;
    let batch: usize = a.dims()[..rank - 2].iter().product();
    let size =
        |t: &Tensor| Ok::<_, candle_core::Error>((batch, t.dim(rank - 2)?, t.dim(rank - 1)?));
    let (a_size, b_size) = (size(&a)?, size(&b)?);
    let n = if transpose_b { b_size.1 } else { b_size.2 };
    let mut shape = a.dims().to_vec();
    shape[rank - 1] = n;
    let right = Operand::new(&in_type, b_size);
    let right = if transpose_b { right.t() } else { right };
    let (value, shape) = product(Operand::new(&a, a_size), right, shape, dtype)?.value();
    let (ad, bd, of_b) = (a.detach(), b.detach(), b.dtype());
    let (need_a, need_b) = (a.track_op(), b.track_op());
    let backward = move |grad: &Tensor| {
        let (x, y) = (Operand::new(&ad, a_size), Operand::new(&in_type, b_size));
        let g = Operand::new(grad, (batch, a_size.1, n));
        let da = if need_a {
            product(g, if transpose_b { y } else { y.t() }, ad.shape(), dtype)?.tensor()
        } else {
            ad.clone()
        };
        let db = if need_b {
            let (left, right) = if transpose_b { (g.t(), x) } else { (x.t(), g) };
            // A sum of products in bf16 can be left in f32, not the other way round.
            let found = if dtype == DType::BF16 { of_b } else { dtype };
            product(left, right, bd.shape(), found)?.tensor().to_dtype(of_b)?
        } else {
            bd.clone()
        };
        Ok(vec![da, db])
    };
    attach_storage("matmul", &[&a, &b], value, shape, backward)
}

/// Whether cuBLAS and cuDNN may round f32 operands to TF32 (19 bits) on the tensor cores. Off at first; the choice of the
/// process.
pub(crate) fn set_tf32(allowed: bool) {
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(allowed);
}

/// What [`set_tf32`] was last given.
pub(super) fn tf32() -> bool {
    candle_core::cuda_backend::gemm_reduced_precision_f32()
}
