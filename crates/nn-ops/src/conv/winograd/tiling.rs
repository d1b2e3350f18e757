//! How maps are cut into tiles, and the loops that carry tiles of one channel through the transforms.

use std::ops::Range;

use super::transform::{LANES, Lanes, input, output, output_adjoint};
use crate::kernel::{COLUMNS, Real, wide};

/// Outputs of a tile, each way.
pub(super) const OUT: usize = 4;
/// Inputs and products of a tile, each way.
pub(super) const IN: usize = 6;
/// Products of a tile.
pub(super) const POINTS: usize = IN * IN;

/// A 3x3 convolution of stride 1, from `(b, k, h, w)` to `(b, m, ho, wo)`, its output cut into tiles of 4x4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    pub(super) b: usize,
    pub(super) k: usize,
    pub(super) m: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) ph: usize,
    pub(super) pw: usize,
    pub(super) ho: usize,
    pub(super) wo: usize,
}

impl Tiling {
    /// Rows of tiles of one image.
    pub(super) fn down(&self) -> usize {
        self.ho.div_ceil(OUT)
    }
    /// Tiles of a row.
    pub(super) fn across(&self) -> usize {
        self.wo.div_ceil(OUT)
    }
    /// Rows of tiles of the whole batch, one image after another.
    pub(super) fn rows(&self) -> usize {
        self.b * self.down()
    }
    /// Tiles of a run of rows, filled up to whole panels.
    pub(super) fn padded(&self, rows: &Range<usize>) -> usize {
        (rows.len() * self.across()).next_multiple_of(COLUMNS)
    }
    /// Length of one of the 36 lines a channel's tiles are written to: vector stores run past the last tile.
    pub(super) fn line(&self, rows: &Range<usize>) -> usize {
        self.padded(rows) + LANES
    }
    /// Runs of about `tiles` tiles, all as long as the longest within one row.
    pub(super) fn blocks(&self, tiles: usize) -> Vec<Range<usize>> {
        let most = (tiles / self.across()).clamp(1, self.rows());
        let each = self.rows().div_ceil(self.rows().div_ceil(most));
        (0..self.rows()).step_by(each).map(|r| r..(r + each).min(self.rows())).collect()
    }
    /// Output rows of an image that a row of tiles covers.
    pub(super) fn covered(&self, down: usize) -> Range<usize> {
        down * OUT..(down * OUT + OUT).min(self.ho)
    }
}

#[inline(always)]
fn load<T: Real>(from: &[T], at: usize) -> Lanes<T> {
    let mut lanes = [T::default(); LANES];
    lanes.copy_from_slice(&from[at..at + LANES]);
    lanes
}

/// A row as four rows of every fourth value, `span` apart: then tiles lie side by side.
#[inline(always)]
fn deal<T: Real>(row: &[T], phases: &mut [T], span: usize) {
    let (a, rest) = phases.split_at_mut(span);
    let (b, rest) = rest.split_at_mut(span);
    let (c, d) = rest.split_at_mut(span);
    for ((((v, a), b), c), d) in row.chunks_exact(OUT).zip(a).zip(b).zip(c).zip(d) {
        (*a, *b, *c, *d) = (v[0], v[1], v[2], v[3]);
    }
}

/// Both passes of a transform `N` to `M` on a tile: columns, then rows.
#[inline(always)]
pub(super) fn square<T: Real, const N: usize, const M: usize>(
    tile: &[[Lanes<T>; N]; N],
    one: impl Fn([Lanes<T>; N]) -> [Lanes<T>; M],
) -> [[Lanes<T>; M]; M] {
    let mut half = [[[T::default(); LANES]; N]; M];
    for q in 0..N {
        let column = one(std::array::from_fn(|r| tile[r][q]));
        for (half, v) in half.iter_mut().zip(column) {
            half[q] = v;
        }
    }
    let mut out = [[[T::default(); LANES]; M]; M];
    for (out, half) in out.iter_mut().zip(half) {
        *out = one(half);
    }
    out
}

wide! {
    /// `Bᵀ d B` of every tile of channel `c` in a run of rows: 36 lines of `line(rows)` values in `out`, zero past the last
    /// tile. `scratch` is resized.
    pub(super) fn input_lines(t: &Tiling, x: &[T], c: usize, rows: Range<usize>, scratch: &mut Vec<T>, out: &mut [T]) {
        let (across, line) = (t.across(), t.line(&rows));
        let span = across.next_multiple_of(LANES) + LANES;
        scratch.clear();
        scratch.resize(2 * IN * OUT * span + OUT * span, T::default());
        let (phases, rest) = scratch.split_at_mut(IN * OUT * span);
        let (half, padded) = rest.split_at_mut(IN * OUT * span);
        for (n, r) in rows.clone().enumerate() {
            let (image, down) = (r / t.down(), r % t.down());
            let plane = &x[(image * t.k + c) * t.h * t.w..][..t.h * t.w];
            for (i, phases) in phases.chunks_exact_mut(OUT * span).enumerate() {
                let Some(y) = (down * OUT + i).checked_sub(t.ph).filter(|y| *y < t.h) else {
                    phases.fill(T::default());
                    continue;
                };
                padded[t.pw..t.pw + t.w].copy_from_slice(&plane[y * t.w..(y + 1) * t.w]);
                deal(padded, phases, span);
            }
            for j in (0..OUT * span).step_by(LANES) {
                let column = input(std::array::from_fn(|i| load(phases, i * OUT * span + j)));
                for (i, v) in column.iter().enumerate() {
                    half[i * OUT * span + j..][..LANES].copy_from_slice(v);
                }
            }
            for (i, half) in half.chunks_exact(OUT * span).enumerate() {
                for j in (0..across).step_by(LANES) {
                    let found = input([
                        load(half, j),
                        load(half, span + j),
                        load(half, 2 * span + j),
                        load(half, 3 * span + j),
                        load(half, j + 1),
                        load(half, span + j + 1),
                    ]);
                    for (q, v) in found.iter().enumerate() {
                        out[(i * IN + q) * line + n * across + j..][..LANES].copy_from_slice(v);
                    }
                }
            }
        }
        for line in out.chunks_exact_mut(line) {
            line[rows.len() * across..].fill(T::default());
        }
    }
}

