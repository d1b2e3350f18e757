//! How a run begins: from nothing, from given weights, or where its newest intact checkpoint stands.

use std::path::Path;

use candle_core::Var;

use super::initial::start_from;
use super::pretrain::PretrainState;
use super::{OPTIMIZER, Run, RunOptions, STATE};
use crate::checkpoint::{
    EpochSums, FORMAT, Fingerprint, RunState, WEIGHTS, WeightsReader, load_tensors,
};
use crate::config::TrainConfig;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::observe::{Observer, Start};
use crate::overrides::first_difference;

/// Keys that may differ when a run is resumed: they do not change its result (activation checkpointing draws other dropout masks).
const FREE_ON_RESUME: [&str; 23] = [
    "out",
    "init",
    "checkpoint_activations",
    "data.workers",
    "data.prefetch",
    "data.cache_mb",
    "data.check_pictures",
    "data.test",
    "data.leaks",
    "data.held_out",
    "data.train.cache",
    "data.val.cache",
    "data.train.dir",
    "data.train.refs",
    "data.train.instances",
    "data.train.images",
    "data.val.dir",
    "data.val.refs",
    "data.val.instances",
    "data.val.images",
    "eval.batch_size",
    "checkpoint",
    "stop",
];

impl Run {
    /// The state to go on from: the newest checkpoint's, or that of a new run.
    pub(super) fn begin(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<(RunState, Option<PretrainState>)> {
        let (checkpoint, damaged) =
            if options.resume { self.dir.latest() } else { (None, Vec::new()) };
        for error in &damaged {
            observer.note(&format!("passed over: {error}"))?;
        }
        let mut pretraining = None;
        let state = match checkpoint {
            Some(path) => self.resume(&path, observer)?,
            None if damaged.is_empty() => {
                pretraining = self.begun_pretraining(observer)?;
                if options.resume && pretraining.is_none() {
                    let out = self.dir.root().display();
                    observer.note(&format!(
                        "no checkpoint in {out} yet: starting from the beginning"
                    ))?;
                }
                self.network.store.draw()?;
                if let Some(init) = self.config.init.clone() {
                    for note in start_from(&self.network.store, &self.config.model, &init)? {
                        observer.note(&note)?;
                    }
                }
                self.fresh()
            }
            None => {
                let message =
                    "every checkpoint in it is damaged; start anew with another --out".to_owned();
                return Err(Error::Resume { path: self.config.out.clone(), message });
            }
        };
        let path = self.dir.root().join("config.toml");
        std::fs::write(&path, self.config.to_toml()?).map_err(Error::write(&path))?;
        let count = |vars: &[(String, Var)]| vars.iter().map(|(_, var)| var.elem_count()).sum();
        observer.started(&Start {
            train_samples: self.data.train.len(),
            val_samples: self.data.val.as_ref().map(Split::len),
            trained: count(&self.trained),
            parameters: count(&self.network.store.parameters()),
            steps_per_epoch: self.data.train.steps(),
            total_steps: self.data.train.steps() * self.config.schedule.epochs,
            step: state.step,
            epoch: state.epoch,
            epochs: self.config.schedule.epochs,
            pretrain_steps: match (&self.config.pretrain, &self.saved) {
                (Some(pretrain), None) => pretrain.steps,
                _ => 0,
            },
            pretrained: pretraining.as_ref().map_or(0, |state| state.step),
        })?;
        Ok((state, pretraining))
    }

    fn fresh(&self) -> RunState {
        RunState {
            format: FORMAT,
            step: 0,
            epoch: 0,
            batch: 0,
            best: None,
            since_best: 0,
            finished: false,
            sums: EpochSums::default(),
            data: self.data.train.fingerprint(),
            config: self.config.clone(),
        }
    }

    fn resume(&mut self, path: &Path, observer: &mut dyn Observer) -> Result<RunState> {
        let refuse = |message: String| Error::Resume { path: path.to_path_buf(), message };
        let file = path.join(STATE);
        let bytes = std::fs::read(&file).map_err(Error::read(&file))?;
        let mut state: RunState = serde_json::from_slice(&bytes)
            .map_err(|error| refuse(format!("{STATE} is of another version of this program ({error}); start anew with another --out")))?;
        if state.format != FORMAT {
            return Err(refuse(format!(
                "{STATE} has format {}, this program writes {FORMAT}; start anew with another --out",
                state.format
            )));
        }
        self.is_same_run(path, &state.config, &state.data)?;
        WeightsReader::open(&path.join(WEIGHTS))?.fill(&self.network.store)?;
        let moments = load_tensors(&path.join(OPTIMIZER), &self.network.device)?;
        self.optimizer
            .load_state(&moments)
            .map_err(|error| refuse(format!("{OPTIMIZER}: {error}")))?;
        state.config = self.config.clone();
        state.finished = self.is_over(&state);
        self.saved = Some(((state.step, state.epoch), path.to_path_buf()));
        observer.note(&format!("resuming after step {} from {}", state.step, path.display()))?;
        Ok(state)
    }

    /// Refuses a state, which lies in `path`, of another configuration or other data.
    pub(super) fn is_same_run(
        &self,
        path: &Path,
        config: &TrainConfig,
        data: &Fingerprint,
    ) -> Result<()> {
        let refuse = |message: String| Error::Resume { path: path.to_path_buf(), message };
        let (before, now) = (config.to_table()?, self.config.to_table()?);
        if let Some((key, saved, given)) = first_difference(&before, &now, &FREE_ON_RESUME) {
            return Err(refuse(format!(
                "the run has {key} = {saved}, the configuration now says {given}; set it back, or start anew with another --out"
            )));
        }
        let now = self.data.train.fingerprint();
        if *data != now {
            return Err(refuse(format!(
                "the training split changed ({} samples then, {} now, or other sentences); restore it, or start anew with another --out",
                data.samples, now.samples
            )));
        }
        Ok(())
    }
}
