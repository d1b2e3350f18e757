//! Attention by tiles on tensor cores, bf16 (FlashAttention-2, Dao 2023): scores never reach memory.
//!
//! Heads are read from the projections as they come and written joined. The backward pass computes scores anew from the
//! logarithm of each row's sum, and takes from the forward pass which weights dropout left, a bit each.

use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, LaunchConfig};
use candle_core::{DType, Result, Tensor};

use super::attend::{Pass, Place, Size};
use super::norm::{column_sums_at, sum_of_parts};
use super::{FLASH, FLASH_BACK, Output, device, grid, int, launch, open};

/// Widths of heads that there are kernels for; a narrower head is filled up with zeros.
const WIDTHS: [usize; 4] = [32, 64, 96, 128];
/// Most blocks across the second and third dimension of a grid.
const MOST: usize = 65_535;
/// Multiprocessors that blocks are counted for: those of an H100. A constant, so that sums are the same on every card.
const PROCESSORS: usize = 132;

/// How the rows of a head are shared: rows of a warp, most warps of a block, blocks that a multiprocessor holds.
#[derive(Clone, Copy)]
struct Share(usize, usize, usize);

/// By width, as exported in flash.cu.
const FORWARD: [Share; 4] = [Share(16, 9, 2), Share(32, 4, 2), Share(16, 8, 2), Share(16, 8, 1)];
/// The same of flash_back.cu, along the keys and along the queries.
const BACK_Q: [Share; 4] = [Share(16, 3, 5), Share(16, 8, 1), Share(16, 4, 3), Share(16, 8, 1)];
const BACK_KV: [Share; 4] = [Share(16, 3, 4), Share(16, 8, 1), Share(16, 8, 1), Share(16, 8, 1)];
/// The kernel that sums the gradient of a bias over groups itself, for so many keys and channels at most.
const SUMS: (Share, usize, usize) = (Share(16, 3, 3), 144, 32);

impl Share {
    /// Blocks for `n` rows of each head and group: as many warps as share the rows evenly. Where there is a bias a block takes
    /// several groups, for which it finds the bias near by.
    fn grid(self, n: usize, heads: usize, groups: usize, biased: bool) -> Result<LaunchConfig> {
        let Self(rows, most, held) = self;
        let warps = n.div_ceil(rows);
        let blocks = warps.div_ceil(most);
        let turns = match biased {
            true => (groups * heads * blocks).div_ceil(PROCESSORS * held),
            false => groups.div_ceil(MOST),
        };
        let across = groups.div_ceil(turns).min(MOST);
        grid((blocks, heads, across), (32 * warps.div_ceil(blocks) as u32, 1))
    }
}

/// Whether there is a kernel for this attention.
pub(super) fn fits(dtype: DType, size: Size) -> bool {
    let Size { heads, queries, keys, width, .. } = size;
    let scores = queries.saturating_mul(keys); // of a head; numbers of them are `int`
    let sizes = heads <= MOST && scores <= i32::MAX as usize;
    dtype == DType::BF16 && width.is_multiple_of(8) && width <= 128 && sizes
}

/// `t` beginning where eight elements can be loaded at once: itself, or a copy.
pub(super) fn aligned(t: Tensor) -> Result<Tensor> {
    if t.layout().start_offset().is_multiple_of(8) { Ok(t) } else { t.force_contiguous() }
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
    sums: u64,
    key: u64,
    wide: [i32; 3],
    first: i32,
    groups: i32,
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
            groups: int(size.groups)?,
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
            (args.k0, args.k1, args.key) = (d.key as u32, (d.key >> 32) as u32, d.at);
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
        let config = FORWARD[i].grid(queries, heads, groups, bias.is_some())?;
        launch!(&dev, FLASH, format!("flash_{}", WIDTHS[i]), config, [args]);
        Ok((out, left))
    }

    /// As [`Pass::backward`], of the result `out`.
    pub(super) fn flash_backward(
        &self,
        inputs: &[Tensor],
        bias: Option<&Tensor>,
        left: &Left,
        (out, grad): (&Tensor, &Tensor),
    ) -> Result<Vec<Tensor>> {
        let dev = device(&inputs[0])?;
        let Size { groups, heads, queries, keys, width } = self.size;
        let grad = aligned(grad.clone())?;
        let dot = Output::new(&dev, (groups, heads, queries), DType::F32)?;
        let found = inputs.iter().map(|t| Output::new(&dev, t.shape(), DType::BF16));
        let found = found.collect::<Result<Vec<_>>>()?;
        let [dq, dk, dv] = self.places.map(|p| begin(found[p.input].at, p, self.size));
        let args = self.args(inputs, bias, left)?;
        let (out, grad) = (open(out)?.at, open(&grad)?.at);
        let args = Args { out, grad, dot: dot.at, dq, dk, dv, ..args };
        let rows = groups * heads * queries;
        let four_each = grid(((4 * rows).div_ceil(256), 1, 1), (256, 1))?;
        launch!(&dev, FLASH_BACK, "flash_dot", four_each, [args, rows as u64]);
        let (i, biased) = (kernel(width), bias.is_some());
        let config = BACK_KV[i].grid(keys, heads, groups, biased)?;
        launch!(&dev, FLASH_BACK, format!("flash_back_kv_{}", WIDTHS[i]), config, [args]);

        let name = format!("flash_back_q_{}", WIDTHS[i]);
        let of_bias = match SUMS {
            _ if !biased => {
                let config = BACK_Q[i].grid(queries, heads, groups, false)?;
                launch!(&dev, FLASH_BACK, name, config, [args]);
                None
            }
            (share, most, wide) if keys <= most && width <= wide => {
                let config = share.grid(queries, heads, groups, true)?;
                let across = config.grid_dim.2 as usize;
                let sums = Output::new(&dev, (across, heads * queries * keys), DType::F32)?;
                let args = Args { sums: sums.at, ..args };
                launch!(&dev, FLASH_BACK, format!("flash_back_q_sums_{wide}"), config, [args]);
                Some(sum_of_parts(sums)?)
            }
            _ => {
                // The gradients of scores are written, some groups at a time, and summed.
                let chunk = self.size.chunk(DType::BF16, self.at_once);
                let ds = Output::new(&dev, (chunk, heads * queries * keys), DType::BF16)?;
                let mut all: Option<Tensor> = None;
                for from in (0..groups).step_by(chunk) {
                    let count = chunk.min(groups - from);
                    let args = Args { first: int(from)?, groups: int(count)?, ds: ds.at, ..args };
                    let config = BACK_Q[i].grid(queries, heads, count, true)?;
                    launch!(&dev, FLASH_BACK, name, config, [args]);
                    let size = (count, heads * queries * keys);
                    let part = column_sums_at(&dev, ds.at, size, 1.0, DType::BF16)?;
                    all = Some(match all {
                        Some(sum) => (sum + part)?,
                        None => part,
                    });
                }
                all
            }
        };
        let mut found: Vec<Tensor> = found.into_iter().map(Output::tensor).collect();
        if let Some(db) = of_bias {
            found.push(db.reshape((heads, queries, keys))?);
        }
        Ok(found)
    }
}
