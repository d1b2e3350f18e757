//! How a predicted mask overlaps the true one, in pixels; all that the metrics need of two masks.

use serde::{Deserialize, Serialize};

/// What can be wrong with two masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsError {
    /// The masks have different numbers of pixels.
    Length {
        /// Pixels of the prediction.
        predicted: usize,
        /// Pixels of the truth.
        truth: usize,
    },
}

impl std::fmt::Display for MetricsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length { predicted, truth } => write!(
                f,
                "a predicted mask of {predicted} pixels cannot be scored against one of {truth}; resize one of them"
            ),
        }
    }
}

impl std::error::Error for MetricsError {}

/// Pixel counts of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Pixels in both masks.
    pub intersection: u64,
    /// Pixels of the predicted mask.
    pub predicted: u64,
    /// Pixels of the true mask.
    pub truth: u64,
}

impl Overlap {
    /// Counts two masks of the same size, pixel by pixel.
    ///
    /// # Errors
    /// The masks differ in length.
    pub fn of(predicted: &[bool], truth: &[bool]) -> Result<Self, MetricsError> {
        Self::count(
            predicted.len(),
            truth.len(),
            predicted.iter().copied().zip(truth.iter().copied()),
        )
    }

    /// [`Self::of`] for bytes; every value but 0 is foreground.
    ///
    /// # Errors
    /// The masks differ in length.
    pub fn of_bytes(predicted: &[u8], truth: &[u8]) -> Result<Self, MetricsError> {
        let pairs = predicted.iter().zip(truth).map(|(p, t)| (*p != 0, *t != 0));
        Self::count(predicted.len(), truth.len(), pairs)
    }

    fn count(
        predicted: usize,
        truth: usize,
        pairs: impl Iterator<Item = (bool, bool)>,
    ) -> Result<Self, MetricsError> {
        if predicted != truth {
            return Err(MetricsError::Length { predicted, truth });
        }
        let mut overlap = Self::default();
        for (p, t) in pairs {
            overlap.intersection += u64::from(p && t);
            overlap.predicted += u64::from(p);
            overlap.truth += u64::from(t);
        }
        Ok(overlap)
    }

    /// Pixels in either mask.
    pub fn union(&self) -> u64 {
        (self.predicted + self.truth).saturating_sub(self.intersection)
    }

    /// `intersection / union` in 0–1; 0 if both masks are empty, as in the released code.
    pub fn iou(&self) -> f64 {
        match self.union() {
            0 => 0.0,
            union => self.intersection as f64 / union as f64,
        }
    }

    /// Whether nothing was predicted.
    pub fn predicts_nothing(&self) -> bool {
        self.predicted == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_and_iou() {
        let overlap =
            Overlap::of(&[true, true, false, false], &[true, false, true, false]).unwrap();
        assert_eq!((overlap.intersection, overlap.union()), (1, 3));
        assert_eq!(overlap, Overlap::of_bytes(&[255, 1, 0, 0], &[7, 0, 1, 0]).unwrap());
        assert_eq!(overlap.iou(), 1.0 / 3.0);
        assert_eq!(Overlap::of(&[false], &[false]).unwrap().iou(), 0.0);
        let error = Overlap::of(&[true], &[]).unwrap_err();
        assert!(error.to_string().contains("resize"));
    }
}
