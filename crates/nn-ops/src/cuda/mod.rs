//! The operations on CUDA: kernels compiled with the crate, cuBLAS, and cuDNN where the feature is on.
//!
//! f32 and bf16, arithmetic in f32. Parameters of norms, biases and terms of scores are taken in f32 whatever the type of the
//! activations. The oracle of each operation is the CPU path in f64 (`selftest`). Results are the same every time: no atomics,
//! sums in a fixed split. Everything is queued on one stream, and only the norm of all gradients waits for the device.

mod attend;
mod batch;
mod blas;
mod cast;
#[cfg(not(feature = "cudnn"))]
mod columns;
mod conv;
#[cfg(feature = "cudnn")]
mod conv_last;
mod covariance;
#[cfg(feature = "cudnn")]
mod cudnn;
mod elementwise;
mod flash;
mod gemm;
mod graph;
mod layout;
mod loss;
mod lt;
mod maps;
mod norm;
mod optim;
mod rows;
mod softmax;
mod take;
mod upload;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaStream, DevicePtr, LaunchConfig,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, DType, Device, Error, Result, Shape, Storage, Tensor, bail};

pub(crate) use attend::{AT_ONCE, attend};
pub(crate) use batch::{batch_norm, batch_statistics, channels_affine, channels_affine_of};
pub(crate) use cast::to_bf16;
pub(crate) use conv::conv2d;
pub(crate) use covariance::{centre, covariance, projected_rstd, scale_columns};
pub(crate) use elementwise::{
    add_repeated, add_scaled, dropout, gelu, kept_samples, mul, relu, scale_parts, tanh,
    weighted_sum,
};
pub(crate) use gemm::{linear, linear_gelu, linear_relu, matmul, set_tf32};
pub(crate) use graph::{Graph, keep_uploads};
pub(crate) use layout::behind;
#[cfg(feature = "cudnn")]
pub(crate) use layout::map_of;
pub(crate) use loss::{global_avg_pool, pixel_cross_entropy};
pub(crate) use maps::{max_pool2d, resize_beside, resize_bilinear, window_sum};
pub(crate) use norm::{instance_norm, layer_norm};
pub(crate) use optim::{Moved, adamw, norm_of, scale_all};
pub(crate) use rows::relative_bias;
pub(crate) use softmax::attention_softmax;
pub(crate) use take::{take_rows, text_windows, turn};
pub(crate) use upload::{Pinned, upload};

/// Compiled kernels of one source file.
#[derive(Clone, Copy)]
pub(crate) struct Module {
    name: &'static str,
    /// For several cards (`build.rs`).
    image: &'static [u8],
}

macro_rules! module {
    ($const:ident, $file:literal) => {
        pub(crate) const $const: Module = Module {
            name: $file,
            image: include_bytes!(concat!(env!("OUT_DIR"), "/", $file, ".fatbin")),
        };
    };
}
module!(ELEMENTWISE, "elementwise");
module!(FLASH, "flash");
module!(FLASH_BACK, "flash_back");
module!(LOSS, "loss");
module!(MAPS, "maps");
module!(NORM, "norm");
module!(OPTIM, "optim");
module!(ROWS, "rows");
module!(SOFTMAX, "softmax");

/// Ending of the kernels' names for a type.
fn suffix(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        other => bail!("CUDA kernels take f32 or bf16, not {other:?}"),
    }
}

/// The device of a tensor.
pub(crate) fn device(t: &Tensor) -> Result<CudaDevice> {
    match t.device() {
        Device::Cuda(d) => Ok(d.clone()),
        other => bail!("a CUDA kernel was given a tensor on {other:?}"),
    }
}

/// Address of the first element of a storage.
fn base(s: &CudaStorage) -> Result<u64> {
    let stream = s.device.cuda_stream();
    macro_rules! of {
        ($($variant:ident),*) => {
            match &s.slice {
                $(CudaStorageSlice::$variant(v) => Ok(v.device_ptr(&stream).0),)*
                _ => bail!("CUDA kernels take f32, bf16, f64, u32, u8 or i64, not {:?}", s.dtype_name()),
            }
        };
    }
    of!(F32, BF16, F64, U32, U8, I64)
}

