//! Copies to the device from page-locked memory.

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, PinnedHostSlice, ValidAsZeroBits};
use candle_core::{CpuStorage, CudaDevice, Device, Error, Result, Storage, Tensor, WithDType};

use super::Output;

/// Page-locked memory for so many numbers of a type.
#[derive(Debug)]
pub(crate) enum Pinned {
    F32(PinnedHostSlice<f32>),
    U32(PinnedHostSlice<u32>),
    U8(PinnedHostSlice<u8>),
}

/// A tensor on the device: through `held`, which is made anew if it does not fit. Types that batches do not have and tensors
/// on a device go Candle's way.
pub(crate) fn upload(dev: &CudaDevice, t: &Tensor, held: &mut Option<Pinned>) -> Result<Tensor> {
    let whole = t.contiguous()?;
    let (storage, layout) = whole.storage_and_layout();
    let range = layout.contiguous_offsets();
    let by_candle = || t.to_device(&Device::Cuda(dev.clone()));
    macro_rules! through {
        ($values:expr, $kind:ident) => {{
            let values = &$values[range.map_or(0..0, |(from, to)| from..to)];
            let mut pinned = match held.take() {
                Some(Pinned::$kind(pinned)) if pinned.len() == values.len() => pinned,
                _ => match pinned_memory(dev, values.len()) {
                    Ok(pinned) => pinned,
                    // There is a limit to what may be locked.
                    Err(_) => return by_candle(),
                },
            };
            let placed = copy(dev, t, values, &mut pinned)?;
            *held = Some(Pinned::$kind(pinned));
            Ok(placed)
        }};
    }
    match &*storage {
        _ if t.elem_count() == 0 => by_candle(),
        Storage::Cpu(CpuStorage::F32(values)) => through!(values, F32),
        Storage::Cpu(CpuStorage::U32(values)) => through!(values, U32),
        Storage::Cpu(CpuStorage::U8(values)) => through!(values, U8),
        _ => by_candle(),
    }
}

fn pinned_memory<T: DeviceRepr>(dev: &CudaDevice, n: usize) -> Result<PinnedHostSlice<T>> {
    // SAFETY: it is filled before it is read; any bits are valid numbers.
    unsafe { dev.cuda_stream().context().alloc_pinned(n) }.map_err(Error::wrap)
}

fn copy<T: WithDType + CudaDType + DeviceRepr + ValidAsZeroBits>(
    dev: &CudaDevice,
    t: &Tensor,
    values: &[T],
    pinned: &mut PinnedHostSlice<T>,
) -> Result<Tensor> {
    // Waits until the copy before has read it.
    pinned.as_mut_slice().map_err(Error::wrap)?.copy_from_slice(values);
    let mut out = Output::new(dev, t.shape(), t.dtype())?;
    let to = out.storage.as_cuda_slice_mut::<T>()?;
    dev.cuda_stream().memcpy_htod(&*pinned, to).map_err(Error::wrap)?;
    Ok(out.tensor())
}