/// What happens to a sum before it is written: `max(v * scale + shift, floor)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish<T> {
    pub(crate) scale: T,
    pub(crate) shift: T,
    pub(crate) floor: T,
}

impl<T: Real> Finish<T> {
    /// `v + shift`.
    pub(crate) fn shift(shift: T) -> Self {
        Self { scale: T::of(1.0), shift, floor: T::NEG_INF }
    }
    /// On values as they stand.
    pub(crate) fn apply(self, values: &mut [T]) {
        if self.scale != T::of(1.0) || self.shift != T::default() || self.floor != T::NEG_INF {
            finish(values, self);
        }
    }
}

wide! {
    fn finish(values: &mut [T], by: Finish<T>) {
        for v in values {
            *v = (*v * by.scale + by.shift).larger(by.floor);
        }
    }
}

wide! {
    /// `Aᵀ m A` of a run of rows of tiles of one channel. `products` starts at the channel; the 36 values of a tile lie
    /// `step` apart. `parts`: the output rows the run covers, one slice for each image it touches.
    pub(super) fn output_rows(t: &Tiling, products: &[T], step: usize, rows: Range<usize>, finish: Finish<T>, parts: &mut [&mut [T]]) {
        let across = t.across();
        let span = across.next_multiple_of(LANES) * OUT;
        let mut lines = vec![T::default(); OUT * span];
        let mut part = 0;
        let mut at = 0;
        for (n, r) in rows.clone().enumerate() {
            let down = r % t.down();
            if n > 0 && down == 0 {
                (part, at) = (part + 1, 0);
            }
            for j in (0..across).step_by(LANES) {
                let mut tile = [[[T::default(); LANES]; IN]; IN];
                for (i, row) in tile.iter_mut().enumerate() {
                    for (q, v) in row.iter_mut().enumerate() {
                        *v = load(products, (i * IN + q) * step + n * across + j);
                    }
                }
                for (i, row) in square(&tile, output).iter().enumerate() {
                    let line = &mut lines[i * span + j * OUT..][..LANES * OUT];
                    for l in 0..LANES {
                        for q in 0..OUT {
                            let v = row[q][l] * finish.scale + finish.shift;
                            line[l * OUT + q] = v.larger(finish.floor);
                        }
                    }
                }
            }
            for i in 0..t.covered(down).len() {
                parts[part][at..at + t.wo].copy_from_slice(&lines[i * span..i * span + t.wo]);
                at += t.wo;
            }
        }
    }
}

wide! {
    /// `A dy Aᵀ` of every tile of channel `c` of the output's gradient: lines as those of `input_lines`.
    pub(super) fn gradient_lines(t: &Tiling, dy: &[T], c: usize, rows: Range<usize>, scratch: &mut Vec<T>, out: &mut [T]) {
        let (across, line) = (t.across(), t.line(&rows));
        let span = across.next_multiple_of(LANES);
        scratch.clear();
        scratch.resize(OUT * OUT * span + IN * OUT * span + OUT * span, T::default());
        let (phases, rest) = scratch.split_at_mut(OUT * OUT * span);
        let (half, padded) = rest.split_at_mut(IN * OUT * span);
        for (n, r) in rows.clone().enumerate() {
            let (image, down) = (r / t.down(), r % t.down());
            let plane = &dy[(image * t.m + c) * t.ho * t.wo..][..t.ho * t.wo];
            let covered = t.covered(down);
            for (i, phases) in phases.chunks_exact_mut(OUT * span).enumerate() {
                let y = covered.start + i;
                if y >= covered.end {
                    phases.fill(T::default());
                    continue;
                }
                padded[..t.wo].copy_from_slice(&plane[y * t.wo..(y + 1) * t.wo]);
                deal(padded, phases, span);
            }
            for j in (0..OUT * span).step_by(LANES) {
                let column = output_adjoint(std::array::from_fn(|i| load(phases, i * OUT * span + j)));
                for (i, v) in column.iter().enumerate() {
                    half[i * OUT * span + j..][..LANES].copy_from_slice(v);
                }
            }
            for (i, half) in half.chunks_exact(OUT * span).enumerate() {
                for j in (0..across).step_by(LANES) {
                    let found = output_adjoint(std::array::from_fn(|q| load(half, q * span + j)));
                    for (q, v) in found.iter().enumerate() {
                        out[(i * IN + q) * line + n * across + j..][..LANES].copy_from_slice(v);
                    }
                }
            }
        }
        for line in out.chunks_exact_mut(line) {
            line[rows.len() * across..].fill(T::default());
        }
    }
}