trait DTypeName {
    fn dtype_name(&self) -> DType;
}

impl DTypeName for CudaStorage {
    fn dtype_name(&self) -> DType {
        candle_core::backend::BackendStorage::dtype(self)
    }
}

/// A contiguous tensor opened for a kernel.
#[cfg_attr(not(feature = "cudnn"), allow(dead_code))] // the storage is cuDNN's to ask for
pub(crate) struct Opened<G> {
    guard: G,
    start: usize,
    /// Address of its first element.
    pub(crate) at: u64,
}

impl<G: Deref<Target = Storage>> Opened<G> {
    /// The storage, and where the tensor begins in it.
    #[cfg(feature = "cudnn")]
    fn storage(&self) -> Result<(&CudaStorage, usize)> {
        match &*self.guard {
            Storage::Cuda(s) => Ok((s, self.start)),
            _ => bail!("a CUDA kernel was given a tensor on another device"),
        }
    }
}

/// Opens a contiguous tensor. The address is good while the tensor lives: freeing is queued behind the kernels that use it.
pub(crate) fn open(t: &Tensor) -> Result<Opened<impl Deref<Target = Storage> + '_>> {
    let (guard, layout) = t.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a CUDA kernel needs a contiguous tensor, got {layout:?}");
    };
    let Storage::Cuda(s) = &*guard else {
        bail!("a CUDA kernel was given a tensor on another device");
    };
    let at = base(s)? + (start * t.dtype().size_in_bytes()) as u64;
    Ok(Opened { guard, start, at })
}

/// Memory for a result that a kernel fills completely.
pub(crate) struct Output {
    pub(crate) storage: CudaStorage,
    pub(crate) at: u64,
    shape: Shape,
}

impl Output {
    pub(crate) fn new(dev: &CudaDevice, shape: impl Into<Shape>, dtype: DType) -> Result<Self> {
        let shape = shape.into();
        if shape.elem_count() == 0 {
            bail!("a CUDA kernel was asked for an empty result {shape:?}");
        }
        // SAFETY: every kernel writes all elements of its results; the uninitialised values are numbers, any bits are valid.
        let storage = unsafe { dev.alloc_uninit(&shape, dtype)? };
        let at = base(&storage)?;
        Ok(Self { storage, at, shape })
    }

    /// What a tensor holds, copied.
    #[cfg(not(feature = "cudnn"))]
    pub(crate) fn of(t: Tensor) -> Result<Self> {
        let (guard, layout) = t.storage_and_layout();
        let Storage::Cuda(storage) = guard.try_clone(layout)? else {
            bail!("a CUDA kernel was given a tensor on another device");
        };
        let at = base(&storage)?;
        Ok(Self { storage, at, shape: t.shape().clone() })
    }

    /// Number of elements.
    fn len(&self) -> usize {
        self.shape.elem_count()
    }

    /// Its element type.
    pub(crate) fn dtype(&self) -> DType {
        self.storage.dtype_name()
    }

    /// As a tensor outside any graph.
    pub(crate) fn tensor(self) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage), self.shape, BackpropOp::none(), false)
    }

    /// As a storage, for a value that is put into a graph.
    pub(crate) fn value(self) -> (Storage, Shape) {
        (Storage::Cuda(self.storage), self.shape)
    }
}

/// A single number that nobody reads.
pub(crate) fn unset(dev: &CudaDevice) -> Result<CudaStorage> {
    // SAFETY: any bits are a valid f32, and no result depends on it.
    unsafe { dev.alloc_uninit(&().into(), DType::F32) }
}

