//! Convolution through cuDNN: forward and both gradients, algorithms by its heuristics, chosen once a shape, none whose result
//! differs from run to run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdFilterAlgo_t, cudnnConvolutionFwdAlgo_t,
    cudnnConvolutionMode_t, cudnnMathType_t, cudnnTensorFormat_t,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType,
    FilterDescriptor, TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::{CudaDevice, DType, Error, Result, Shape, Tensor, bail};
use half::bf16;

use super::{Output, device, int, open};
use crate::conv::Geometry;

thread_local! {
    /// cuDNN handles are neither Send nor Sync: one a thread and device.
    static HANDLES: RefCell<HashMap<candle_core::cuda_backend::DeviceId, Arc<Cudnn>>> = RefCell::default();
    /// Algorithms chosen before, by sizes.
    static FORWARD: RefCell<HashMap<Key, cudnnConvolutionFwdAlgo_t>> = RefCell::default();
    static INPUT: RefCell<HashMap<Key, cudnnConvolutionBwdDataAlgo_t>> = RefCell::default();
    static WEIGHT: RefCell<HashMap<Key, cudnnConvolutionBwdFilterAlgo_t>> = RefCell::default();
}

type Key = ([usize; 12], DType, bool, Order);

/// Where channels lie: `(B, C, h, w)` and weights `(Cout, Cin, kh, kw)`, or last, `(B, h, w, C)` and `(Cout, kh, kw, Cin)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Order {
    First,
    Last,
}

impl Order {
    fn shape(self, [b, c, h, w]: [usize; 4]) -> Shape {
        match self {
            Self::First => (b, c, h, w).into(),
            Self::Last => (b, h, w, c).into(),
        }
    }
}

fn handle(dev: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with(|handles| {
        if let Some(h) = handles.borrow().get(&dev.id()) {
            return Ok(h.clone());
        }
        let made = Cudnn::new(dev.cuda_stream()).map_err(Error::wrap)?;
        handles.borrow_mut().insert(dev.id(), made.clone());
        Ok(made)
    })
}

/// The types of a pass: elements in memory, constants in f32.
trait Element: CudnnDataType + CudaDType + DeviceRepr {
    const ONE: Self;
    const ZERO: Self;
}
impl Element for f32 {
    const ONE: f32 = 1.0;
    const ZERO: f32 = 0.0;
}
impl Element for bf16 {
    const ONE: bf16 = bf16::ONE;
    const ZERO: bf16 = bf16::ZERO;
}

struct Descriptors<T> {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
}

fn describe<T: Element>(
    g: &Geometry,
    dev: &CudaDevice,
    dtype: DType,
    order: Order,
) -> Result<Descriptors<T>> {
    let cudnn = handle(dev)?;
    let four = |a: [usize; 4]| {
        Ok::<_, candle_core::Error>([int(a[0])?, int(a[1])?, int(a[2])?, int(a[3])?])
    };
    let layout = match order {
        Order::First => cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        Order::Last => cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
    };
    let stride = int(g.stride)?;
    let pad = [int(g.ph)?, int(g.pw)?];
    let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let mut conv =
        cudnn.create_conv2d::<f32>(pad, [stride, stride], [1, 1], mode).map_err(Error::wrap)?;
    let math = match dtype {
        DType::F32 if !super::gemm::tf32() => cudnnMathType_t::CUDNN_FMA_MATH,
        _ => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    };
    conv.set_math_type(math).map_err(Error::wrap)?;
    Ok(Descriptors {
        conv,
        x: cudnn.create_4d_tensor(layout, four([g.b, g.c_in, g.h, g.w])?).map_err(Error::wrap)?,
        w: cudnn
            .create_4d_filter(layout, four([g.c_out, g.c_in, g.kh, g.kw])?)
            .map_err(Error::wrap)?,
        y: cudnn
            .create_4d_tensor(layout, four([g.b, g.c_out, g.ho, g.wo])?)
            .map_err(Error::wrap)?,
    })
}

fn key(g: &Geometry, dtype: DType, order: Order) -> Key {
    let sizes = [g.b, g.c_in, g.h, g.w, g.c_out, g.kh, g.kw, g.stride, g.ph, g.pw, g.ho, g.wo];
    (sizes, dtype, super::gemm::tf32(), order)
}

macro_rules! by_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::BF16 => {
                type $T = bf16;
                $body
            }
            other => bail!("cuDNN convolution takes f32 or bf16, not {other:?}"),
        }
    };
}

