//! Verdicts on summary rows: gradients, parameter changes and running statistics.
//!
//! A recorded noise is one draw, and rounding reaches gradients in rare large jumps: a pre-activation near zero that takes
//! the other side switches its ReLU, for every parameter below it at once. PyTorch's run may have had no such jump at a
//! place where the next float32 run has one. So the noise of a statistic is the largest one recorded for it in the table
//! (of the median, which does not feel jumps, the 90th percentile or the row's own).

use crate::noise::{quantile, tolerance};
use crate::report::Report;
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
}

/// A table of rows of one kind.
pub(crate) struct Table<'a> {
    rows: Vec<Row<'a>>,
    noise: Vec<RowDistance>,
    floor: RowDistance,
    usual_norm_noise: f64,
    how: Elements,
}

impl<'a> Table<'a> {
    /// Measures the noise of every row.
    pub(crate) fn new(rows: Vec<Row<'a>>, how: Elements) -> Self {
        let distance = |row: &Row, values: &[f64]| {
            let skip = |e: usize| row.undefined.iter().any(|part| part.contains(&e));
            RowDistance::between(values, row.reference, row.n, how, skip)
        };
        let noise: Vec<RowDistance> = rows.iter().map(|row| distance(row, row.torch_f32)).collect();
        let over = |pick: fn(&RowDistance) -> f64, q| quantile(noise.iter().map(pick), q);
        let floor = RowDistance {
            l2: over(|d| d.l2, 1.0),
            sum: over(|d| d.sum, 1.0),
            maxabs: over(|d| d.maxabs, 1.0),
            probe: over(|d| d.probe, 1.0),
            elements: over(|d| d.elements, if how == Elements::Rms { 1.0 } else { 0.9 }),
        };
        let usual_norm_noise = over(|d| d.l2, 0.9);
        Self { rows, noise, floor, usual_norm_noise, how }
    }

    /// Relative noise of the elements of row `i`, at least the floor.
    pub(crate) fn element_noise(&self, i: usize) -> f64 {
        self.noise[i].elements.max(self.floor.elements)
    }

    /// The largest noise of the norms.
    pub(crate) fn norm_noise(&self) -> f64 {
        self.floor.l2
    }

    /// The 90th percentile of the noise of the norms.
    pub(crate) fn usual_norm_noise(&self) -> f64 {
        self.usual_norm_noise
    }

    /// Judges row `i`. A reference of zeros must be met exactly.
    pub(crate) fn judge(&self, i: usize, ours: &[f64], report: &mut Report) {
        let (row, own, floor) = (&self.rows[i], &self.noise[i], &self.floor);
        if row.reference[0] == 0.0 {
            report.judge(&format!("{} l2", row.name), ours[0], 0.0);
            return;
        }
        let skip = |e: usize| row.undefined.iter().any(|part| part.contains(&e));
        let d = RowDistance::between(ours, row.reference, row.n, self.how, skip);
        let mut one = |what: &str, error: f64, own: f64, floor: f64| {
            // `max` drops a NaN, so a noise that was not recorded leaves the floor.
            let allowed = tolerance(own.max(floor), report.precision);
            report.judge(&format!("{} {what}", row.name), error, allowed);
        };
        one("maxabs", d.maxabs, own.maxabs, floor.maxabs);
        one("elements", d.elements, own.elements, floor.elements);
        if row.undefined.is_empty() {
            one("l2", d.l2, own.l2, floor.l2);
            one("sum", d.sum, own.sum, floor.sum);
            one("probe", d.probe, own.probe, floor.probe);
        }
    }
}
