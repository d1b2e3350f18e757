//! What a run tells the outside: every side effect but checkpoints goes through an [`Observer`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::Best;
use crate::error::Result;
use crate::evaluate::{Evaluation, Summary};
use crate::step::StepStats;

/// Watches a run. Every method does nothing unless written; an error ends the run.
pub trait Observer {
    /// The run begins or goes on.
    fn started(&mut self, _start: &Start) -> Result<()> {
        Ok(())
    }

    /// One step of `[pretrain]` is done; after [`Self::started`], before the first [`Self::step`].
    fn pretraining(&mut self, _record: &PretrainRecord) -> Result<()> {
        Ok(())
    }

    /// One optimiser step is done.
    fn step(&mut self, _record: &StepRecord) -> Result<()> {
        Ok(())
    }

    /// `done` of `total` samples of the validation split are scored.
    fn evaluating(&mut self, _done: usize, _total: usize) -> Result<()> {
        Ok(())
    }

    /// The validation split is scored; called before [`Self::epoch`].
    fn evaluated(&mut self, _evaluation: &Evaluation) -> Result<()> {
        Ok(())
    }

    /// An epoch is complete.
    fn epoch(&mut self, _record: &EpochRecord) -> Result<()> {
        Ok(())
    }

    /// A checkpoint was written.
    fn checkpoint(&mut self, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// Something the user should know, in one line.
    fn note(&mut self, _text: &str) -> Result<()> {
        Ok(())
    }
}

/// How a run begins or goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Samples of the training split.
    pub train_samples: usize,
    /// Samples of the validation split; none: there is no such split.
    pub val_samples: Option<usize>,
    /// Trained parameters (numbers, not tensors).
    pub trained: usize,
    /// All parameters of the network.
    pub parameters: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Steps of the whole schedule.
    pub total_steps: usize,
    /// Steps already done, when a run is taken up again.
    pub step: usize,
    /// Epochs already done.
    pub epoch: usize,
    /// Epochs of the schedule.
    pub epochs: usize,
    /// Steps of `[pretrain]` that come before the first step; none behind a checkpoint.
    pub pretrain_steps: usize,
    /// Of these, already done.
    pub pretrained: usize,
}

/// One step of `[pretrain]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainRecord {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Learning rate of the step.
    pub lr: f64,
    /// Mean cross-entropy over the cells.
    pub loss: f64,
    /// Share of the objects' cells whose category was found, 0-1; 0 where there were none.
    pub accuracy: f64,
    /// Euclidean norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Pictures in the batch.
    pub samples: usize,
    /// Wall time, seconds, waiting for data included.
    pub seconds: f64,
}

/// One optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps done, this one included.
    pub step: usize,
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Learning rate of the step.
    pub lr: f64,
    /// Losses and gradient norm.
    #[serde(flatten)]
    pub stats: StepStats,
    /// Samples in the batch.
    pub samples: usize,
    /// Wall time, seconds, waiting for data included.
    pub seconds: f64,
    /// Of these, waiting for data.
    #[serde(default)]
    pub data_seconds: f64,
}

/// One epoch: means over its steps, and the validation scores if it was evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Mean segmentation loss.
    pub segmentation: f64,
    /// Mean similarity loss.
    pub similarity: f64,
    /// Mean contrastive loss.
    pub contrastive: f64,
    /// Mean weighted total.
    pub total: f64,
    /// Samples a second.
    pub samples_per_second: f64,
    /// Share of the steps' time that was spent waiting for data, 0-1.
    #[serde(default)]
    pub data_wait: f64,
    /// Scores on the validation split.
    pub val: Option<Summary>,
    /// The score that chooses the best checkpoint.
    pub score: Option<f64>,
    /// The best evaluation so far.
    pub best: Option<Best>,
}

/// Several observers as one; each is told in order.
#[derive(Default)]
pub struct Observers<'a>(pub Vec<&'a mut dyn Observer>);

impl Observer for Observers<'_> {
    fn started(&mut self, start: &Start) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.started(start))
    }

    fn pretraining(&mut self, record: &PretrainRecord) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.pretraining(record))
    }

    fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.step(record))
    }

    fn evaluating(&mut self, done: usize, total: usize) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.evaluating(done, total))
    }

    fn evaluated(&mut self, evaluation: &Evaluation) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.evaluated(evaluation))
    }

    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.epoch(record))
    }

    fn checkpoint(&mut self, path: &Path) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.checkpoint(path))
    }

    fn note(&mut self, text: &str) -> Result<()> {
        self.0.iter_mut().try_for_each(|o| o.note(text))
    }
}

/// Watches nothing.
impl Observer for () {}
