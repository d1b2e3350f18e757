//! Opening a GPU, and what one asks of it: wait, memory in use, precision of matrix products.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Result};

/// Memory of Candle's pool on a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The most that tensors held at once since the last [`reset_peak`].
    pub peak: u64,
    /// The most that the pool took from the driver since then.
    pub reserved: u64,
}

/// GPU number `index`, with one stream for all threads and a memory pool that keeps what it has.
///
/// # Errors
/// Without the feature `cuda`, without a driver, or when there is no such device. Candle's CUDA library panics where the
/// driver is missing: that is caught and returned as an error.
pub fn cuda(index: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    {
        let opened = std::panic::catch_unwind(|| open::cuda(index));
        match opened {
            Ok(Ok(device)) => Ok(device),
            // Without a backtrace: the reason lies outside this program.
            Ok(Err(error)) => Err(candle_core::Error::Msg(open::reason(&error.to_string()))),
            Err(_) => candle_core::bail!("the CUDA driver (libcuda.so.1) does not answer"),
        }
    }
    #[cfg(not(feature = "cuda"))]
    candle_core::bail!("CUDA device {index}: this program was built without the feature `cuda`")
}

/// Waits until everything queued on the device is done. Nothing to wait for on the CPU.
pub fn synchronize(device: &Device) -> Result<()> {
    device.synchronize()
}

/// Whether f32 products may be rounded to TF32 on a GPU's tensor cores (PyTorch's `allow_tf32`). Off at first. A choice of
/// the process; the CPU is not concerned.
pub fn set_tf32(allowed: bool) {
    #[cfg(feature = "cuda")]
    crate::cuda::set_tf32(allowed);
    #[cfg(not(feature = "cuda"))]
    let _ = allowed;
}

/// Whether linear layers on a CPU may round their factors to bf16, with sums in f32, where the processor multiplies bf16
/// (AVX512-BF16: twice the speed of f32). Off at first. A choice of the process; backward passes, convolutions,
/// attention and GPUs are not concerned. Tells whether this processor does.
pub fn set_bf16_products(allowed: bool) -> bool {
    let can = crate::simd::has_bf16();
    BF16_PRODUCTS.store(allowed && can, Ordering::Relaxed);
    can
}

/// Whether they do.
pub(crate) fn bf16_products() -> bool {
    BF16_PRODUCTS.load(Ordering::Relaxed)
}

static BF16_PRODUCTS: AtomicBool = AtomicBool::new(false);

/// Memory in use; none on the CPU.
pub fn memory(device: &Device) -> Result<Option<DeviceMemory>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(d) => open::memory(d).map(Some),
        _ => Ok(None),
    }
}

/// Starts the peaks of [`memory`] anew.
pub fn reset_peak(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(d) => open::reset_peak(d),
        _ => Ok(()),
    }
}

#[cfg(feature = "cuda")]
pub(crate) use open::{begin_recording, has_room};

