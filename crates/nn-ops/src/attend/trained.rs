//! Attention with gradients that keeps no scores: the backward pass computes those of a few queries again (the recomputation
//! of Dao et al. 2022, over whole rows).
//!
//! Scores, weights and their gradients of all queries would be several times the memory of everything else (3,600 cells and
//! 8 heads: 396 MiB each).

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{Projected, WHOLE};
use crate::dropout::Drawn;
use crate::kernel::{self, Mat, Real, Scratch, Threads, dispatch, gemm, wide};
use crate::softmax::{ScoreTerms, softmax_gradient, weigh};

/// Scores held at once by a thread, about: they stay in its second-level cache.
const AT_ONCE: usize = 1 << 17;
/// Groups of pieces whose gradients of a bias are summed apart, at most.
const PIECES: usize = 16;

/// Whether the operation takes no more than three tensors.
pub(super) fn fits(x: Projected, terms: ScoreTerms) -> bool {
    !matches!((x, terms.bias), (Projected::Three(..), Some(_)))
}

/// Sizes of an attention, all heads.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    groups: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    /// Of one head.
    channels: usize,
}

impl Sizes {
    fn width(&self) -> usize {
        self.heads * self.channels
    }
    /// Queries whose scores are held at once.
    fn rows(&self) -> usize {
        (AT_ONCE / self.keys).clamp(16, 128).min(self.queries.max(1))
    }
    /// Whether one group is work for all threads.
    fn large(&self) -> bool {
        self.queries.max(self.keys) > WHOLE
    }
    /// Values of the gradients of one head: queries, keys, values.
    fn head(&self) -> usize {
        (self.queries + 2 * self.keys) * self.channels
    }
}

/// Queries, keys or values inside a projection: `width` values a token, those wanted from `first`.
#[derive(Clone, Copy, Debug)]
struct Place {
    tensor: usize,
    width: usize,
    first: usize,
}

/// Where queries, keys and values of `c` channels stand.
fn places(x: Projected, c: usize) -> [Place; 3] {
    let at = |tensor, of, i| Place { tensor, width: of * c, first: i * c };
    match x {
        Projected::One(_) => [at(0, 3, 0), at(0, 3, 1), at(0, 3, 2)],
        Projected::Two(..) => [at(0, 1, 0), at(1, 2, 0), at(1, 2, 1)],
        Projected::Three(..) => [at(0, 1, 0), at(1, 1, 0), at(2, 1, 0)],
    }
}

/// Everything the scores are made of.
struct Inputs<'a, T> {
    sizes: Sizes,
    places: [Place; 3],
    projected: &'a [&'a [T]],
    bias: Option<&'a [T]>,
    /// Entries, rows of an entry (1 or one a query), values.
    mask: Option<(usize, usize, &'a [T])>,
    drop: Option<Drawn>,
}

