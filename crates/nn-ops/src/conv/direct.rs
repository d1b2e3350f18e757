//! Convolutions of stride 1 as products of panels that are filled straight from the maps: no matrix of unfolded columns.
//!
//! All images of a batch are one product, so maps of 2x2 cells fill panels too. The gradient of the input is the convolution
//! of the output's gradient with the filters turned round. Sums are taken in an order that the sizes alone decide.

use std::iter::StepBy;
use std::ops::Range;
use std::slice::IterMut;

use rayon::prelude::*;

use super::image::Geometry;
use super::winograd::Finish;
use crate::kernel::{self, COLUMNS, ROWS, Real, Scratch, panel_product};

/// Terms of a sum that one product takes: a right panel of them fits the first-level cache.
const DEPTH: usize = 256;
/// Right panels of a piece of work, at most.
const PANELS: usize = 8;
/// Values of the result that are computed before they are written in their order: 8 MiB of f32.
const GROUP: usize = 1 << 21;

/// Whether a convolution and the gradient of its input are of the kind.
pub(super) fn fits(g: &Geometry) -> bool {
    g.stride == 1 && g.ph < g.kh && g.pw < g.kw && !g.is_plain()
}

/// Where the taps of output `m` and input `k` stand in a `(Cout, Cin, kh, kw)` weight.
#[derive(Clone, Copy)]
enum Taps {
    /// `m` is Cout, `k` Cin.
    Forward,
    /// `m` is Cin, `k` Cout, and the taps are turned by half a turn.
    Backward,
}

/// `(B, Cin, h, w)` to `(B, Cout, ho, wo)`; `finish` gives what is done to each output channel.
pub(super) fn forward<T: Real>(
    g: &Geometry,
    x: &[T],
    w: &[T],
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
    y: &mut [T],
) {
    convolve(g, x, &pack(g, w, Taps::Forward), finish, y);
}

/// The gradient of the input.
pub(super) fn input_gradient<T: Real>(g: &Geometry, w: &[T], dy: &[T], dx: &mut [T]) {
    let (ph, pw) = (g.kh - 1 - g.ph, g.kw - 1 - g.pw);
    let (c_in, c_out) = (g.c_out, g.c_in);
    let turned = Geometry { c_in, c_out, h: g.ho, w: g.wo, ho: g.h, wo: g.w, ph, pw, ..*g };
    let filters = pack(&turned, w, Taps::Backward);
    convolve(&turned, dy, &filters, &|_| Finish::shift(T::default()), dx);
}

/// Runs of `0..n` as long as each other, at most `most` long.
fn runs(n: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let each = n.div_ceil(n.div_ceil(most));
    (0..n).step_by(each).map(move |first| first..(first + each).min(n))
}

/// Runs of images whose results stay near [`GROUP`] values.
fn groups(g: &Geometry) -> impl Iterator<Item = Range<usize>> {
    runs(g.b, (GROUP / (g.c_out.max(g.c_in) * g.ho * g.wo)).max(1))
}

/// The filters as left panels, for each run of the terms of a sum: inputs, rows and columns of the kernel.
fn pack<T: Real>(g: &Geometry, w: &[T], taps: Taps) -> Scratch<T> {
    let (m, patch, kernel) = (g.c_out, g.patch(), g.kh * g.kw);
    left_panels(m, patch, |row, run, out| match taps {
        Taps::Forward => out.zip(&w[row * patch..][run]).for_each(|(o, v)| *o = *v),
        Taps::Backward => {
            let (mut input, mut tap) = (run.start / kernel, run.start % kernel);
            for o in out {
                *o = w[(input * m + row) * kernel + kernel - 1 - tap];
                tap += 1;
                if tap == kernel {
                    (input, tap) = (input + 1, 0);
                }
            }
        }
    })
}

