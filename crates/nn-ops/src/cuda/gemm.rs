//! Linear layers and batched products through cuBLAS, without copies of transposed operands.

use candle_core::backend::BackendStorage;
use candle_core::{Layout, Result, Shape, Storage, Tensor, bail};

use super::norm::column_sums;
use super::{ELEMENTWISE, device, f32_of, int, launch, loop_grid, open, suffix};
use crate::kernel::attach_storage;

/// A contiguous operand `(batch, rows, cols)`, read as it stands or transposed.
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
    fn layout(&self, start: usize) -> Result<Layout> {
        let layout = Layout::contiguous_with_offset(Shape::from(self.size), start);
        if self.transposed { layout.transpose(1, 2) } else { Ok(layout) }
    }
}

/// The product of two operands, `(batch, m, n)` in memory.
fn product(a: Operand, b: Operand) -> Result<candle_core::CudaStorage> {
    let ((m, k), (kb, n), batch) = (a.extent(), b.extent(), a.size.0);
    if k != kb || b.size.0 != batch {
        bail!("matmul: {:?} and {:?} do not fit", a.size, b.size);
    }
    let (left, right) = (open(a.tensor)?, open(b.tensor)?);
    let ((left, at_left), (right, at_right)) = (left.storage()?, right.storage()?);
    left.matmul(right, (batch, m, n, k), &a.layout(at_left)?, &b.layout(at_right)?)
}

/// The product as a tensor of `shape`.
pub(super) fn tensor_product(a: Operand, b: Operand, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(tensor(product(a, b)?, shape))
}

fn tensor(storage: candle_core::CudaStorage, shape: impl Into<Shape>) -> Tensor {
    let op = candle_core::op::BackpropOp::none();
    Tensor::from_storage(Storage::Cuda(storage), shape, op, false)
}

/// `xs wᵀ + b`; the weight is cast to the type of `xs`, the bias added in f32.
pub(crate) fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let weight = weight.to_dtype(xs.dtype())?.contiguous()?;
    let bias = bias.map(f32_of).transpose()?;
    let (out, inner) = weight.dims2()?;
    let mut shape = xs.dims().to_vec();
    let rows: usize = shape[..shape.len() - 1].iter().product();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let (x_size, w_size, y_size) = ((1, rows, inner), (1, out, inner), (1, rows, out));
    let value = product(Operand::new(&xs, x_size), Operand::new(&weight, w_size).t())?;
    if let Some(b) = &bias {
        let (dev, n) = (device(&xs)?, rows * out);
        launch!(
            &dev,
            ELEMENTWISE,
            format!("bias_{}", suffix(xs.dtype())?),
            loop_grid(n.div_ceil(4))?,
            [super::base(&value)?, open(b)?.at, n as u64, int(out)?]
        );
    }
    let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
    let (need_x, need_w) = (xs.track_op(), weight.track_op());
    let backward = move |_: &Tensor, grad: &Tensor| {
        let (x, w) = (Operand::new(&xd, x_size), Operand::new(&wd, w_size));
        let g = Operand::new(grad, y_size);
        let dx = if need_x { tensor_product(g, w, xd.shape())? } else { xd.clone() };
        let dw = if need_w { tensor_product(g.t(), x, (out, inner))? } else { wd.clone() };
        let mut found = vec![dx, dw];
        if has_bias {
            found.push(column_sums(&grad.reshape((rows, out))?, 1.0)?);
        }
        Ok(found)
    };
    let value = Storage::Cuda(value);
    match &bias {
        Some(b) => attach_storage("linear", &[&xs, &weight, b], value, shape, backward),
        None => attach_storage("linear", &[&xs, &weight], value, shape, backward),
    }
}

/// `a b`, or `a bᵀ`, for equal leading dimensions.
pub(crate) fn matmul(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
    let (a, b) = (a.contiguous()?, b.to_dtype(a.dtype())?.contiguous()?);
    let rank = a.rank();
    let batch: usize = a.dims()[..rank - 2].iter().product();
    let size =
        |t: &Tensor| Ok::<_, candle_core::Error>((batch, t.dim(rank - 2)?, t.dim(rank - 1)?));
    let (a_size, b_size) = (size(&a)?, size(&b)?);
    let n = if transpose_b { b_size.1 } else { b_size.2 };
    let mut shape = a.dims().to_vec();
    shape[rank - 1] = n;
    let right = Operand::new(&b, b_size);
    let value = product(Operand::new(&a, a_size), if transpose_b { right.t() } else { right })?;
    let (ad, bd) = (a.detach(), b.detach());
    let (need_a, need_b) = (a.track_op(), b.track_op());
    let backward = move |_: &Tensor, grad: &Tensor| {
        let (x, y) = (Operand::new(&ad, a_size), Operand::new(&bd, b_size));
        let g = Operand::new(grad, (batch, a_size.1, n));
        let da = if need_a {
            tensor_product(g, if transpose_b { y } else { y.t() }, ad.shape())?
        } else {
            ad.clone()
        };
        let db = if need_b {
            let storage = if transpose_b { product(g.t(), x)? } else { product(x.t(), g)? };
            tensor(storage, bd.shape())
        } else {
            bd.clone()
        };
        Ok(vec![da, db])
    };
    attach_storage("matmul", &[&a, &b], Storage::Cuda(value), shape, backward)
}

/// Whether cuBLAS may round f32 operands to TF32 (19 bits) on the tensor cores. Off at first; the choice of the process.
pub(crate) fn set_tf32(allowed: bool) {
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(allowed);
}

/// What [`set_tf32`] was last given.
pub(crate) fn tf32() -> bool {
    candle_core::cuda_backend::gemm_reduced_precision_f32()
}
