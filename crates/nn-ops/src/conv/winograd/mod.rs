//! 3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3).
//!
//! Tiles of 4x4 outputs need 36 products a pair of channels instead of 144. A block of tiles is transformed
//! (`tiling`), multiplied by the transformed filters (`weights`) as 36 matrix products, and transformed back, in pieces
//! small enough for the second-level cache. Sums over channels are taken in an order that the sizes alone decide.

mod gradient;
mod tiling;
mod transform;
mod weights;

use std::ops::Range;

use rayon::prelude::*;

use super::image::Geometry;
use crate::kernel::{COLUMNS, ROWS, Real, Scratch, panel_product};
use tiling::{OUT, POINTS, Tiling, input_lines, output_rows};
use weights::{Filters, Split, Taps};

pub(crate) use gradient::weight_gradient;
pub(crate) use tiling::Finish;

/// Tiles of a block that all threads work on together.
const BLOCK: usize = 256;
/// Tiles of a block of one thread: the largest of these that makes two blocks a thread.
const SMALL_BLOCKS: [usize; 4] = [96, 64, 32, COLUMNS];
/// Transformed weights (values) that several blocks may share at the same time without leaving the cache.
const SHARED: usize = 1 << 20;

/// Whether a convolution is of the kind, and large enough to gain.
pub(crate) fn fits(g: &Geometry) -> bool {
    let tiles = g.b * g.ho.div_ceil(OUT) * g.wo.div_ceil(OUT);
    g.kh == 3
        && g.kw == 3
        && g.stride == 1
        && g.ph <= 2
        && g.pw <= 2
        && g.c_in.min(g.c_out) >= 32
        && tiles >= 32
        // On narrow maps the transforms fill few lanes: only many channels pay for them.
        && (g.wo > 2 * OUT || g.c_in.min(g.c_out) >= 128)
}

fn forward_tiling(g: &Geometry) -> Tiling {
    let Geometry { b, c_in: k, c_out: m, h, w, ph, pw, ho, wo, .. } = *g;
    Tiling { b, k, m, h, w, ph, pw, ho, wo }
}

/// `(B, Cin, h, w)` to `(B, Cout, ho, wo)`; `finish` gives what is done to each output channel.
pub(crate) fn forward<T: Real>(
    g: &Geometry,
    x: &[T],
    w: &[T],
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
    y: &mut [T],
) {
    let t = forward_tiling(g);
    convolve(&t, &filters(&t, w, Taps::Forward), x, finish, y);
}

/// The gradient of the input: a convolution of the output's gradient with the filters turned round.
pub(crate) fn input_gradient<T: Real>(g: &Geometry, w: &[T], dy: &[T], dx: &mut [T]) {
    let t = Tiling {
        b: g.b,
        k: g.c_out,
        m: g.c_in,
        h: g.ho,
        w: g.wo,
        ph: 2 - g.ph,
        pw: 2 - g.pw,
        ho: g.h,
        wo: g.w,
    };
    convolve(&t, &filters(&t, w, Taps::Backward), dy, &|_| Finish::shift(T::default()), dx);
}

fn filters<'a, T>(t: &Tiling, w: &'a [T], taps: Taps) -> Filters<'a, T> {
    Filters { w, taps, split: Split::new(t.m, t.k), m: t.m }
}

/// The output rows of one channel that a block covers, one slice for each image.
type Parts<'a, T> = Vec<&'a mut [T]>;

/// Cuts the output into the parts of each block and channel.
fn cut<'a, T>(t: &Tiling, blocks: &[Range<usize>], y: &'a mut [T]) -> Vec<Vec<Parts<'a, T>>> {
    let mut parts: Vec<Vec<Parts<'a, T>>> =
        blocks.iter().map(|_| (0..t.m).map(|_| Vec::new()).collect()).collect();
    for (i, mut plane) in y.chunks_exact_mut(t.ho * t.wo).enumerate() {
        let (image, c) = (i / t.m, i % t.m);
        let of_image = image * t.down()..(image + 1) * t.down();
        for (block, parts) in blocks.iter().zip(&mut parts) {
            let (start, end) = (block.start.max(of_image.start), block.end.min(of_image.end));
            if start < end {
                let rows = t.covered(start % t.down()).start..t.covered((end - 1) % t.down()).end;
                let (part, rest) = plane.split_at_mut(rows.len() * t.wo);
                plane = rest;
                parts[c].push(part);
            }
        }
    }
    parts
}