/// `m` rows of `k` values as left panels, for each run of the values: `fill` writes a run of a row, rows past the last are
/// zero.
fn left_panels<T: Real>(
    m: usize,
    k: usize,
    fill: impl Fn(usize, Range<usize>, StepBy<IterMut<'_, T>>) + Send + Sync,
) -> Scratch<T> {
    let panels = m.div_ceil(ROWS);
    let mut all = Scratch::new(panels * ROWS * k);
    let mut rest = &mut all[..];
    for run in runs(k, DEPTH) {
        let (out, others) = rest.split_at_mut(panels * ROWS * run.len());
        rest = others;
        kernel::par_chunks(out, ROWS * run.len(), |p, out| {
            for l in 0..ROWS {
                let (row, out) = (p * ROWS + l, out[l..].iter_mut().step_by(ROWS));
                if row < m {
                    fill(row, run.clone(), out);
                } else {
                    out.for_each(|o| *o = T::default());
                }
            }
        });
    }
    all
}

/// The maps with their padding around them, `(B, C, h + 2 ph, w + 2 pw)`.
fn padded<T: Real>(g: &Geometry, x: &[T]) -> Scratch<T> {
    let (hp, wp) = (g.h + 2 * g.ph, g.w + 2 * g.pw);
    let mut all = Scratch::new(g.b * g.c_in * hp * wp);
    kernel::par_chunks(&mut all, hp * wp, |i, plane| {
        let x = &x[i * g.h * g.w..];
        for (y, row) in plane.chunks_exact_mut(wp).enumerate() {
            match y.checked_sub(g.ph).filter(|y| *y < g.h) {
                Some(y) => {
                    row[..g.pw].fill(T::default());
                    row[g.pw + g.w..].fill(T::default());
                    row[g.pw..g.pw + g.w].copy_from_slice(&x[y * g.w..(y + 1) * g.w]);
                }
                None => row.fill(T::default()),
            }
        }
    });
    all
}

fn convolve<T: Real>(
    all: &Geometry,
    x: &[T],
    filters: &[T],
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
    y: &mut [T],
) {
    let (size, cells) = (all.c_in * all.h * all.w, all.ho * all.wo);
    for images in groups(all) {
        let g = Geometry { b: images.len(), ..*all };
        let y = &mut y[images.start * g.c_out * cells..images.end * g.c_out * cells];
        convolve_group(&g, &x[images.start * size..images.end * size], filters, finish, y);
    }
}

fn convolve_group<T: Real>(
    g: &Geometry,
    x: &[T],
    filters: &[T],
    finish: &(dyn Fn(usize) -> Finish<T> + Sync),
    y: &mut [T],
) {
    let (cells, patch, m) = (g.ho * g.wo, g.patch(), g.c_out.next_multiple_of(ROWS));
    let (hp, wp) = (g.h + 2 * g.ph, g.w + 2 * g.pw);
    let x = padded(g, x);
    let at = |i: usize| (i / (g.kh * g.kw)) * hp * wp + i / g.kw % g.kh * wp + i % g.kw;
    let offsets: Vec<usize> = (0..patch).map(at).collect();
    let columns = g.b * cells;
    let panels = columns.div_ceil(COLUMNS);
    let each = (panels / 4).clamp(1, PANELS);
    let width = each * COLUMNS;
    let fill = fill_for::<T>(g.wo);
    let mut found = Scratch::new(panels.div_ceil(each) * width * m);
    found.par_chunks_mut(width * m).enumerate().for_each(|(piece, out)| {
        let panels = piece * each..panels.min((piece + 1) * each);
        let mut right = Scratch::new(patch.min(DEPTH) * panels.len() * COLUMNS);
        let mut left = filters;
        for run in runs(patch, DEPTH) {
            let depth = run.len();
            for (p, right) in panels.clone().zip(right.chunks_exact_mut(depth * COLUMNS)) {
                let firsts = std::array::from_fn(|j| {
                    // Columns past the last are filled with what stands at the beginning, and not written.
                    let c = Some(p * COLUMNS + j).filter(|c| *c < columns).unwrap_or(0);
                    let (image, cell) = (c / cells, c % cells);
                    image * g.c_in * hp * wp + cell / g.wo * wp + cell % g.wo
                });
                fill(right, &x, &firsts, &offsets[run.clone()]);
            }
            let (now, later) = left.split_at(m * depth);
            left = later;
            let right = &right[..panels.len() * depth * COLUMNS];
            panel_product(depth, now, right, out, width, run.start > 0);
        }
    });
    kernel::par_chunks(y, cells, |i, plane| {
        let (image, c) = (i / g.c_out, i % g.c_out);
        let mut column = image * cells;
        let mut rest = &mut plane[..];
        while !rest.is_empty() {
            let (piece, first) = (column / width, column % width);
            let here = rest.len().min(width - first);
            let (now, later) = rest.split_at_mut(here);
            now.copy_from_slice(&found[(piece * m + c) * width + first..][..here]);
            (rest, column) = (later, column + here);
        }
        finish(c).apply(plane);
    });
}

/// Fills a right panel: for each offset, the values that far from the first ones of its columns.
type Fill<T> = fn(&mut [T], &[T], &[usize; COLUMNS], &[usize]);

/// By how many columns always lie beside each other in rows of `wo` outputs.
fn fill_for<T: Real>(wo: usize) -> Fill<T> {
    match wo {
        _ if wo.is_multiple_of(16) => fill::<T, 16>,
        _ if wo.is_multiple_of(8) => fill::<T, 8>,
        _ if wo.is_multiple_of(4) => fill::<T, 4>,
        _ if wo.is_multiple_of(2) => fill::<T, 2>,
        _ => fill::<T, 1>,
    }
}

fn fill<T: Real, const RUN: usize>(
    panel: &mut [T],
    x: &[T],
    firsts: &[usize; COLUMNS],
    offsets: &[usize],
) {
    for (row, offset) in panel.chunks_exact_mut(COLUMNS).zip(offsets) {
        for (to, first) in row.chunks_exact_mut(RUN).zip(firsts.iter().step_by(RUN)) {
            to.copy_from_slice(&x[first + offset..][..RUN]);
        }
    }
}

/// Adds the gradient of the filters to `dw`.
pub(super) fn weight_gradient<T: Real>(all: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let (size, cells) = (all.c_in * all.h * all.w, all.ho * all.wo);
    for images in groups(all) {
        let g = Geometry { b: images.len(), ..*all };
        let dy = &dy[images.start * g.c_out * cells..images.end * g.c_out * cells];
        weight_gradient_group(&g, &x[images.start * size..images.end * size], dy, dw);
    }
}

fn weight_gradient_group<T: Real>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let (cells, m, k) = (g.ho * g.wo, g.c_out.next_multiple_of(ROWS), g.c_in);
    let wp = g.w + 2 * g.pw;
    let n = g.b * cells;
    let x = channels_last(g, x);
    // With channels last, a row of the kernel is one run of values in memory.
    let across = (g.kw * k).div_ceil(COLUMNS);
    let first = |i: usize| {
        let (image, cell) = (i / cells, i % cells);
        ((image * (g.h + 2 * g.ph) + cell / g.wo) * wp + cell % g.wo) * k
    };
    let firsts: Vec<usize> = (0..n).map(first).collect();
    let above = gradient_panels(g, dy);
    // Longer than needed, so that the rows of one output do not share cache sets.
    let step = (m + 1) * COLUMNS;
    let mut found = Scratch::new(g.kh * across * step);
    found.par_chunks_mut(step).enumerate().for_each(|(piece, out)| {
        let from = piece / across * wp * k + piece % across * COLUMNS;
        let mut right = Scratch::new(n.min(DEPTH) * COLUMNS);
        let mut left = &above[..];
        for run in runs(n, DEPTH) {
            let right = &mut right[..run.len() * COLUMNS];
            let rows = right.chunks_exact_mut(COLUMNS).zip(&firsts[run.clone()]);
            rows.for_each(|(row, first)| row.copy_from_slice(&x[first + from..][..COLUMNS]));
            let (now, later) = left.split_at(m * run.len());
            left = later;
            panel_product(run.len(), now, right, out, COLUMNS, run.start > 0);
        }
    });
    kernel::par_chunks(dw, g.patch(), |row, dw| {
        for (piece, found) in found.chunks_exact(step).enumerate() {
            let (ky, first) = (piece / across, piece % across * COLUMNS);
            let values = found[row * COLUMNS..][..COLUMNS].iter().take(g.kw * k - first);
            let (mut kx, mut c) = (first / k, first % k);
            for v in values {
                dw[(c * g.kh + ky) * g.kw + kx] += *v;
                c += 1;
                if c == k {
                    (kx, c) = (kx + 1, 0);
                }
            }
        }
    });
}

