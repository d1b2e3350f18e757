//! Over all parameters in one launch: the norm of their gradients, its scaling, AdamW.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::{OPTIM, Output, device, grid, int, launch, open};

/// Elements a block walks.
const CHUNK: usize = 1 << 14;

/// One parameter as the kernels see it; the layout is that of `Slot` in `optim.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Slot {
    p: u64,
    m: u64,
    v: u64,
    g: u64,
    n: u64,
    keep: f32,
    step: f32,
    root: f32,
    unused: f32,
}
// SAFETY: plain numbers without padding (5 x 8 + 4 x 4 bytes), copied to the device byte for byte.
unsafe impl DeviceRepr for Slot {}
const _: () = assert!(size_of::<Slot>() == 5 * 8 + 4 * 4);

/// A piece of a parameter.
#[repr(C)]
#[derive(Clone, Copy)]
struct Chunk {
    slot: u32,
    start: u32,
}
// SAFETY: two plain numbers without padding.
unsafe impl DeviceRepr for Chunk {}
const _: () = assert!(size_of::<Chunk>() == 2 * 4);

struct Table {
    dev: CudaDevice,
    slots: CudaSlice<Slot>,
    chunks: CudaSlice<Chunk>,
    blocks: usize,
}

impl Table {
    fn new(dev: CudaDevice, slots: &[Slot]) -> Result<Self> {
        let mut chunks = Vec::new();
        for (i, slot) in slots.iter().enumerate() {
            if slot.n > u64::from(u32::MAX) {
                bail!("a parameter of {} numbers is too large for the optimiser", slot.n);
            }
            let starts = (0..slot.n as usize).step_by(CHUNK);
            chunks.extend(starts.map(|start| Chunk { slot: i as u32, start: start as u32 }));
        }
        let (slots, blocks) = (dev.clone_htod(slots)?, chunks.len());
        let chunks = dev.clone_htod(&chunks)?;
        Ok(Self { dev, slots, chunks, blocks })
    }

    fn of_gradients(grads: &[&Tensor]) -> Result<Option<Self>> {
        let Some(first) = grads.first() else { return Ok(None) };
        let slots = grads
            .iter()
            .map(|g| Ok(Slot { g: open(g)?.at, n: g.elem_count() as u64, ..Slot::default() }));
        Self::new(device(first)?, &slots.collect::<Result<Vec<_>>>()?).map(Some)
    }

    /// Addresses of the two tables.
    fn at(&self) -> (u64, u64) {
        use candle_core::cuda_backend::cudarc::driver::DevicePtr;
        let stream = self.dev.cuda_stream();
        (self.slots.device_ptr(&stream).0, self.chunks.device_ptr(&stream).0)
    }
}

/// Whether the kernels take these gradients: contiguous f32 on one GPU.
fn takes(grads: &[&Tensor]) -> bool {
    grads.iter().all(|g| {
        g.device().is_cuda() && g.dtype() == DType::F32 && g.is_contiguous() && g.elem_count() > 0
    })
}

/// Euclidean norm over all; none when the kernels do not take them. Waits for the device once.
pub(crate) fn norm_of(grads: &[&Tensor]) -> Result<Option<f64>> {
    if !takes(grads) {
        return Ok(None);
    }
    let Some(table) = Table::of_gradients(grads)? else { return Ok(Some(0.0)) };
    let (slots, chunks) = table.at();
    let part = Output::new(&table.dev, table.blocks, DType::F64)?;
    launch!(
        &table.dev,
        OPTIM,
        "squares",
        grid((table.blocks, 1, 1), (256, 1))?,
        [part.at, slots, chunks, int(CHUNK)?]
    );
    let total = Output::new(&table.dev, 1, DType::F64)?;
    launch!(
        &table.dev,
        OPTIM,
        "total",
        grid((1, 1, 1), (256, 1))?,
        [total.at, part.at, int(table.blocks)?]
    );
    Ok(Some(total.tensor().to_vec1::<f64>()?[0].sqrt()))
}

/// Multiplies all by `factor`, in place; false when the kernels do not take them.
pub(crate) fn scale_all(grads: &[&Tensor], factor: f64) -> Result<bool> {
    if !takes(grads) {
        return Ok(false);
    }
    if let Some(table) = Table::of_gradients(grads)? {
        let (slots, chunks) = table.at();
        launch!(
            &table.dev,
            OPTIM,
            "scale",
            grid((table.blocks, 1, 1), (256, 1))?,
            [slots, chunks, int(CHUNK)?, factor as f32]
        );
    }
    Ok(true)
}

/// One parameter of an AdamW step, its moments and its gradient, all f32 and contiguous on one device; and its constants.
pub(crate) struct Moved<'a> {
    pub(crate) tensors: [&'a Tensor; 4],
    pub(crate) keep: f64,
    pub(crate) step_size: f64,
    pub(crate) root_correction: f64,
}

/// AdamW over all of `moved` in one launch.
pub(crate) fn adamw(moved: &[Moved], beta1: f64, beta2: f64, eps: f64) -> Result<()> {
    let Some(first) = moved.first() else { return Ok(()) };
    let slots = moved.iter().map(|one| {
        let [p, m, v, g] = one.tensors;
        Ok(Slot {
            p: open(p)?.at,
            m: open(m)?.at,
            v: open(v)?.at,
            g: open(g)?.at,
            n: p.elem_count() as u64,
            keep: one.keep as f32,
            step: one.step_size as f32,
            root: one.root_correction as f32,
            unused: 0.0,
        })
    });
    let table = Table::new(device(first.tensors[0])?, &slots.collect::<Result<Vec<_>>>()?)?;
    let (slots, chunks) = table.at();
    launch!(
        &table.dev,
        OPTIM,
        "adamw",
        grid((table.blocks, 1, 1), (256, 1))?,
        [
            slots,
            chunks,
            int(CHUNK)?,
            (1.0 - beta1) as f32,
            beta2 as f32,
            (1.0 - beta2) as f32,
            eps as f32
        ]
    );
    Ok(())
}