fn convolve<T: Real>(
    t: &Tiling,
    filters: &Filters<T>,
    x: &[T],
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
    y: &mut [T],
) {
    let split = &filters.split;
    let enough = 2 * rayon::current_num_threads();
    let small = SMALL_BLOCKS.iter().map(|tiles| t.blocks(*tiles)).find(|b| b.len() >= enough);
    let small = small.filter(|_| filters.len(t.k) <= SHARED);
    let alone = small.is_some();
    let blocks = small.unwrap_or_else(|| t.blocks(BLOCK));
    let parts = cut(t, &blocks, y);
    let work = blocks.iter().zip(parts);
    if alone {
        // Small filters are transformed once for all blocks.
        let mut all = Scratch::new(filters.len(t.k));
        for (k0, depth) in split.depths() {
            filters.transform((k0, depth), &mut all[filters.len(k0)..filters.len(k0 + depth)]);
        }
        work.collect::<Vec<_>>()
            .into_par_iter()
            .for_each(|(rows, parts)| block(t, filters, Some(&all), x, rows, finish, parts));
    } else {
        work.for_each(|(rows, parts)| block(t, filters, None, x, rows, finish, parts));
    }
}

/// One block of tiles. Without filters `transformed` for all blocks, each run of channels of them is when its turn comes:
/// four times the weights would not stay in a cache either, and need not lie in memory.
fn block<T: Real>(
    t: &Tiling,
    filters: &Filters<T>,
    transformed: Option<&[T]>,
    x: &[T],
    rows: &Range<usize>,
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
    mut parts: Vec<Parts<T>>,
) {
    let split = &filters.split;
    let (padded, m) = (t.padded(rows), split.panels * ROWS);
    let mut tiles = Scratch::new(POINTS * padded * t.k);
    tiles
        .par_chunks_mut(POINTS * padded * split.depth)
        .zip(split.depths().collect::<Vec<_>>())
        .for_each(|(out, (k0, depth))| transform_inputs(t, x, rows, k0..k0 + depth, out));
    // A few values more than needed, so that the 36 products do not share cache sets.
    let step = padded * m + COLUMNS;
    let mut products = Scratch::new(POINTS * step);
    let mut own = Scratch::new(if transformed.is_some() { 0 } else { filters.len(split.depth) });
    for (k0, depth) in split.depths() {
        let run = match transformed {
            Some(all) => &all[filters.len(k0)..filters.len(k0 + depth)],
            None => {
                filters.transform((k0, depth), &mut own[..filters.len(depth)]);
                &own[..filters.len(depth)]
            }
        };
        // The tiles of a run of channels stay in the second-level cache while all filters go by.
        let tiles = &tiles[POINTS * padded * k0..][..POINTS * padded * depth];
        products.par_chunks_mut(step).enumerate().for_each(|(point, out)| {
            let tiles = &tiles[point * padded * depth..][..padded * depth];
            multiply(split, run, tiles, point, &mut out[..padded * m], k0 > 0);
        });
    }
    parts.par_iter_mut().enumerate().with_min_len(4).for_each(|(c, parts)| {
        let from = &products[c * padded..];
        output_rows(t, from, step, rows.clone(), finish(c), parts);
    });
}

/// The tiles of some channels, in panels: for each of the 36 points, for each panel, a row a channel.
fn transform_inputs<T: Real>(
    t: &Tiling,
    x: &[T],
    rows: &Range<usize>,
    channels: Range<usize>,
    out: &mut [T],
) {
    let (line, depth) = (t.line(rows), channels.len());
    let panels = t.padded(rows) / COLUMNS;
    let (mut scratch, mut lines) = (Vec::new(), vec![T::default(); POINTS * line]);
    for (i, c) in channels.enumerate() {
        input_lines(t, x, c, rows.clone(), &mut scratch, &mut lines);
        for (f, line) in lines.chunks_exact(line).enumerate() {
            for (p, v) in line.chunks_exact(COLUMNS).take(panels).enumerate() {
                out[((f * panels + p) * depth + i) * COLUMNS..][..COLUMNS].copy_from_slice(v);
            }
        }
    }
}

/// The products of one of the 36 points: its filters, `(m, depth)`, times its tiles, `(depth, padded)`; added to `out`
/// after the first run of channels.
fn multiply<T: Real>(
    split: &Split,
    filters: &[T],
    tiles: &[T],
    point: usize,
    out: &mut [T],
    add: bool,
) {
    let padded = out.len() / (split.panels * ROWS);
    let depth = tiles.len() / padded;
    let pieces = filters.chunks(POINTS * split.each * ROWS * depth);
    for (filters, out) in pieces.zip(out.chunks_mut(split.each * ROWS * padded)) {
        let m = out.len() / padded;
        let filters = &filters[point * m * depth..][..m * depth];
        panel_product(depth, filters, tiles, out, padded, add);
    }
}