impl<'a, T: Real> Inputs<'a, T> {
    /// `count` rows of one head from `row` of a group: queries (0), keys (1) or values (2).
    fn of(&self, which: usize, group: usize, head: usize, row: usize, count: usize) -> Mat<'a, T> {
        let (place, sizes) = (self.places[which], &self.sizes);
        let tokens = if which == 0 { sizes.queries } else { sizes.keys };
        let from = (group * tokens + row) * place.width + place.first + head * sizes.channels;
        let len = (count - 1) * place.width + sizes.channels;
        Mat::rows(&self.projected[place.tensor][from..from + len], place.width)
    }

    /// The attention weights of some queries, before dropout.
    fn weights(&self, group: usize, head: usize, first: usize, out: &mut [T]) {
        let Sizes { queries, keys, channels, .. } = self.sizes;
        let rows = out.len() / keys;
        let (q, k) = (self.of(0, group, head, first, rows), self.of(1, group, head, 0, keys));
        gemm((rows, keys, channels), out, keys, false, q, k.t(), Threads::One);
        let scale = T::of(1.0 / (channels as f64).sqrt());
        for (i, row) in out.chunks_exact_mut(keys).enumerate() {
            let query = first + i;
            let bias = self.bias.map(|b| &b[(head * queries + query) * keys..][..keys]);
            let mask = self.mask.map(|(entries, of, mask)| {
                &mask[(group % entries * of + query % of) * keys..][..keys]
            });
            weigh(row, scale, bias, mask);
        }
    }

    /// What dropout multiplies these weights by.
    fn kept(&self, drop: Drawn, group: usize, head: usize, first: usize, out: &mut [f32]) {
        let Sizes { heads, queries, keys, .. } = self.sizes;
        drop.fill((((group * heads + head) * queries + first) * keys) as u64, out);
    }

    /// The result, `(G, N, M d)`.
    fn values(&self) -> Vec<T> {
        let Sizes { groups, heads, queries, keys, channels } = self.sizes;
        let (c, rows) = (self.sizes.width(), self.sizes.rows());
        let mut ys = kernel::zeros::<T>(groups * queries * c);
        ys.par_chunks_mut((queries * c).max(1)).enumerate().for_each(|(group, ys)| {
            ys.par_chunks_mut(rows * c).enumerate().for_each(|(i, ys)| {
                let rows_here = ys.len() / c;
                let mut weights = Scratch::new(rows_here * keys);
                let mut kept = vec![0f32; if self.drop.is_some() { weights.len() } else { 0 }];
                for head in 0..heads {
                    self.weights(group, head, i * rows, &mut weights);
                    if let Some(drop) = self.drop {
                        self.kept(drop, group, head, i * rows, &mut kept);
                        times(&mut weights, &kept);
                    }
                    let v = self.of(2, group, head, 0, keys);
                    let w = Mat::rows(&weights, keys);
                    let out = &mut ys[head * channels..];
                    gemm((rows_here, channels, keys), out, c, false, w, v, Threads::One);
                }
            });
        });
        ys
    }

    /// Gradients of one head, from those of the result: queries, keys and values one after another in `out`; that of the
    /// bias is added to `bias`.
    fn head_gradients(
        &self,
        (group, head): (usize, usize),
        dy: &[T],
        out: &mut [T],
        mut bias: Option<&mut [T]>,
    ) {
        let Sizes { queries, keys, channels: d, .. } = self.sizes;
        let (c, rows) = (self.sizes.width(), self.sizes.rows());
        let (dq, rest) = out.split_at_mut(queries * d);
        let (dk, dv) = rest.split_at_mut(keys * d);
        let (k, v) = (self.of(1, group, head, 0, keys), self.of(2, group, head, 0, keys));
        let scale = T::of(1.0 / (d as f64).sqrt());
        let mut weights = Scratch::new(rows * keys);
        let mut gradient = Scratch::new(rows * keys);
        let mut dropped = Scratch::new(if self.drop.is_some() { rows * keys } else { 0 });
        let mut kept = vec![0f32; dropped.len()];
        for (first, dq) in (0..queries).step_by(rows).zip(dq.chunks_mut(rows * d)) {
            let n = dq.len() / d;
            let weights = &mut weights[..n * keys];
            let gradient = &mut gradient[..n * keys];
            self.weights(group, head, first, weights);
            let from = (group * queries + first) * c + head * d;
            let dy = Mat::rows(&dy[from..from + (n - 1) * c + d], c);
            gemm((n, keys, d), gradient, keys, false, dy, v.t(), Threads::One);
            let used = match self.drop {
                None => &*weights,
                Some(drop) => {
                    let (kept, dropped) = (&mut kept[..n * keys], &mut dropped[..n * keys]);
                    self.kept(drop, group, head, first, kept);
                    dropped.copy_from_slice(weights);
                    times(dropped, kept);
                    times(gradient, kept);
                    &*dropped
                }
            };
            let more = first > 0;
            gemm((keys, d, n), dv, d, more, Mat::rows(used, keys).t(), dy, Threads::One);
            let lines = gradient.chunks_exact_mut(keys).zip(weights.chunks_exact(keys));
            lines.for_each(|(g, w)| softmax_gradient(g, w));
            if let Some(bias) = &mut bias {
                let at = &mut bias[first * keys..(first + n) * keys];
                at.iter_mut().zip(&*gradient).for_each(|(b, g)| *b += *g);
            }
            gradient.iter_mut().for_each(|g| *g *= scale);
            let ds = Mat::rows(gradient, keys);
            gemm((n, d, keys), dq, d, false, ds, k, Threads::One);
            let q = self.of(0, group, head, first, n);
            gemm((keys, d, n), dk, d, more, ds.t(), q, Threads::One);
        }
    }

    /// Gradients of the projections, and of the bias if there is one.
    fn gradients(&self, dy: &[T], lens: &[usize]) -> (Vec<Vec<T>>, Option<Vec<T>>) {
        let sizes = &self.sizes;
        let Sizes { groups, heads, queries, keys, .. } = *sizes;
        let mut outs: Vec<Vec<T>> = lens.iter().map(|n| vec![T::default(); *n]).collect();
        // The part of every projection that belongs to each group.
        let mut parts: Vec<Vec<&mut [T]>> = (0..groups).map(|_| Vec::new()).collect();
        for out in &mut outs {
            let each = out.len() / groups;
            parts.iter_mut().zip(out.chunks_exact_mut(each)).for_each(|(p, out)| p.push(out));
        }
        let table = queries * keys;
        let biased = self.bias.is_some();
        let zeros = || vec![T::default(); if biased { heads * table } else { 0 }];
        let bias = if sizes.large() {
            let mut sum = zeros();
            for (group, parts) in parts.iter_mut().enumerate() {
                let mut found = Scratch::new(heads * sizes.head());
                let tables: Vec<Option<&mut [T]>> = if biased {
                    sum.chunks_exact_mut(table).map(Some).collect()
                } else {
                    (0..heads).map(|_| None).collect()
                };
                found.par_chunks_mut(sizes.head()).zip(tables).enumerate().for_each(
                    |(head, (out, bias))| self.head_gradients((group, head), dy, out, bias),
                );
                self.spread(&found, parts);
            }
            sum
        } else {
            let pieces = if biased { groups.min(PIECES) } else { groups };
            let each = groups.div_ceil(pieces);
            let sums: Vec<Vec<T>> = parts
                .par_chunks_mut(each)
                .enumerate()
                .map(|(piece, parts)| {
                    let mut sum = zeros();
                    let mut found = Scratch::new(heads * sizes.head());
                    for (i, parts) in parts.iter_mut().enumerate() {
                        for (head, out) in found.chunks_exact_mut(sizes.head()).enumerate() {
                            let bias = biased.then(|| &mut sum[head * table..(head + 1) * table]);
                            self.head_gradients((piece * each + i, head), dy, out, bias);
                        }
                        self.spread(&found, parts);
                    }
                    sum
                })
                .collect();
            let mut sums = sums.into_iter();
            let mut sum = sums.next().unwrap_or_default();
            for piece in sums {
                sum.iter_mut().zip(piece).for_each(|(s, p)| *s += p);
            }
            sum
        };
        drop(parts);
        (outs, biased.then_some(bias))
    }

    /// The gradients of a group, head after head, to where its projections have them.
    fn spread(&self, found: &[T], parts: &mut [&mut [T]]) {
        let Sizes { queries, keys, channels: d, .. } = self.sizes;
        let starts = [0, queries * d, (queries + keys) * d];
        for (tensor, part) in parts.iter_mut().enumerate() {
            let of: Vec<_> =
                self.places.iter().zip(starts).filter(|(p, _)| p.tensor == tensor).collect();
            let Some((Place { width, .. }, _)) = of.first() else { continue };
            kernel::par_chunks(part, *width, |row, out| {
                for (place, start) in &of {
                    for (head, found) in found.chunks_exact(self.sizes.head()).enumerate() {
                        let to = &mut out[place.first + head * d..][..d];
                        to.copy_from_slice(&found[start + row * d..][..d]);
                    }
                }
            });
        }
    }
}

