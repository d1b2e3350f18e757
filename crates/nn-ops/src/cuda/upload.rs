//! Copies to the device from page-locked memory.

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, DeviceRepr, PinnedHostSlice, ValidAsZeroBits,
};
use candle_core::{CpuStorage, CudaDevice, Device, Error, Result, Storage, Tensor, WithDType};

use super::Output;

/// Page-locked memory for so many numbers of a type.
#[derive(Debug)]
pub(crate) enum Pinned {
    F32(Held<f32>),
    U32(Held<u32>),
    U8(Held<u8>),
}

/// The memory, and the end of the copy out of it. cudarc has an event for that, which it does not record where it does not keep
/// streams in order, and here it does not.
#[derive(Debug)]
pub(crate) struct Held<T> {
    memory: PinnedHostSlice<T>,
    copied: CudaEvent,
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        // It must not go before the copy has read it. There is nobody to tell of an error.
        let _ = self.copied.synchronize();
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> Held<T> {
    fn new(dev: &CudaDevice, n: usize) -> Result<Self> {
        let stream = dev.cuda_stream();
        // SAFETY: it is filled before it is read; any bits are valid numbers.
        let memory = unsafe { stream.context().alloc_pinned(n) }.map_err(Error::wrap)?;
        let copied = stream.context().new_event(None).map_err(Error::wrap)?;
        Ok(Self { memory, copied })
    }
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
                Some(Pinned::$kind(pinned)) if pinned.memory.len() == values.len() => pinned,
                _ => match Held::new(dev, values.len()) {
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

fn copy<T: WithDType + CudaDType + DeviceRepr + ValidAsZeroBits>(
    dev: &CudaDevice,
    t: &Tensor,
    values: &[T],
    held: &mut Held<T>,
) -> Result<Tensor> {
    held.copied.synchronize().map_err(Error::wrap)?;
    held.memory.as_mut_slice().map_err(Error::wrap)?.copy_from_slice(values);
    let mut out = Output::new(dev, t.shape(), t.dtype())?;
    let (to, stream) = (out.storage.as_cuda_slice_mut::<T>()?, dev.cuda_stream());
    stream.memcpy_htod(&held.memory, to).map_err(Error::wrap)?;
    held.copied.record(&stream).map_err(Error::wrap)?;
    Ok(out.tensor())
}
