//! Where a run stands: with the weights and the optimiser's moments, all that is needed to go on bit for bit.
//!
//! No generator state is stored because none exists: the order of samples is drawn from (seed, epoch), erased phrases from
//! (seed, epoch, sample), dropout from (seed, step).

use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;

/// Format of `state.json`; another number is refused.
pub(crate) const FORMAT: u32 = 1;

/// Where a run stands; `state.json` of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Format of this file.
    pub format: u32,
    /// Optimiser steps done.
    pub step: usize,
    /// Epochs completed, evaluation included.
    pub epoch: usize,
    /// Batches done in the epoch under way.
    pub batch: usize,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub since_best: usize,
    /// Whether the run reached its end.
    pub finished: bool,
    /// Sums over the epoch under way.
    pub sums: EpochSums,
    /// The training split, to notice that it changed.
    pub data: Fingerprint,
    /// The configuration of the run.
    pub config: TrainConfig,
}

/// The best evaluation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its score, as `eval.best_by` defines it.
    pub score: f64,
    /// Optimiser steps done by then.
    pub step: usize,
    /// Epochs completed by then.
    pub epoch: usize,
}

/// Sums over the steps of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSums {
    /// Steps summed.
    pub steps: usize,
    /// Samples seen.
    pub samples: usize,
    /// Sum of segmentation losses.
    pub segmentation: f64,
    /// Sum of similarity losses.
    pub similarity: f64,
    /// Sum of contrastive losses.
    pub contrastive: f64,
    /// Sum of weighted totals.
    pub total: f64,
    /// Wall time of the steps, seconds.
    pub seconds: f64,
    /// Of these, waiting for data; not in older checkpoints.
    #[serde(default)]
    pub waiting: f64,
}

/// What identifies a split without keeping it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Number of samples.
    pub samples: usize,
    /// CRC-32 of all sample ids and expressions in order.
    pub crc32: u32,
}
