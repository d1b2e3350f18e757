//! Many parameters rounded to bf16 by few launches.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{DType, Result, Tensor};

use super::{ELEMENTWISE, Output, device, grid, launch, open, whole};

/// Tensors of a launch; all that a kernel's arguments have room for.
const MANY: usize = 120;
/// Elements of a block.
const EACH: usize = 4096;
/// Each begins at a multiple of so many elements, where products can load from.
const ALIGNED: usize = 128;

/// `Casts` of elementwise.cu.
#[derive(Clone, Copy)]
#[repr(C)]
struct Casts {
    from: [u64; MANY],
    to: [u64; MANY],
    n: [u32; MANY],
    first: [u32; MANY],
    count: i32,
}

// SAFETY: numbers in C's layout, the same as in elementwise.cu.
unsafe impl DeviceRepr for Casts {}
const _: () = assert!(size_of::<Casts>() == 24 * MANY + 8);

/// The same values in bf16, side by side in one piece of memory. All are f32 on one GPU.
pub(crate) fn to_bf16(all: &[Tensor]) -> Result<Vec<Tensor>> {
    let Some(first) = all.first() else { return Ok(Vec::new()) };
    let dev = device(first)?;
    let starts = all.iter().scan(0, |next, t| {
        let start = *next;
        *next += t.elem_count().next_multiple_of(ALIGNED);
        Some(start)
    });
    let starts: Vec<usize> = starts.collect();
    let total = all.iter().map(|t| t.elem_count().next_multiple_of(ALIGNED)).sum::<usize>();
    let memory = Output::new(&dev, total, DType::BF16)?;
    for (some, starts) in all.chunks(MANY).zip(starts.chunks(MANY)) {
        let mut casts =
            Casts { from: [0; MANY], to: [0; MANY], n: [0; MANY], first: [0; MANY], count: 0 };
        let (mut blocks, mut read) = (0, Vec::with_capacity(some.len()));
        for (i, (t, start)) in some.iter().zip(starts).enumerate() {
            let t = whole(&t.detach())?;
            casts.from[i] = open(&t)?.at;
            casts.to[i] = memory.at + (start * DType::BF16.size_in_bytes()) as u64;
            casts.n[i] = u32::try_from(t.elem_count()).map_err(candle_core::Error::wrap)?;
            casts.first[i] = blocks;
            blocks += t.elem_count().div_ceil(EACH) as u32;
            read.push(t);
        }
        casts.count = some.len() as i32;
        launch!(&dev, ELEMENTWISE, "cast_many", grid((blocks as usize, 1, 1), (256, 1))?, [casts]);
    }
    let memory = memory.tensor();
    let placed = all.iter().zip(starts);
    placed.map(|(t, at)| memory.narrow(0, at, t.elem_count())?.reshape(t.shape())).collect()
}
