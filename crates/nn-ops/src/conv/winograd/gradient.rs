//! The gradient of the filters: the adjoint of the same algorithm, `dg = Gᵀ [Σ (A dy Aᵀ) ⊙ (Bᵀ x B)] G` over all tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::super::image::Geometry;
use super::tiling::{IN, POINTS, Tiling, gradient_lines, input_lines, square};
use super::transform::{LANES, filter_adjoint};
use super::{BLOCK, forward_tiling};
use crate::kernel::{COLUMNS, ROWS, Real, Scratch, panel_product, wide};

/// Panels of output and of input channels of one piece of work, at most.
const PIECE: (usize, usize) = (16, 6);

/// Adds the gradient of the `(Cout, Cin, 3, 3)` filters to `dw`.
pub(crate) fn weight_gradient<T: Real>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let t = forward_tiling(g);
    let balanced = |n: usize, most: usize| n.div_ceil(n.div_ceil(most).max(n.min(8)));
    let each_m = balanced(t.m.div_ceil(ROWS), PIECE.0) * ROWS;
    let each_k = balanced(t.k.div_ceil(COLUMNS), PIECE.1) * COLUMNS;
    for rows in t.blocks(BLOCK) {
        let padded = t.padded(&rows);
        let mut above = Scratch::new(POINTS * padded * t.m.next_multiple_of(ROWS));
        above.par_chunks_mut(POINTS * padded * each_m).enumerate().for_each(|(i, out)| {
            let channels = i * each_m..t.m.min((i + 1) * each_m);
            panels::<T, ROWS>(&t, &rows, channels, out, |c, scratch, lines| {
                gradient_lines(&t, dy, c, rows.clone(), scratch, lines);
            });
        });
        let mut below = Scratch::new(POINTS * padded * t.k.next_multiple_of(COLUMNS));
        below.par_chunks_mut(POINTS * padded * each_k).enumerate().for_each(|(i, out)| {
            let channels = i * each_k..t.k.min((i + 1) * each_k);
            panels::<T, COLUMNS>(&t, &rows, channels, out, |c, scratch, lines| {
                input_lines(&t, x, c, rows.clone(), scratch, lines);
            });
        });
        dw.par_chunks_mut(each_m * t.k * 9)
            .zip(above.par_chunks(POINTS * padded * each_m))
            .for_each(|(dw, above)| {
                for (i, below) in below.chunks(POINTS * padded * each_k).enumerate() {
                    multiply(padded, above, below, (t.k, i * each_k), dw);
                }
            });
    }
}

/// Tiles of some channels as panels of `W` channels: for each of the 36 points, for each panel, a row a tile.
fn panels<T: Real, const W: usize>(
    t: &Tiling,
    rows: &Range<usize>,
    channels: Range<usize>,
    out: &mut [T],
    lines_of: impl Fn(usize, &mut Vec<T>, &mut [T]),
) {
    let (line, padded) = (t.line(rows), t.padded(rows));
    let count = channels.len().div_ceil(W);
    let (mut scratch, mut lines) = (Vec::new(), vec![T::default(); W * POINTS * line]);
    for p in 0..count {
        let here = channels.clone().skip(p * W).take(W);
        let used = here.len();
        for (c, lines) in here.zip(lines.chunks_exact_mut(POINTS * line)) {
            lines_of(c, &mut scratch, lines);
        }
        lines[used * POINTS * line..].fill(T::default());
        for f in 0..POINTS {
            let panel = &mut out[(f * count + p) * padded * W..][..padded * W];
            interleave::<T>(&lines[f * line..], POINTS * line, W, panel);
        }
    }
}

wide! {
    /// `width` lines, `step` apart, as columns of `panel`.
    fn interleave(lines: &[T], step: usize, width: usize, panel: &mut [T]) {
        for l in 0..width {
            let line = &lines[l * step..][..panel.len() / width];
            for (row, v) in panel.chunks_exact_mut(width).zip(line) {
                row[l] = *v;
            }
        }
    }
}

/// Adds the gradient of the filters between some outputs (all of `dw`) and some inputs (from `first`).
fn multiply<T: Real>(
    padded: usize,
    above: &[T],
    below: &[T],
    (k, first): (usize, usize),
    dw: &mut [T],
) {
    let m = above.len() / (POINTS * padded);
    let n = below.len() / (POINTS * padded);
    let mut products = Scratch::new(POINTS * m * n);
    for (f, out) in products.chunks_exact_mut(m * n).enumerate() {
        let (left, right) = (&above[f * m * padded..], &below[f * n * padded..]);
        panel_product(padded, &left[..m * padded], &right[..n * padded], out, n, false);
    }
    for (i, dw) in dw.chunks_exact_mut(k * 9).enumerate() {
        add_filters(&products[i * n..], m * n, &mut dw[first * 9..(first + n).min(k) * 9]);
    }
}

wide! {
    /// `Gᵀ u G` of the filters of one output; the 36 values of a filter lie `step` apart, inputs side by side.
    fn add_filters(products: &[T], step: usize, dw: &mut [T]) {
        for (j, dw) in dw.chunks_mut(9 * LANES).enumerate() {
            let mut u = [[[T::default(); LANES]; IN]; IN];
            for (i, row) in u.iter_mut().enumerate() {
                for (q, v) in row.iter_mut().enumerate() {
                    v.copy_from_slice(&products[(i * IN + q) * step + j * LANES..][..LANES]);
                }
            }
            let taps = square(&u, filter_adjoint);
            for (l, dw) in dw.chunks_exact_mut(9).enumerate() {
                for (t, dw) in dw.iter_mut().enumerate() {
                    *dw += taps[t / 3][t % 3][l];
                }
            }
        }
    }
}
