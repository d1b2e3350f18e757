//! Verdicts on summary rows: gradients, parameter changes and running statistics.
//!
//! A recorded noise is one draw, and rounding reaches gradients in rare large jumps: a pre-activation near zero that takes
//! the other side switches its ReLU, for every parameter below it at once. (Shifting one bias of the tiny Swin case by 1e-5
//! in f64 changes most gradients by 4e-3 and some by 1e-2; by 1e-7, by 2e-7.) PyTorch's run may have had no such jump where
//! the next float32 run has one. So the noise of a statistic is the largest one recorded for it in the table.

use std::collections::BTreeMap;

use crate::noise::{ROUNDING, quantile, tolerance};
use crate::report::{Precision, Report};
use crate::summary::{Elements, RowDistance};

/// One tensor of a table.
pub(crate) struct Row<'a> {
    /// As printed.
    pub(crate) name: String,
    /// Number of elements.
    pub(crate) n: usize,
    /// The reference, in f64.
    pub(crate) reference: &'a [f64],
    /// PyTorch's f32 run.
    pub(crate) torch_f32: &'a [f64],
    /// Elements whose value is not defined by the mathematics.
    pub(crate) undefined: Vec<std::ops::Range<usize>>,
    /// Added to the tolerances in f32.
    pub(crate) allowance: Allowance,
}

impl Row<'_> {
    fn distance(&self, values: &[f64], how: Elements) -> RowDistance {
        let skip = |e: usize| self.undefined.iter().any(|part| part.contains(&e));
        RowDistance::between(values, self.reference, self.n, how, skip)
    }

    fn rms(&self) -> f64 {
        self.reference[0] / (self.n.max(1) as f64).sqrt()
    }

    /// The name without layer numbers.
    fn role(&self) -> String {
        self.name.chars().filter(|c| !c.is_ascii_digit()).collect()
    }
}

/// A tensor of fewer than 16 elements (weights of a sum, a bias of two classes) may be small in one layer because large terms
/// cancel, while its noise is that of the terms: its errors are relative to the largest of its role in any layer.
fn scales(rows: &[Row]) -> Vec<f64> {
    let small = |row: &&Row| row.n < 16;
    let mut largest: BTreeMap<String, f64> = BTreeMap::new();
    for row in rows.iter().filter(small) {
        let most = largest.entry(row.role()).or_default();
        *most = most.max(row.rms());
    }
    let scale = |row: &Row| match largest.get(&row.role()) {
        Some(most) if row.n < 16 && row.rms() > 0.0 => most / row.rms(),
        _ => 1.0,
    };
    rows.iter().map(scale).collect()
}

/// What a reason other than the recorded noise of the row may add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Allowance {
    /// Nothing.
    None,
    /// So much noise (relative, before the factor) in every statistic.
    Noise(f64),
    /// So many elements that may be anything between zero and the usual step.
    Elements(usize),
    /// Whole parts are undefined: statistics over all elements mean nothing.
    NoTotals,
}

/// A table of rows of one kind.
pub(crate) struct Table<'a> {
    rows: Vec<Row<'a>>,
    scales: Vec<f64>,
    noise: RowDistance,
    usual: RowDistance,
    how: Elements,
}

impl<'a> Table<'a> {
    /// Measures the noise of every row.
    pub(crate) fn new(rows: Vec<Row<'a>>, how: Elements) -> Self {
        let noise: Vec<RowDistance> =
            rows.iter().map(|row| row.distance(row.torch_f32, how)).collect();
        // A row that is zero but for rounding has no relative noise.
        let middle = quantile(rows.iter().map(Row::rms), 0.5);
        let sound = |q: f64, pick: fn(&RowDistance) -> f64| {
            let kept = rows.iter().zip(&noise).filter(|(row, _)| row.rms() > ROUNDING * middle);
            quantile(kept.map(|(_, d)| pick(d)), q)
        };
        let over = |q| RowDistance {
            l2: sound(q, |d| d.l2),
            sum: sound(q, |d| d.sum),
            maxabs: sound(q, |d| d.maxabs),
            probe: sound(q, |d| d.probe),
            elements: sound(q, |d| d.elements),
        };
        let (mut floor, usual) = (over(1.0), over(0.9));
        if how == Elements::Rms {
            // All four measure the same jumps.
            let most = floor.l2.max(floor.maxabs).max(floor.probe).max(floor.elements);
            (floor.l2, floor.maxabs, floor.probe, floor.elements) = (most, most, most, most);
        }
        Self { scales: scales(&rows), rows, noise: floor, usual, how }
    }

    /// What the errors of row `i` are divided by.
    pub(crate) fn scale(&self, i: usize) -> f64 {
        self.scales[i]
    }

    /// Relative noise of single elements.
    pub(crate) fn element_noise(&self) -> f64 {
        self.noise.elements
    }

    /// What nine of ten rows stay below.
    pub(crate) fn usual(&self) -> &RowDistance {
        &self.usual
    }

    /// Judges row `i`. A reference of zeros must be met exactly.
    pub(crate) fn judge(&self, i: usize, ours: &[f64], report: &mut Report) {
        let (row, recorded) = (&self.rows[i], &self.noise);
        if row.reference[0] == 0.0 {
            report.judge(&format!("{} l2", row.name), ours[0], 0.0);
            return;
        }
        let d = row.distance(ours, self.how).over(self.scales[i]);
        let n = row.n.max(1) as f64;
        let (noise, open) = match row.allowance {
            _ if report.precision == Precision::F64 => (0.0, 0.0),
            Allowance::Noise(noise) => (noise, 0.0),
            Allowance::Elements(count) => (0.0, count as f64),
            Allowance::None | Allowance::NoTotals => (0.0, 0.0),
        };
        let mut one = |what: &str, error: f64, recorded: f64, extra: f64| {
            let allowed = tolerance(recorded.max(noise), report.precision) + extra;
            report.judge(&format!("{} {what}", row.name), error, allowed);
        };
        one("maxabs", d.maxabs, recorded.maxabs, 0.0);
        one("elements", d.elements, recorded.elements, 0.0);
        if row.allowance != Allowance::NoTotals {
            // One of n equal elements is a part 1 / n of the squared norm.
            one("l2", d.l2, recorded.l2, 0.5 * open / n);
            one("sum", d.sum, recorded.sum, open / n.sqrt());
            one("probe", d.probe, recorded.probe, open * (3.0 / n).sqrt());
        }
    }
}
