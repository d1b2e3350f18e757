//! Attention of some queries over some keys without a matrix of scores in memory: `softmax(q kᵀ + bias + mask) v`.
//!
//! Scores are computed turned, a row a key and 16 queries side by side: maxima, exponentials and sums are then plain vector
//! code, and the exponentials already lie as the second product wants its right operand. The division by the sums is left
//! to the result.

use super::panel::{Apart, panel_products};
use super::{COLUMNS, ROWS, Real, Scratch, wide};

/// Keys of one product with the values.
const DEPTH: usize = 256;
/// Key panels that stay in cache while all queries go by.
const KEY_PANELS: usize = 16;

/// Sizes of one head: queries, keys, channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSize {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) channels: usize,
}

impl HeadSize {
    fn keys_padded(&self) -> usize {
        self.keys.next_multiple_of(ROWS)
    }
    fn channels_padded(&self) -> usize {
        self.channels.next_multiple_of(ROWS)
    }
    /// Values of [`pack_memory`].
    pub(crate) fn memory(&self) -> usize {
        self.keys_padded() * self.channels + self.keys * self.channels_padded()
    }
}

/// Keys and values of one head as panels. `key(i)` and `value(i)` are their rows.
pub(crate) fn pack_memory<'a, T: Real>(
    size: HeadSize,
    key: impl Fn(usize) -> &'a [T],
    value: impl Fn(usize) -> &'a [T],
    out: &mut [T],
) {
    let (keys, values) = out.split_at_mut(size.keys_padded() * size.channels);
    pack_rows::<T, ROWS>(size.keys, size.channels, T::of(1.0), key, keys);
    let mut rest = values;
    for start in (0..size.keys).step_by(DEPTH) {
        let depth = DEPTH.min(size.keys - start);
        let (block, after) = rest.split_at_mut(depth * size.channels_padded());
        rest = after;
        for i in 0..depth {
            for (p, v) in value(start + i).chunks(ROWS).enumerate() {
                let row = &mut block[(p * depth + i) * ROWS..][..ROWS];
                row[..v.len()].copy_from_slice(v);
                row[v.len()..].fill(T::default());
            }
        }
    }
}

/// Rows as panels of `W`, times `scale`; zero where there is no row.
fn pack_rows<'a, T: Real, const W: usize>(
    rows: usize,
    channels: usize,
    scale: T,
    row: impl Fn(usize) -> &'a [T],
    out: &mut [T],
) {
    for (p, panel) in out.chunks_exact_mut(W * channels).enumerate() {
        for l in 0..W {
            let to = panel[l..].iter_mut().step_by(W);
            if p * W + l < rows {
                to.zip(row(p * W + l)).for_each(|(to, v)| *to = *v * scale);
            } else {
                to.for_each(|to| *to = T::default());
            }
        }
    }
}

/// What is added to the scores of one head, for its queries in panels of 16: a row a key, or one row for all queries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Term<'a, T> {
    None,
    Panels(&'a [T]),
    Keys(&'a [T]),
}

impl<'a, T> Term<'a, T> {
    /// That of the panels from `first`.
    pub(crate) fn from(self, first: usize, keys: usize) -> Self {
        match self {
            Self::Panels(t) => Self::Panels(&t[first * keys * COLUMNS..]),
            other => other,
        }
    }
}

/// `(queries, keys)` as [`Term::Panels`] wants it.
pub(crate) fn term_panels<T: Real>(size: HeadSize, from: &[T], out: &mut [T]) {
    let key = |q: usize| &from[q * size.keys..(q + 1) * size.keys];
    pack_rows::<T, COLUMNS>(size.queries, size.keys, T::of(1.0), key, out);
}

/// One head. `write(i, values, step, factor)` takes the result of query `i`: every `step`th of `values`, times `factor`.
pub(crate) fn attend_head<'a, T: Real>(
    size: HeadSize,
    scale: T,
    query: impl Fn(usize) -> &'a [T],
    memory: &[T],
    terms: [Term<T>; 2],
    mut write: impl FnMut(usize, &[T], usize, T),
) {
    let HeadSize { queries, keys, channels } = size;
    let panels = queries.div_ceil(COLUMNS);
    let (padded, wide_channels) = (size.keys_padded(), size.channels_padded());
    let mut packed = Scratch::new(panels * COLUMNS * channels);
    pack_rows::<T, COLUMNS>(queries, channels, scale, query, &mut packed);
    let mut scores = Scratch::new(panels * padded * COLUMNS);
    let mut sums = Scratch::new(panels * wide_channels * COLUMNS);
    let (left, values) = memory.split_at(padded * channels);
    let apart = Apart { right: channels * COLUMNS, result: padded * COLUMNS };
    for (i, left) in left.chunks(KEY_PANELS * ROWS * channels).enumerate() {
        let to = &mut scores[i * KEY_PANELS * ROWS * COLUMNS..];
        panel_products(channels, left, &packed, to, COLUMNS, apart, false);
    }
    let mut inverse = Scratch::new(panels * COLUMNS);
    for (j, inverse) in inverse.chunks_exact_mut(COLUMNS).enumerate() {
        let scores = &mut scores[j * padded * COLUMNS..][..keys * COLUMNS];
        for term in terms {
            match term.from(j, keys) {
                Term::None => {}
                Term::Panels(t) => scores.iter_mut().zip(t).for_each(|(s, t)| *s += *t),
                Term::Keys(t) => scores
                    .chunks_exact_mut(COLUMNS)
                    .zip(t)
                    .for_each(|(s, t)| s.iter_mut().for_each(|s| *s += *t)),
            }
        }
        softmax_columns(scores, inverse);
    }
    let apart = Apart { right: padded * COLUMNS, result: wide_channels * COLUMNS };
    let mut rest = values;
    for start in (0..keys).step_by(DEPTH) {
        let depth = DEPTH.min(keys - start);
        let (left, after) = rest.split_at(depth * wide_channels);
        rest = after;
        let right = &scores[start * COLUMNS..((panels - 1) * padded + start + depth) * COLUMNS];
        panel_products(depth, left, right, &mut sums, COLUMNS, apart, start > 0);
    }
    for q in 0..queries {
        let from = &sums[q / COLUMNS * wide_channels * COLUMNS + q % COLUMNS..];
        write(q, from, COLUMNS, inverse[q]);
    }
}

wide! {
    /// Exponentials of the differences to each column's maximum, and the inverses of their sums.
    fn softmax_columns(scores: &mut [T], inverse: &mut [T]) {
        let (rows, _) = scores.as_chunks_mut::<COLUMNS>();
        let mut most = [T::NEG_INF; COLUMNS];
        for row in rows.iter() {
            for l in 0..COLUMNS {
                most[l] = most[l].larger(row[l]);
            }
        }
        let mut total = [T::default(); COLUMNS];
        // In two steps, which keeps the rounding of long sums small.
        for block in rows.chunks_mut(64) {
            let mut part = [T::default(); COLUMNS];
            for row in block {
                for l in 0..COLUMNS {
                    row[l] = (row[l] - most[l]).exp_down();
                    part[l] += row[l];
                }
            }
            for l in 0..COLUMNS {
                total[l] += part[l];
            }
        }
        for l in 0..COLUMNS {
            inverse[l] = T::of(1.0) / total[l];
        }
    }
}