/// One pass: the algorithm (remembered), its workspace, the launch.
macro_rules! run {
    ($op:expr, $chosen:ident, $repeatable:expr, $key:expr, $dev:expr, $T:ty, $a:expr, $b:expr, $out:expr, $order:ident) => {{
        let op = $op;
        let (key, repeatable) = ($key, $repeatable);
        let known = $chosen.with(|c| c.borrow().get(&key).copied());
        let algorithm = match known {
            Some(found) => found,
            None => {
                let fastest = op.pick_algorithm().map_err(Error::wrap)?;
                let found = match repeatable(fastest) {
                    Some(other) if op.get_workspace_size(other).is_ok() => other,
                    _ => fastest,
                };
                $chosen.with(|c| c.borrow_mut().insert(key, found));
                found
            }
        };
        let bytes = op.get_workspace_size(algorithm).map_err(Error::wrap)?;
        // SAFETY: scratch memory that cuDNN writes before it reads.
        let mut scratch: CudaSlice<u8> = unsafe { $dev.alloc(bytes.max(1))? };
        let (a, b) = (open($a)?, open($b)?);
        let ((sa, at_a), (sb, at_b)) = (a.storage()?, b.storage()?);
        let a = sa.as_cuda_slice::<$T>()?.slice(at_a..);
        let b = sb.as_cuda_slice::<$T>()?.slice(at_b..);
        let out = $out.storage.as_cuda_slice_mut::<$T>()?;
        let (one, zero) = (<$T as Element>::ONE, <$T as Element>::ZERO);
        // SAFETY: the descriptors were made from the sizes of these very tensors.
        let done = unsafe { $order!(op, algorithm, &mut scratch, (one, zero), &a, &b, out) };
        done.map_err(Error::wrap)?;
    }};
}

/// For an algorithm that adds in no fixed order, one that does.
fn repeatable_input(found: cudnnConvolutionBwdDataAlgo_t) -> Option<cudnnConvolutionBwdDataAlgo_t> {
    use cudnnConvolutionBwdDataAlgo_t as A;
    (found == A::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0).then_some(A::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1)
}

/// The same of the gradient of weights.
fn repeatable_weight(
    found: cudnnConvolutionBwdFilterAlgo_t,
) -> Option<cudnnConvolutionBwdFilterAlgo_t> {
    use cudnnConvolutionBwdFilterAlgo_t as A;
    let unordered =
        [A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3];
    unordered.contains(&found).then_some(A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1)
}

macro_rules! forward_order {
    ($op:ident, $algo:ident, $s:expr, $c:expr, $a:expr, $b:expr, $out:ident) => {
        $op.launch($algo, Some($s), $c, $a, $b, $out)
    };
}
macro_rules! input_order {
    ($op:ident, $algo:ident, $s:expr, $c:expr, $a:expr, $b:expr, $out:ident) => {
        $op.launch($algo, Some($s), $c, $out, $a, $b)
    };
}
macro_rules! weight_order {
    ($op:ident, $algo:ident, $s:expr, $c:expr, $a:expr, $b:expr, $out:ident) => {
        $op.launch($algo, Some($s), $c, $a, $out, $b)
    };
}

pub(super) fn forward(g: &Geometry, xs: &Tensor, weight: &Tensor) -> Result<Output> {
    forward_in(Order::First, g, xs, weight)
}

pub(super) fn forward_in(
    order: Order,
    g: &Geometry,
    xs: &Tensor,
    weight: &Tensor,
) -> Result<Output> {
    let (dev, dtype) = (device(xs)?, xs.dtype());
    let mut out = Output::new(&dev, order.shape([g.b, g.c_out, g.ho, g.wo]), dtype)?;
    by_type!(dtype, T => {
        let d = describe::<T>(g, &dev, dtype, order)?;
        let op = ConvForward { conv: &d.conv, x: &d.x, w: &d.w, y: &d.y };
        run!(op, FORWARD, |_| None, key(g, dtype, order), dev, T, xs, weight, out, forward_order);
    });
    Ok(out)
}

pub(super) fn input_gradient(g: &Geometry, weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
    input_gradient_in(Order::First, g, weight, dy)
}

pub(super) fn input_gradient_in(
    order: Order,
    g: &Geometry,
    weight: &Tensor,
    dy: &Tensor,
) -> Result<Tensor> {
    let (dev, dtype) = (device(dy)?, dy.dtype());
    let mut out = Output::new(&dev, order.shape([g.b, g.c_in, g.h, g.w]), dtype)?;
    by_type!(dtype, T => {
        let d = describe::<T>(g, &dev, dtype, order)?;
        let op = ConvBackwardData { conv: &d.conv, dx: &d.x, w: &d.w, dy: &d.y };
        run!(op, INPUT, repeatable_input, key(g, dtype, order), dev, T, weight, dy, out, input_order);
    });
    Ok(out.tensor())
}

pub(super) fn weight_gradient(g: &Geometry, xs: &Tensor, dy: &Tensor) -> Result<Tensor> {
    weight_gradient_in(Order::First, g, xs, dy)
}

pub(super) fn weight_gradient_in(
    order: Order,
    g: &Geometry,
    xs: &Tensor,
    dy: &Tensor,
) -> Result<Tensor> {
    let (dev, dtype) = (device(xs)?, xs.dtype());
    let mut out = Output::new(&dev, order.shape([g.c_out, g.c_in, g.kh, g.kw]), dtype)?;
    by_type!(dtype, T => {
        let d = describe::<T>(g, &dev, dtype, order)?;
        let op = ConvBackwardFilter { conv: &d.conv, x: &d.x, dw: &d.w, dy: &d.y };
        run!(op, WEIGHT, repeatable_weight, key(g, dtype, order), dev, T, xs, dy, out, weight_order);
    });
    Ok(out.tensor())
}
