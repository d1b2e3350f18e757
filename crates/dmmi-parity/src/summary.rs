//! Summary rows: twenty numbers that stand for a tensor too large to store.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::hash::HashStream;

/// Columns of a row: norm, sum, largest absolute value, dot product with a hash tensor, the first 8 elements (padded
/// with zeros), 8 elements evenly spread.
pub(crate) const COLUMNS: [&str; 20] = [
    "l2",
    "sum",
    "maxabs",
    "probe_dot",
    "first0",
    "first1",
    "first2",
    "first3",
    "first4",
    "first5",
    "first6",
    "first7",
    "strided0",
    "strided1",
    "strided2",
    "strided3",
    "strided4",
    "strided5",
    "strided6",
    "strided7",
];
/// Number of columns.
pub(crate) const WIDTH: usize = COLUMNS.len();
/// Elements a task sums at a time; fixed, so that the result does not depend on the number of threads.
const BLOCK: usize = 1 << 16;

/// Fails unless the sidecar's columns are ours.
pub(crate) fn expect_columns(found: &[String], what: &str) -> Result<()> {
    ensure!(found == COLUMNS, "{what}: columns {found:?} are not known; expected {COLUMNS:?}");
    Ok(())
}

/// The row of a tensor; `probe` names the hash tensor of the dot product.
pub(crate) fn summarise(values: &[f64], probe: &str) -> [f64; WIDTH] {
    let stream = HashStream::new(&format!("probe/{probe}"), 0);
    let parts: Vec<[f64; 4]> = values
        .par_chunks(BLOCK)
        .enumerate()
        .map(|(block, chunk)| {
            let mut part = [0.0_f64; 4];
            for (i, x) in chunk.iter().enumerate() {
                part[0] += x * x;
                part[1] += x;
                // `max` would swallow a NaN.
                part[2] = if x.abs() <= part[2] { part[2] } else { x.abs() };
                part[3] += x * f64::from(stream.unit((block * BLOCK + i) as u32));
            }
            part
        })
        .collect();
    let mut row = [0.0; WIDTH];
    for part in parts {
        row[0] += part[0];
        row[1] += part[1];
        row[2] = if part[2] <= row[2] { row[2] } else { part[2] };
        row[3] += part[3];
    }
    row[0] = row[0].sqrt();
    for (column, element) in all_elements(values.len()) {
        row[column] = values[element];
    }
    row
}

/// (column, element) of the columns that hold single elements.
fn all_elements(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let first = (0..n.min(8)).map(|i| (4 + i, i));
    first.chain((0..8).filter(move |_| n > 0).map(move |k| (12 + k, k * n / 8)))
}

/// The same, every element once.
pub(crate) fn elements(n: usize) -> impl Iterator<Item = (usize, usize)> {
    all_elements(n).filter(move |&(column, element)| {
        // An evenly spread element repeats a first one, or (in tiny tensors) its neighbour.
        column < 12 || (element >= 8.min(n) && (column == 12 || (column - 13) * n / 8 != element))
    })
}

/// How the single elements of a row are put into one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// Root mean square: for values that depend smoothly on the rounding.
    Rms,
    /// Median: for Adam's steps, where an element whose gradient is near zero may move the other way.
    Median,
}

/// Distance of two rows, relative to the second one's size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowDistance {
    /// Of the norms, relative.
    pub(crate) l2: f64,
    /// Of the sums, over the norm.
    pub(crate) sum: f64,
    /// Of the largest values, relative.
    pub(crate) maxabs: f64,
    /// Of the dot products, over the norm times the probe's root mean square.
    pub(crate) probe: f64,
    /// Of the single elements, over the root mean square of the tensor, or of these elements if that is larger.
    pub(crate) elements: f64,
}

impl RowDistance {
    /// All divided by `scale`.
    pub(crate) fn over(self, scale: f64) -> Self {
        Self {
            l2: self.l2 / scale,
            sum: self.sum / scale,
            maxabs: self.maxabs / scale,
            probe: self.probe / scale,
            elements: self.elements / scale,
        }
    }

    /// Of rows of a tensor with `n` elements; `skip` names elements without a defined value.
    pub(crate) fn between(
        row: &[f64],
        reference: &[f64],
        n: usize,
        how: Elements,
        skip: impl Fn(usize) -> bool,
    ) -> Self {
        let d = |column: usize| (row[column] - reference[column]).abs();
        let norm = reference[0];
        let each: Vec<f64> =
            elements(n).filter(|&(_, e)| !skip(e)).map(|(column, _)| d(column)).collect();
        // Of a tensor that is mostly zeros, the elements that are not are larger than its root mean square.
        let squares: Vec<f64> = elements(n)
            .filter(|&(_, e)| !skip(e))
            .map(|(column, _)| reference[column].powi(2))
            .collect();
        let sampled = (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt();
        let middle = match how {
            _ if each.iter().any(|x| !x.is_finite()) => f64::NAN,
            Elements::Rms => {
                (each.iter().map(|x| x * x).sum::<f64>() / each.len().max(1) as f64).sqrt()
            }
            Elements::Median => crate::noise::quantile(each, 0.5),
        };
        Self {
            l2: d(0) / norm,
            sum: d(1) / norm,
            maxabs: d(2) / reference[2],
            probe: d(3) * 3f64.sqrt() / norm,
            elements: middle / sampled.max(norm / (n as f64).sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_once() {
        for n in [1, 2, 3, 7, 8, 9, 16, 17, 64, 1000] {
            let seen: Vec<usize> = elements(n).map(|(_, e)| e).collect();
            let unique: std::collections::BTreeSet<usize> = seen.iter().copied().collect();
            assert_eq!(seen.len(), unique.len(), "{n}: {seen:?}");
            assert!(unique.iter().all(|e| *e < n) && unique.len() >= n.min(8), "{n}: {seen:?}");
        }
        assert_eq!(elements(0).count(), 0);
    }

    #[test]
    fn rows_hold_what_they_say() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i) - 40.0).collect();
        let row = summarise(&values, "x");
        assert!((row[0] - values.iter().map(|v| v * v).sum::<f64>().sqrt()).abs() < 1e-9);
        assert_eq!((row[1], row[2]), (950.0, 59.0));
        assert_eq!((row[4], row[11], row[12], row[13]), (-40.0, -33.0, -40.0, -28.0));
        let stream = HashStream::new("probe/x", 0);
        let dot: f64 =
            values.iter().enumerate().map(|(i, v)| v * f64::from(stream.unit(i as u32))).sum();
        assert!((row[3] - dot).abs() < 1e-9);
        assert!(summarise(&[1.0, f64::NAN], "x")[2].is_nan());
        assert_eq!(summarise(&[], "x"), [0.0; WIDTH]);
    }

    #[test]
    fn a_median_forgives_one_flip_and_a_root_mean_square_does_not() {
        let values = vec![1.0; 100];
        let reference = summarise(&values, "x");
        let mut flipped = reference;
        flipped[4] = -1.0;
        let distance =
            |how| RowDistance::between(&flipped, &reference, 100, how, |_| false).elements;
        assert_eq!(distance(Elements::Median), 0.0);
        assert!(distance(Elements::Rms) > 0.4);
        let skipped = RowDistance::between(&flipped, &reference, 100, Elements::Rms, |e| e == 0);
        assert_eq!(skipped.elements, 0.0);
    }
}