wide! {
    /// `xs` times what dropout keeps.
    fn times(xs: &mut [T], kept: &[f32]) {
        for (x, k) in xs.iter_mut().zip(kept) {
            *x *= T::of(f64::from(*k));
        }
    }
}

/// `work` on what the tensors hold.
fn with<T: Real, R>(
    (sizes, places, drop): (Sizes, [Place; 3], Option<Drawn>),
    projected: &[Tensor],
    bias: Option<&Tensor>,
    mask: Option<&Tensor>,
    work: impl FnOnce(&Inputs<T>) -> R,
) -> Result<R> {
    let guards = projected.iter().map(kernel::read).collect::<Result<Vec<_>>>()?;
    let slices = guards.iter().map(|g| g.slice::<T>()).collect::<Result<Vec<_>>>()?;
    let bias = bias.map(kernel::read).transpose()?;
    let bias = bias.as_ref().map(|b| b.slice::<T>()).transpose()?;
    let shape = mask.map(|m| m.dims3()).transpose()?;
    let mask = mask.map(kernel::read).transpose()?;
    let mask = mask.as_ref().map(|m| m.slice::<T>()).transpose()?;
    let mask = shape.zip(mask).map(|((w, n, _), m)| (w, n, m));
    Ok(work(&Inputs { sizes, places, projected: &slices, bias, mask, drop }))
}