#[cfg(feature = "cuda")]
mod open {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicU64, Ordering};

    use candle_core::cuda_backend::cudarc::driver::result::{device as driver_device, mem_pool};
    use candle_core::cuda_backend::cudarc::driver::sys;
    use candle_core::{CudaDevice, Device, Error, Result, bail};

    use super::DeviceMemory;

    /// The oldest compute capability that there are kernels for.
    const OLDEST: (i32, i32) = (8, 0);

    /// Peaks before the last recording was made, in use and reserved: what a pass took then, its recording takes now.
    static BEFORE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

    pub(super) fn cuda(index: usize) -> Result<Device> {
        let device = Device::new_cuda_with_stream(index)?;
        if let Device::Cuda(d) = &device {
            let has = d.cuda_stream().context().compute_capability().map_err(Error::wrap)?;
            if has < OLDEST {
                let ((major, minor), (least, _)) = (has, OLDEST);
                bail!(
                    "GPU {index} has compute capability {major}.{minor}; the kernels need {least}.0 or later (A100, RTX 30 and newer)"
                );
            }
            // SAFETY: all work of a device goes through its one stream, in order; nothing needs events between streams.
            unsafe { d.disable_event_tracking() };
            // By default the pool gives its memory back at every synchronisation, and takes it anew.
            set(d, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
        }
        Ok(device)
    }

    /// An error of the driver in words, on one line.
    pub(super) fn reason(text: &str) -> String {
        let known = [
            (
                "STUB_LIBRARY",
                "there is no CUDA driver on this machine (libcuda.so.1 is not on the library path)",
            ),
            ("NO_DEVICE", "the CUDA driver sees no GPU"),
            ("INVALID_DEVICE", "there is no GPU of this number"),
            (
                "UNSUPPORTED_PTX",
                "the CUDA driver is older than this program; it needs one for CUDA 13 (580 or later)",
            ),
            (
                "SYSTEM_DRIVER_MISMATCH",
                "the CUDA driver and its kernel module are of different versions",
            ),
            ("CUBLAS", "cuBLAS (libcublas.so.13) is not on the library path, or does not start"),
            ("CURAND", "cuRAND (libcurand.so.10) is not on the library path, or does not start"),
        ];
        match known.iter().find(|(code, _)| text.to_uppercase().contains(code)) {
            Some((_, words)) => (*words).to_owned(),
            None => text.lines().next().unwrap_or_default().to_owned(),
        }
    }

    pub(super) fn memory(d: &CudaDevice) -> Result<DeviceMemory> {
        use sys::CUgraphMem_attribute as G;
        use sys::CUmemPool_attribute as A;
        // Recorded functions have memory of their own.
        let peak = get(d, A::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?
            + of_graphs(d, G::CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)?;
        let reserved = get(d, A::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?
            + of_graphs(d, G::CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)?;
        let [peak_before, reserved_before] = BEFORE.each_ref().map(|b| b.load(Ordering::Relaxed));
        Ok(DeviceMemory { peak: peak.max(peak_before), reserved: reserved.max(reserved_before) })
    }

    /// Gives the driver back what the pool holds and nobody uses, for what is about to be recorded. Nothing may be queued.
    pub(crate) fn begin_recording(d: &CudaDevice) -> Result<()> {
        let now = memory(d)?;
        for (before, now) in BEFORE.iter().zip([now.peak, now.reserved]) {
            before.fetch_max(now, Ordering::Relaxed);
        }
        // SAFETY: the pool is the device's own.
        unsafe { mem_pool::trim_to(pool(d)?, 0) }.map_err(Error::wrap)?;
        restart(d)
    }

    /// Whether a pass that took what was taken so far may keep as much for itself: two fifths of the GPU's memory at most.
    pub(crate) fn has_room(d: &CudaDevice) -> Result<bool> {
        let total = d.cuda_stream().context().total_mem().map_err(Error::wrap)?;
        // What recordings that are gone once took is free again.
        let now = get(d, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?
            + of_graphs(d, sys::CUgraphMem_attribute::CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT)?;
        Ok(now <= total as u64 / 5 * 2)
    }

    pub(super) fn reset_peak(d: &CudaDevice) -> Result<()> {
        BEFORE.iter().for_each(|before| before.store(0, Ordering::Relaxed));
        restart(d)
    }

    /// Lets the pool's peaks begin at what is in use.
    fn restart(d: &CudaDevice) -> Result<()> {
        use sys::CUmemPool_attribute as A;
        set(d, A::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)?;
        set(d, A::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, 0)
    }

    fn pool(d: &CudaDevice) -> Result<sys::CUmemoryPool> {
        let device = d.cuda_stream().context().cu_device();
        // SAFETY: the device handle comes from a live context.
        unsafe { driver_device::get_default_mem_pool(device) }.map_err(Error::wrap)
    }

    fn of_graphs(d: &CudaDevice, which: sys::CUgraphMem_attribute) -> Result<u64> {
        let mut value = 0u64;
        let device = d.cuda_stream().context().cu_device();
        // SAFETY: these attributes are 64-bit numbers; `value` is one.
        unsafe {
            sys::cuDeviceGetGraphMemAttribute(device, which, (&raw mut value).cast::<c_void>())
        }
        .result()
        .map_err(Error::wrap)?;
        Ok(value)
    }

    fn get(d: &CudaDevice, which: sys::CUmemPool_attribute) -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: these attributes are 64-bit numbers; `value` is one.
        unsafe { mem_pool::get_attribute(pool(d)?, which, (&raw mut value).cast::<c_void>()) }
            .map_err(Error::wrap)?;
        Ok(value)
    }

    fn set(d: &CudaDevice, which: sys::CUmemPool_attribute, mut value: u64) -> Result<()> {
        // SAFETY: as above.
        unsafe { mem_pool::set_attribute(pool(d)?, which, (&raw mut value).cast::<c_void>()) }
            .map_err(Error::wrap)
    }
}
