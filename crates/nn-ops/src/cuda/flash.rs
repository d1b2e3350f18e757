//! Attention by tiles on tensor cores, bf16 (FlashAttention-2, Dao 2023): scores never reach memory.
//!
//! Heads are read from the projections as they come and written joined. The backward pass computes scores anew from the
//! logarithm of each row's sum, and takes from the forward pass which weights dropout left, a bit each.

use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, LaunchConfig};
use candle_core::{DType, Result, Tensor};

use super::attend::{Pass, Place, Size};
use super::{FLASH, Output, device, grid, int, launch, open};

/// Widths of heads that there are kernels for; a narrower head is filled up with zeros.
const WIDTHS: [usize; 4] = [32, 64, 96, 128];
/// Rows of a warp and warps of a block by width, as in flash.cu.
const FORWARD: [(usize, usize); 4] = [(16, 9), (32, 4), (32, 4), (16, 8)];
/// Blocks across the second and third dimension of a grid.
const MOST: usize = 65_535;

/// Whether there is a kernel for this attention.
pub(super) fn fits(dtype: DType, size: Size) -> bool {
    let Size { groups, heads, width, .. } = size;
    dtype == DType::BF16 && width.is_multiple_of(8) && width <= 128 && groups.max(heads) <= MOST
}

/// `t` beginning where eight elements can be loaded at once: itself, or a copy.
pub(super) fn aligned(t: Tensor) -> Result<Tensor> {
    if t.layout().start_offset().is_multiple_of(8) { Ok(t) } else { t.copy() }
}

/// `Flash` of flash.cuh: addresses (0: none) and sizes.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Args {
    q: u64,
    k: u64,
    v: u64,
    bias: u64,
    mask: u64,
    out: u64,
    lse: u64,
    kept: u64,
    grad: u64,
    dot: u64,
    dq: u64,
    dk: u64,
    dv: u64,
    ds: u64,
    wide: [i32; 3],
    first: i32,
    heads: i32,
    queries: i32,
    keys: i32,
    width: i32,
    w: i32,
    nm: i32,
    k0: u32,
    k1: u32,
    threshold: u32,
    scale: f32,
    keep: f32,
}

// SAFETY: numbers in C's layout, the same as in flash.cuh.
unsafe impl DeviceRepr for Args {}

/// What the forward pass leaves for the backward pass.
pub(super) struct Left {
    /// `(G, M, N)` in f32: the binary logarithm of the sum of a row's exponentials.
    lse: Tensor,
    /// `(G, M, N, bytes)` in u8: a bit for each key.
    kept: Option<Tensor>,
}

/// Number of the kernel for a width.
fn kernel(width: usize) -> usize {
    WIDTHS.iter().position(|w| *w >= width).unwrap_or(WIDTHS.len() - 1)
}

/// Blocks for `n` rows of each of `groups`: as many warps as share the rows evenly.
fn blocks(
    (n, heads, groups): (usize, usize, usize),
    (rows, most): (usize, usize),
) -> Result<LaunchConfig> {
    let warps = n.div_ceil(rows);
    let blocks = warps.div_ceil(most);
    grid((blocks, heads, groups), (32 * warps.div_ceil(blocks) as u32, 1))
}

/// Where a part of a projection begins.
fn begin(x: u64, place: Place, size: Size) -> u64 {
    x + (place.part * size.heads * size.width * DType::BF16.size_in_bytes()) as u64
}

impl Pass {
    fn args(&self, inputs: &[Tensor], bias: Option<&Tensor>, left: &Left) -> Result<Args> {
        let size = self.size;
        let at = |p: Place| Ok::<_, candle_core::Error>(begin(open(&inputs[p.input])?.at, p, size));
        let wide = |p: Place| int(p.of * size.heads * size.width);
        let [q, k, v] = self.places;
        let (w, nm) = match &self.mask {
            Some(t) => (t.dim(0)?, t.dim(1)?),
            None => (1, 1),
        };
        let mut args = Args {
            q: at(q)?,
            k: at(k)?,
            v: at(v)?,
            bias: bias.map(open).transpose()?.map_or(0, |t| t.at),
            mask: self.mask.as_ref().map(open).transpose()?.map_or(0, |t| t.at),
            lse: open(&left.lse)?.at,
            kept: left.kept.as_ref().map(open).transpose()?.map_or(0, |t| t.at),
            wide: [wide(q)?, wide(k)?, wide(v)?],
            heads: int(size.heads)?,
            queries: int(size.queries)?,
            keys: int(size.keys)?,
            width: int(size.width)?,
            w: int(w)?,
            nm: int(nm)?,
            scale: self.scale() as f32,
            keep: 1.0,
            ..Args::default()
        };
        if let Some(d) = self.drop {
            (args.k0, args.k1) = (d.key as u32, (d.key >> 32) as u32);
            (args.threshold, args.keep) = (d.threshold, d.scale);
        }
        Ok(args)
    }

    /// As [`Pass::forward`].
    pub(super) fn flash(&self, inputs: &[Tensor], bias: Option<&Tensor>) -> Result<(Output, Left)> {
        let dev = device(&inputs[0])?;
        let Size { groups, heads, queries, keys, width } = self.size;
        let out = Output::new(&dev, (groups, queries, heads * width), DType::BF16)?;
        let lse = Output::new(&dev, (groups, heads, queries), DType::F32)?.tensor();
        let kept = match self.drop {
            None => None,
            Some(_) => {
                let bytes = 2 * keys.div_ceil(16);
                Some(Output::new(&dev, (groups, heads, queries, bytes), DType::U8)?.tensor())
            }
        };
        let left = Left { lse, kept };
        let args = Args { out: out.at, ..self.args(inputs, bias, &left)? };
        let i = kernel(width);
        let config = blocks((queries, heads, groups), FORWARD[i])?;
        launch!(&dev, FLASH, format!("flash_{}", WIDTHS[i]), config, [args]);
        Ok((out, left))
    }
}
