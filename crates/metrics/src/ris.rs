//! Referring image segmentation with zero-target samples: oIoU, mIoU, Prec@X and Acc, as Ref-ZOM's `test.py`
//! computes them (spec §9).

use serde::{Deserialize, Serialize};

use crate::exact::ExactSum;
use crate::overlap::Overlap;

/// IoU a sample must reach (`>=`) to count for Prec@X.
pub const RIS_THRESHOLDS: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];

/// Running sums; the order of samples and of merging never changes a result.
///
/// Samples without target enter the accuracy only, the others everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RisMetrics {
    targets: u64,
    intersection: u64,
    union: u64,
    iou: ExactSum,
    hits: [u64; 5],
    zeros: u64,
    rejected: u64,
}

impl RisMetrics {
    /// No samples yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample with one or more targets.
    pub fn add_target(&mut self, overlap: Overlap) {
        let iou = overlap.iou();
        self.targets += 1;
        self.intersection += overlap.intersection;
        self.union += overlap.union();
        self.iou.add(iou);
        for (hits, threshold) in self.hits.iter_mut().zip(RIS_THRESHOLDS) {
            *hits += u64::from(iou >= threshold);
        }
    }

    /// Adds a sample without target, for which `predicted_pixels` were marked; right is 0.
    pub fn add_zero(&mut self, predicted_pixels: u64) {
        self.zeros += 1;
        self.rejected += u64::from(predicted_pixels == 0);
    }

    /// Adds the samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.targets += other.targets;
        self.intersection += other.intersection;
        self.union += other.union;
        self.iou.merge(&other.iou);
        self.hits.iter_mut().zip(other.hits).for_each(|(a, b)| *a += b);
        self.zeros += other.zeros;
        self.rejected += other.rejected;
    }

    /// Samples with a target.
    pub fn targets(&self) -> u64 {
        self.targets
    }

    /// Samples without.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// oIoU: `Σ intersection / Σ union` over the samples with a target, in 0–1.
    /// `None` without such a sample, or if all of their masks are empty.
    pub fn overall_iou(&self) -> Option<f64> {
        (self.union > 0).then(|| self.intersection as f64 / self.union as f64)
    }

    /// mIoU: mean of the samples' IoUs, in 0–1. `None` without a sample with a target.
    pub fn mean_iou(&self) -> Option<f64> {
        self.iou.mean(self.targets)
    }

    /// Prec@X for each of [`RIS_THRESHOLDS`]: share of the samples with a target whose IoU is at least X.
    pub fn precision(&self) -> [Option<f64>; 5] {
        self.hits.map(|hits| ratio(hits, self.targets))
    }

    /// Prec@`threshold`; `None` for a threshold not in [`RIS_THRESHOLDS`] or without samples.
    pub fn precision_at(&self, threshold: f64) -> Option<f64> {
        let index = RIS_THRESHOLDS.iter().position(|t| (t - threshold).abs() < 1e-9)?;
        self.precision()[index]
    }

    /// Acc: share of the samples without target for which no pixel was marked, in 0–1.
    pub fn zero_accuracy(&self) -> Option<f64> {
        ratio(self.rejected, self.zeros)
    }
}

/// `part / whole`, `None` for nothing of nothing.
pub(crate) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_undefined() {
        let metrics = RisMetrics::new();
        assert_eq!(metrics.overall_iou(), None);
        assert_eq!(metrics.mean_iou(), None);
        assert_eq!(metrics.precision(), [None; 5]);
        assert_eq!(metrics.zero_accuracy(), None);
    }

    #[test]
    fn thresholds_are_reached_not_passed() {
        let mut metrics = RisMetrics::new();
        metrics.add_target(Overlap { intersection: 5, predicted: 5, truth: 10 });
        assert_eq!(metrics.precision(), [Some(1.0), Some(0.0), Some(0.0), Some(0.0), Some(0.0)]);
        assert_eq!(metrics.precision_at(0.5), Some(1.0));
        assert_eq!(metrics.precision_at(0.55), None);
        metrics.add_zero(0);
        metrics.add_zero(3);
        assert_eq!((metrics.zero_accuracy(), metrics.overall_iou()), (Some(0.5), Some(0.5)));
    }
}
