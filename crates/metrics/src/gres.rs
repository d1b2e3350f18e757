//! The protocol of generalised referring segmentation (GRES, ReLA's `refer_evaluation.py`): gIoU, cIoU, N-acc,
//! T-acc, Pr@X (spec §9).
//!
//! A model may say "no target" apart from its mask; `rejected` is that answer. For a model without such an answer pass
//! [`Overlap::predicts_nothing`].

use serde::{Deserialize, Serialize};

use crate::exact::ExactSum;
use crate::overlap::Overlap;
use crate::ris::ratio;

/// IoU a sample must reach (`>=`) to count for Pr@X.
pub const GRES_THRESHOLDS: [f64; 3] = [0.7, 0.8, 0.9];

/// Running sums; the order of samples and of merging never changes a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GresMetrics {
    targets: u64,
    answered: u64,
    zeros: u64,
    rejected: u64,
    intersection: u64,
    union: u64,
    iou: ExactSum,
    hits: [u64; 3],
}

impl GresMetrics {
    /// No samples yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample with one or more targets. If the model rejected it, its intersection is 0 and its union stays.
    pub fn add_target(&mut self, overlap: Overlap, rejected: bool) {
        self.targets += 1;
        self.union += overlap.union();
        if rejected {
            return;
        }
        let iou = overlap.iou();
        self.answered += 1;
        self.intersection += overlap.intersection;
        self.iou.add(iou);
        for (hits, threshold) in self.hits.iter_mut().zip(GRES_THRESHOLDS) {
            *hits += u64::from(iou >= threshold);
        }
    }

    /// Adds a sample without target. Rejected it counts as IoU 1; answered as IoU 0, and its marked pixels join the
    /// union.
    pub fn add_zero(&mut self, predicted_pixels: u64, rejected: bool) {
        self.zeros += 1;
        if rejected {
            self.rejected += 1;
            self.iou.add(1.0);
        } else {
            self.union += predicted_pixels;
        }
    }

    /// Adds the samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.targets += other.targets;
        self.answered += other.answered;
        self.zeros += other.zeros;
        self.rejected += other.rejected;
        self.intersection += other.intersection;
        self.union += other.union;
        self.iou.merge(&other.iou);
        self.hits.iter_mut().zip(other.hits).for_each(|(a, b)| *a += b);
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.targets + self.zeros
    }

    /// gIoU: mean IoU over all samples, in 0–1.
    pub fn g_iou(&self) -> Option<f64> {
        self.iou.mean(self.samples())
    }

    /// cIoU: `Σ intersection / Σ union` over all samples, in 0–1; `None` if there is no pixel at all.
    pub fn c_iou(&self) -> Option<f64> {
        ratio(self.intersection, self.union)
    }

    /// N-acc: share of the samples without target that were rejected.
    pub fn no_target_accuracy(&self) -> Option<f64> {
        ratio(self.rejected, self.zeros)
    }

    /// T-acc: share of the samples with a target that were answered.
    pub fn target_accuracy(&self) -> Option<f64> {
        ratio(self.answered, self.targets)
    }

    /// Pr@X for each of [`GRES_THRESHOLDS`], over the samples with a target.
    pub fn precision(&self) -> [Option<f64>; 3] {
        self.hits.map(|hits| ratio(hits, self.targets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_counts() {
        let mut metrics = GresMetrics::new();
        let overlap = Overlap { intersection: 8, predicted: 10, truth: 10 };
        metrics.add_target(overlap, false);
        metrics.add_target(overlap, true);
        metrics.add_zero(0, true);
        metrics.add_zero(6, false);
        assert_eq!(metrics.g_iou(), Some((8.0 / 12.0 + 1.0) / 4.0));
        assert_eq!(metrics.c_iou(), Some(8.0 / 30.0));
        assert_eq!(
            (metrics.target_accuracy(), metrics.no_target_accuracy()),
            (Some(0.5), Some(0.5))
        );
        assert_eq!(metrics.precision(), [Some(0.0); 3]);
    }
}