/// Shape of a launch: blocks and threads.
pub(crate) fn grid(blocks: (usize, usize, usize), threads: (u32, u32)) -> Result<LaunchConfig> {
    let (Ok(x), Ok(y), Ok(z)) =
        (u32::try_from(blocks.0), u32::try_from(blocks.1), u32::try_from(blocks.2))
    else {
        bail!("a CUDA launch of {blocks:?} blocks is too large");
    };
    Ok(LaunchConfig {
        grid_dim: (x.max(1), y.max(1), z.max(1)),
        block_dim: (threads.0, threads.1, 1),
        shared_mem_bytes: 0,
    })
}

/// Blocks of 256 threads for a loop over `n` items.
pub(crate) fn loop_grid(n: usize) -> Result<LaunchConfig> {
    grid((n.div_ceil(256).clamp(1, 1 << 16), 1, 1), (256, 1))
}

thread_local! {
    /// Kernels by device and name: asking the driver for one takes as long as some kernels do.
    static FUNCTIONS: RefCell<HashMap<DeviceId, HashMap<String, CudaFunction>>> =
        RefCell::default();
}

type Modules = HashMap<(DeviceId, &'static str), Arc<CudaModule>>;

/// Loaded modules, by device and name.
static MODULES: LazyLock<Mutex<Modules>> = LazyLock::new(Mutex::default);

/// A kernel, whose module is loaded at first use, and the stream of the device.
fn function(
    dev: &CudaDevice,
    module: Module,
    name: &str,
) -> Result<(CudaFunction, Arc<CudaStream>)> {
    let stream = dev.cuda_stream();
    let known = FUNCTIONS.with_borrow(|all| all.get(&dev.id())?.get(name).cloned());
    let function = match known {
        Some(known) => known,
        None => {
            let found = loaded(dev, module)?.load_function(name).map_err(Error::wrap)?;
            FUNCTIONS.with_borrow_mut(|all| {
                all.entry(dev.id()).or_default().insert(name.to_owned(), found.clone())
            });
            found
        }
    };
    Ok((function, stream))
}

fn loaded(dev: &CudaDevice, module: Module) -> Result<Arc<CudaModule>> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (dev.id(), module.name);
    if let Some(known) = modules.get(&key) {
        return Ok(known.clone());
    }
    let image = Ptx::from_binary(module.image.to_vec());
    let found = dev.cuda_stream().context().load_module(image).map_err(Error::wrap)?;
    modules.insert(key, found.clone());
    Ok(found)
}

/// Queues a kernel: `launch!(device, MODULE, name, config, [arguments])`. Arguments are addresses (`u64`) and numbers of
/// exactly the kernel's types.
macro_rules! launch {
    ($dev:expr, $module:expr, $name:expr, $config:expr, [$($arg:expr),* $(,)?]) => {{
        use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
        let name: &str = &$name;
        let (function, stream) = $crate::cuda::function($dev, $module, name)?;
        let mut builder = stream.launch_builder(&function);
        $(let arg = $arg; builder.arg(&arg);)*
        let config = $config;
        // SAFETY: the arguments have the number and types of the kernel's; addresses are those of live tensors of the sizes
        // passed beside them. `selftest` runs each kernel on odd sizes.
        let queued = unsafe { builder.launch(config) };
        if let Err(error) = queued {
            candle_core::bail!("CUDA kernel {name}: {error}");
        }
    }};
}
pub(crate) use launch;

/// `t` in order, beginning where four elements can be loaded at once: itself, or a copy.
pub(crate) fn whole(t: &Tensor) -> Result<Tensor> {
    let start = t.layout().start_offset();
    if t.is_contiguous() && !start.is_multiple_of(4) {
        t.force_contiguous()
    } else {
        t.contiguous()
    }
}

/// `t` in f32, as [`whole`].
pub(crate) fn f32_of(t: &Tensor) -> Result<Tensor> {
    whole(&t.to_dtype(DType::F32)?)
}

/// A size as a kernel's `int`.
pub(crate) fn int(n: usize) -> Result<i32> {
    match i32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("a size of {n} is too large for a CUDA kernel"),
    }
}