/// Attention on projections, with dropout of the weights where it is `drop`ped.
pub(super) fn attend(
    x: Projected,
    (queries, keys): (usize, usize),
    heads: usize,
    terms: ScoreTerms,
    drop: Option<Drawn>,
) -> Result<Tensor> {
    let projected: Vec<Tensor> = match x {
        Projected::One(a) => vec![a.contiguous()?],
        Projected::Two(a, b) => vec![a.contiguous()?, b.contiguous()?],
        Projected::Three(a, b, c) => vec![a.contiguous()?, b.contiguous()?, c.contiguous()?],
    };
    let first = &projected[0];
    let (groups, dtype) = (first.dim(0)?, first.dtype());
    let c = first.dim(2)? / if projected.len() == 1 { 3 } else { 1 };
    let sizes = Sizes { groups, heads, queries, keys, channels: c / heads };
    let places = places(x, c);
    let bias = terms.bias.map(|b| b.contiguous()).transpose()?;
    let mask = terms.mask.map(|m| m.detach().to_dtype(dtype)?.contiguous()).transpose()?;
    dispatch!(dtype, T => {
        let about = (sizes, places, drop);
        let ys = with::<T, _>(about, &projected, bias.as_ref(), mask.as_ref(), |x| x.values())?;
        let kept: Vec<Tensor> = projected.iter().map(Tensor::detach).collect();
        let kept_bias = bias.as_ref().map(Tensor::detach);
        let backward = move |grad: &Tensor| {
            let dy = kernel::read(grad)?;
            let dy = dy.slice::<T>()?;
            let lens: Vec<usize> = kept.iter().map(|t| t.elem_count()).collect();
            let (found, bias) = with::<T, _>(about, &kept, kept_bias.as_ref(), mask.as_ref(), |x| {
                x.gradients(dy, &lens)
            })?;
            let shapes = kept.iter().chain(&kept_bias).map(Tensor::shape);
            found.into_iter().chain(bias).zip(shapes).map(|(v, s)| kernel::from_vec(v, s)).collect()
        };
        let inputs: Vec<&Tensor> = projected.iter().chain(&bias).collect();
        kernel::attach("attend", &inputs, ys, (groups, queries, c), backward)
    })
}