/// The maps with their padding around them and channels last, and one panel more than needed.
fn channels_last<T: Real>(g: &Geometry, x: &[T]) -> Scratch<T> {
    let (hp, wp, k) = (g.h + 2 * g.ph, g.w + 2 * g.pw, g.c_in);
    let len = g.b * hp * wp * k;
    let mut all = Scratch::new(len + COLUMNS);
    all[len..].fill(T::default());
    kernel::par_chunks(&mut all[..len], wp * k, |i, row| {
        let (image, y) = (i / hp, i % hp);
        let Some(y) = y.checked_sub(g.ph).filter(|y| *y < g.h) else {
            row.fill(T::default());
            return;
        };
        row[..g.pw * k].fill(T::default());
        row[(g.pw + g.w) * k..].fill(T::default());
        for c in 0..k {
            let from = &x[((image * k + c) * g.h + y) * g.w..][..g.w];
            let to = row[g.pw * k + c..].iter_mut().step_by(k);
            to.zip(from).for_each(|(to, v)| *to = *v);
        }
    });
    all
}

/// The gradient above, `(B, Cout, cells)`, as left panels of outputs, for each run of cells.
fn gradient_panels<T: Real>(g: &Geometry, dy: &[T]) -> Scratch<T> {
    let cells = g.ho * g.wo;
    left_panels(g.c_out, g.b * cells, |row, run, mut to| {
        let mut column = run.start;
        while column < run.end {
            let (image, cell) = (column / cells, column % cells);
            let here = (cells - cell).min(run.end - column);
            let from = &dy[(image * g.c_out + row) * cells + cell..][..here];
            // `from` ends first, and takes no value of `to` with it.
            from.iter().zip(&mut to).for_each(|(v, to)| *to = *v);
            column += here;
        }
    })
}
