//! The end of an epoch: evaluation, the best so far, the checkpoint.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::{Ended, OPTIMIZER, Run, RunOptions, STATE};
use crate::checkpoint::{Best, ModelFile, RunState, save_tensors, write_json, write_model};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, evaluate};
use crate::observe::{EpochRecord, Observer};

impl Run {
    /// Evaluates, notes the best, writes the checkpoint of the epoch's end. Says whether the run is over.
    pub(super) fn finish_epoch(
        &mut self,
        state: &mut RunState,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<Ended>> {
        let last = state.epoch + 1 == self.config.schedule.epochs;
        let due = last || (state.epoch + 1).is_multiple_of(self.config.eval.every_epochs);
        let evaluation = match self.evaluate_val(due, options, observer) {
            // Interrupted in the middle: the checkpoint stands before the evaluation, which the resumed run makes.
            Err(Error::Interrupted) => return Ok(Some(Ended::Interrupted)),
            // A network that has diverged takes no good checkpoint's place.
            Err(error @ Error::NonFiniteOutput { .. }) => return Err(error),
            // The epoch's steps are good whatever became of their evaluation.
            Err(error) => {
                self.save(state, observer)?;
                return Err(error);
            }
            Ok(evaluation) => evaluation,
        };
        state.epoch += 1;
        state.batch = 0;
        let mut score = None;
        if let Some(evaluation) = &evaluation {
            score = evaluation.summary().score(self.config.eval.best_by);
            let better =
                score.is_some_and(|score| state.best.is_none_or(|best| score > best.score));
            // What nothing counts is no worse than before.
            if score.is_some() {
                state.since_best = if better { 0 } else { state.since_best + 1 };
            }
            if let (Some(score), true) = (score, better) {
                state.best = Some(Best { score, step: state.step, epoch: state.epoch });
                let file = self.model_file(state, Some(score));
                self.dir
                    .save_best(state.step, |path| write_model(path, &self.network.store, &file))?;
            }
        }
        state.finished = self.is_over(state);
        let sums = std::mem::take(&mut state.sums);
        let mean = |sum: f64| sum / sums.steps.max(1) as f64;
        // Kept even if it cannot be told; told first, so that the log has the line before the checkpoint is there.
        let told = observer.epoch(&EpochRecord {
            epoch: state.epoch,
            step: state.step,
            segmentation: mean(sums.segmentation),
            similarity: mean(sums.similarity),
            contrastive: mean(sums.contrastive),
            total: mean(sums.total),
            samples_per_second: sums.samples as f64 / sums.seconds.max(1e-9),
            data_wait: sums.waiting / sums.seconds.max(1e-9),
            val: evaluation.as_ref().map(Evaluation::summary),
            score,
            best: state.best,
        });
        self.save(state, observer)?;
        told?;
        Ok(state.finished.then(|| self.end_of(state)))
    }

    fn evaluate_val(
        &self,
        due: bool,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<Evaluation>> {
        let Some(val) = self.data.val.as_ref().filter(|_| due) else { return Ok(None) };
        let evaluation =
            evaluate(&self.network.eval, &self.network.device, val, false, &mut |done, total| {
                if options.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                observer.evaluating(done, total)
            })?;
        observer.evaluated(&evaluation)?;
        Ok(Some(evaluation))
    }

    /// Writes the checkpoint of `state` unless it is there.
    pub(super) fn save(
        &mut self,
        state: &RunState,
        observer: &mut dyn Observer,
    ) -> Result<PathBuf> {
        if let Some((at, path)) = &self.saved
            && *at == (state.step, state.epoch)
        {
            return Ok(path.clone());
        }
        let file = self.model_file(state, None);
        let path = self.dir.save_step(state.step, state.epoch, |path| {
            write_model(path, &self.network.store, &file)?;
            save_tensors(&path.join(OPTIMIZER), &self.optimizer.state()?)?;
            write_json(&path.join(STATE), state)
        })?;
        self.dir.prune(self.config.checkpoint.keep_last, state.best.map(|best| best.step))?;
        self.saved = Some(((state.step, state.epoch), path.clone()));
        observer.checkpoint(&path)?;
        Ok(path)
    }

    fn model_file(&self, state: &RunState, score: Option<f64>) -> ModelFile {
        ModelFile {
            format: 1,
            model: self.config.model.clone(),
            image_size: self.config.data.image_size,
            resize: self.config.data.resize,
            max_words: self.config.data.max_words,
            vocab: self.data.vocab().to_owned(),
            step: state.step,
            epoch: state.epoch,
            score: score.map(|score| (self.config.eval.best_by.to_string(), score)),
        }
    }
}
