//! Referring expressions joined with their images and outlines: one [`Sample`] a sentence (spec section 10).

mod annotations;
mod cache;
mod cache_codec;
mod format;
mod hash;
mod images;
mod join;
mod layout;
mod leak;
mod load;
mod rejected;
mod sample;

pub use annotations::Annotations;
pub use format::{Format, Located};
pub use layout::DatasetConfig;
pub use leak::{Leaks, PictureKey};
pub use rejected::{RejectReason, Rejected, count_reasons};
pub use sample::{Sample, TargetKind};

pub(crate) use format::split_of_name;
pub(crate) use images::{ImageFinder, is_inside};
pub(crate) use join::MAX_EXPRESSION;

use std::collections::BTreeSet;
use std::fmt;

use rand::seq::SliceRandom;

use crate::sampler::sample_rng;
use crate::{DataError, Mask};

/// The samples of one split, in the order of the file.
#[derive(Clone, Debug)]
pub struct Dataset {
    samples: Vec<Sample>,
}

impl Dataset {
    /// A data set of samples made elsewhere.
    pub fn from_samples(samples: Vec<Sample>) -> Self {
        Self { samples }
    }

    /// All samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// One sample, `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<&Sample> {
        self.samples.get(index)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// What every sample refers to, in order.
    pub fn kinds(&self) -> Vec<TargetKind> {
        self.samples.iter().map(|s| s.kind).collect()
    }

    /// The mask of one sample at the size of its image.
    ///
    /// # Errors
    /// There is no such sample, or its outline cannot be drawn.
    pub fn mask(&self, index: usize) -> Result<Mask, DataError> {
        let sample = self.get(index).ok_or_else(|| {
            DataError::Mask(format!("there is no sample {index}, only {}", self.len()))
        })?;
        sample.mask()
    }

    /// Only the first `count` samples.
    pub fn truncated(mut self, count: usize) -> Self {
        self.samples.truncate(count);
        self
    }

    /// Only the samples that `keep` answers true for.
    pub fn filtered(mut self, keep: impl FnMut(&Sample) -> bool) -> Self {
        self.samples.retain(keep);
        self
    }

    /// `count` samples drawn with `seed`, each at most once, in the order of the file.
    pub fn drawn(mut self, count: usize, seed: u64) -> Self {
        if count < self.samples.len() {
            let mut rng = sample_rng(seed, 0, u64::MAX);
            let mut places: Vec<usize> = (0..self.samples.len()).collect();
            let (chosen, _) = places.partial_shuffle(&mut rng, count);
            let chosen: BTreeSet<usize> = chosen.iter().copied().collect();
            let all = self.samples.into_iter().enumerate();
            self.samples = all.filter(|(i, _)| chosen.contains(i)).map(|(_, s)| s).collect();
        }
        self
    }

    /// How much of what there is.
    pub fn summary(&self) -> DatasetSummary {
        let count = |kind| self.samples.iter().filter(|s| s.kind == kind).count();
        let distinct =
            |key: fn(&Sample) -> i64| self.samples.iter().map(key).collect::<BTreeSet<_>>().len();
        DatasetSummary {
            expressions: self.len(),
            references: distinct(|s| s.ref_id),
            images: distinct(|s| s.image_id),
            zero: count(TargetKind::Zero),
            one: count(TargetKind::One),
            many: count(TargetKind::Many),
        }
    }
}

/// Counts of a [`Dataset`]; zero, one and many count expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DatasetSummary {
    /// Sentences, hence samples.
    pub expressions: usize,
    /// Referred regions.
    pub references: usize,
    /// Images with at least one sentence.
    pub images: usize,
    /// Expressions that refer to nothing.
    pub zero: usize,
    /// Expressions that refer to one object.
    pub one: usize,
    /// Expressions that refer to several objects.
    pub many: usize,
}

impl fmt::Display for DatasetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} expressions ({} one-to-one, {} one-to-many, {} one-to-zero) on {} images",
            self.expressions, self.one, self.many, self.zero, self.images
        )
    }
}
