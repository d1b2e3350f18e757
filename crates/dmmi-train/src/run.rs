//! A run: epochs of steps, evaluation after each, checkpoints, and the conditions that end it.
//!
//! Everything random is drawn from (seed, epoch, step), so a run that is killed and resumed ends with the same bytes on CPU.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Device, Var};
use nn_ops::AdamW;

use crate::checkpoint::{
    Best, EpochSums, FORMAT, ModelFile, RunDir, RunState, WEIGHTS, find_checkpoint, load_strictly,
    load_tensors, save_tensors, write_json, write_model,
};
use crate::config::TrainConfig;
use crate::data::{RunData, Split, load_vocabulary};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, evaluate};
use crate::network::Network;
use crate::observe::{EpochRecord, Observer, Start, StepRecord};
use crate::overrides::first_difference;
use crate::schedule::PolyDecay;
use crate::step::{StepSettings, StepStats, train_step};

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Keys that may differ when a run is resumed: they do not change its result.
const FREE_ON_RESUME: [&str; 18] = [
    "out",
    "init",
    "data.workers",
    "data.prefetch",
    "data.cache_mb",
    "data.check_pictures",
    "data.test",
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

/// How to run, apart from what decides the result.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where to compute.
    pub device: Device,
    /// Go on from the newest intact checkpoint of the run's folder.
    pub resume: bool,
    /// Set it (from a signal handler, say) and the run finishes its step, writes a checkpoint and ends.
    pub stop: Arc<AtomicBool>,
}

impl RunOptions {
    /// A fresh run on `device` that nothing interrupts.
    pub fn on(device: Device) -> Self {
        Self { device, resume: false, stop: Arc::default() }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The schedule is complete.
    Complete,
    /// `stop.patience` evaluations brought no better score.
    Patience,
    /// `stop.steps` was reached; resume with a larger one to go on.
    Steps,
    /// `stop.minutes` are over; resume to go on.
    Minutes,
    /// [`RunOptions::stop`] was set; resume to go on.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Why.
    pub ended: Ended,
    /// Steps done.
    pub step: usize,
    /// Epochs completed.
    pub epoch: usize,
    /// The best evaluation; none without a validation split.
    pub best: Option<Best>,
    /// The newest checkpoint.
    pub last: PathBuf,
    /// The checkpoint to use: the best one, or the newest where nothing was evaluated.
    pub checkpoint: PathBuf,
}

/// Trains as `config` says, in `config.out`.
///
/// Call it on a thread with a large stack (256 MB): Candle's backward pass recurses over the graph.
///
/// # Errors
/// Bad input ([`Error::is_bad_input`]), a loss that is not finite, a full disk, or no memory. Checkpoints written before stay intact.
pub fn train(
    config: TrainConfig,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    // The network's sizes are checked before any data is read.
    let (_, vocabulary) = load_vocabulary(&config.data.vocab)?;
    let config = config.with_vocabulary(vocabulary)?;
    let data = RunData::open(&config)?;
    let dir = RunDir::open(&config.out)?;
    if !options.resume && !dir.is_empty() {
        return Err(Error::RunExists(config.out.clone()));
    }
    for note in data.notes() {
        observer.note(&note)?;
    }
    let network = Network::new(&config.model, config.seed, &options.device)?;
    let (optimizer, trained) = network.optimizer(&config.optimizer)?;
    let mut run =
        Run { config, data, dir, network, optimizer, trained, began: Instant::now(), saved: None };
    let state = run.begin(options, observer)?;
    run.go(state, options, observer)
}

struct Run {
    config: TrainConfig,
    data: RunData,
    dir: RunDir,
    network: Network,
    optimizer: AdamW,
    trained: Vec<(String, Var)>,
    began: Instant,
    /// The newest checkpoint: (step, epoch) and its path.
    saved: Option<((usize, usize), PathBuf)>,
}

impl Run {
    /// The state to go on from: the newest checkpoint's, or that of a new run.
    fn begin(&mut self, options: &RunOptions, observer: &mut dyn Observer) -> Result<RunState> {
        let (checkpoint, damaged) =
            if options.resume { self.dir.latest() } else { (None, Vec::new()) };
        for error in &damaged {
            observer.note(&format!("passed over: {error}"))?;
        }
        let state = match checkpoint {
            Some(path) => self.resume(&path, observer)?,
            None if damaged.is_empty() => {
                if options.resume {
                    observer.note("no checkpoint yet: starting from the beginning")?;
                }
                if let Some(init) = self.config.init.clone() {
                    let note = start_from(&self.network, &init)?;
                    observer.note(&note)?;
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
        })?;
        Ok(state)
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
        let (before, now) = (state.config.to_table()?, self.config.to_table()?);
        if let Some((key, saved, given)) = first_difference(&before, &now, &FREE_ON_RESUME) {
            return Err(refuse(format!(
                "the run has {key} = {saved}, the configuration now says {given}; set it back, or start anew with another --out"
            )));
        }
        let data = self.data.train.fingerprint();
        if state.data != data {
            return Err(refuse(format!(
                "the training split changed ({} samples then, {} now, or other sentences); restore it, or start anew with another --out",
                state.data.samples, data.samples
            )));
        }
        load_strictly(&self.network.store, &path.join(WEIGHTS), &self.network.device)?;
        let moments = load_tensors(&path.join(OPTIMIZER), &self.network.device)?;
        self.optimizer
            .load_state(&moments)
            .map_err(|error| refuse(format!("{OPTIMIZER}: {error}")))?;
        state.config = self.config.clone();
        self.saved = Some(((state.step, state.epoch), path.to_path_buf()));
        observer.note(&format!("resuming after step {} from {}", state.step, path.display()))?;
        Ok(state)
    }

    fn go(
        &mut self,
        mut state: RunState,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let steps_per_epoch = self.data.train.steps();
        let epochs = self.config.schedule.epochs;
        let schedule = PolyDecay {
            base: self.config.optimizer.lr,
            total: steps_per_epoch * epochs,
            power: self.config.schedule.power,
            warmup: self.config.schedule.warmup_steps,
        };
        if self.data.val.is_none() && !state.finished {
            observer.note(
                "no validation split (data.val): the last checkpoint is kept, none is called best",
            )?;
        }
        let mut check_gradients = true;
        let mut ended = if state.finished { Some(self.end_of(&state)) } else { None };
        while ended.is_none() {
            let mut batches = self.data.train.epoch(state.epoch, state.batch)?;
            while state.batch < steps_per_epoch {
                ended = self.stop_due(&state, options);
                if ended.is_some() {
                    break;
                }
                let clock = Instant::now();
                let Some(batch) = batches.next() else { break };
                let batch = batch?;
                let settings = StepSettings {
                    seed: self.config.seed,
                    step: state.step,
                    epoch: state.epoch + 1,
                    lr: schedule.lr(state.step),
                    clip_norm: self.config.optimizer.clip_norm,
                    check_gradients,
                };
                let losses = &self.config.loss;
                let stats = train_step(
                    &self.network,
                    &mut self.optimizer,
                    &self.trained,
                    &batch,
                    losses,
                    &settings,
                )?;
                check_gradients = false;
                state.step += 1;
                state.batch += 1;
                let seconds = clock.elapsed().as_secs_f64();
                let samples = batch.samples.len();
                add(&mut state.sums, &stats, samples, seconds);
                observer.step(&StepRecord {
                    step: state.step,
                    epoch: state.epoch + 1,
                    lr: settings.lr,
                    stats,
                    samples,
                    seconds,
                })?;
                let every = self.config.checkpoint.every_steps;
                let due = every.is_some_and(|every| state.step.is_multiple_of(every));
                if due && state.batch < steps_per_epoch {
                    self.save(&state, observer)?;
                }
            }
            drop(batches);
            if ended.is_none() {
                ended = self.finish_epoch(&mut state, options, observer)?;
            }
        }
        let last = self.save(&state, observer)?;
        let checkpoint = find_checkpoint(self.dir.root())?;
        let ended = ended.unwrap_or(Ended::Complete);
        Ok(Outcome {
            ended,
            step: state.step,
            epoch: state.epoch,
            best: state.best,
            last,
            checkpoint,
        })
    }

    /// Whether the run must end before its next step.
    fn stop_due(&self, state: &RunState, options: &RunOptions) -> Option<Ended> {
        let stop = &self.config.stop;
        if options.stop.load(Ordering::Relaxed) {
            return Some(Ended::Interrupted);
        }
        if stop.steps.is_some_and(|limit| state.step >= limit) {
            return Some(Ended::Steps);
        }
        let over = |minutes: f64| self.began.elapsed() >= Duration::from_secs_f64(minutes * 60.0);
        stop.minutes.is_some_and(over).then_some(Ended::Minutes)
    }

    fn end_of(&self, state: &RunState) -> Ended {
        if state.epoch >= self.config.schedule.epochs { Ended::Complete } else { Ended::Patience }
    }

    /// Evaluates, notes the best, writes the checkpoint of the epoch's end. Says whether the run is over.
    fn finish_epoch(
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
            other => other?,
        };
        state.epoch += 1;
        state.batch = 0;
        let mut score = None;
        if let Some(evaluation) = &evaluation {
            score = evaluation.summary().score(self.config.eval.best_by);
            let better =
                score.is_some_and(|score| state.best.is_none_or(|best| score > best.score));
            state.since_best = if better { 0 } else { state.since_best + 1 };
            if let (Some(score), true) = (score, better) {
                state.best = Some(Best { score, step: state.step, epoch: state.epoch });
                let file = self.model_file(state, Some(score));
                self.dir
                    .save_best(state.step, |path| write_model(path, &self.network.store, &file))?;
            }
        }
        state.finished =
            last || self.config.stop.patience.is_some_and(|patience| state.since_best >= patience);
        let sums = std::mem::take(&mut state.sums);
        let mean = |sum: f64| sum / sums.steps.max(1) as f64;
        observer.epoch(&EpochRecord {
            epoch: state.epoch,
            step: state.step,
            segmentation: mean(sums.segmentation),
            similarity: mean(sums.similarity),
            contrastive: mean(sums.contrastive),
            total: mean(sums.total),
            samples_per_second: sums.samples as f64 / sums.seconds.max(1e-9),
            val: evaluation.as_ref().map(Evaluation::summary),
            score,
            best: state.best,
        })?;
        self.save(state, observer)?;
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
    fn save(&mut self, state: &RunState, observer: &mut dyn Observer) -> Result<PathBuf> {
        if let Some((at, path)) = &self.saved {
            if *at == (state.step, state.epoch) {
                return Ok(path.clone());
            }
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
            max_words: self.config.data.max_words,
            vocab: self.data.vocab().to_owned(),
            step: state.step,
            epoch: state.epoch,
            score: score.map(|score| (self.config.eval.best_by.to_string(), score)),
        }
    }
}

fn add(sums: &mut EpochSums, stats: &StepStats, samples: usize, seconds: f64) {
    sums.steps += 1;
    sums.samples += samples;
    sums.segmentation += stats.segmentation;
    sums.similarity += stats.similarity;
    sums.contrastive += stats.contrastive;
    sums.total += stats.total;
    sums.seconds += seconds;
}

/// Copies the weights that fit from a checkpoint folder or a `.safetensors` file; says what was done.
fn start_from(network: &Network, path: &Path) -> Result<String> {
    let file =
        if path.is_dir() { find_checkpoint(path)?.join(WEIGHTS) } else { path.to_path_buf() };
    let tensors = load_tensors(&file, &network.device)?;
    let report = network.store.check(&tensors);
    if let Some((name, model, found)) = report.mismatched.first() {
        return Err(Error::checkpoint(
            &file,
            format!(
                "init: {name} has shape {found:?}, the network's is {model:?}; use weights of the same network"
            ),
        ));
    }
    if report.loaded.is_empty() {
        return Err(Error::checkpoint(
            &file,
            "init: no tensor has a name of this network; use weights of the same network",
        ));
    }
    let report = network.store.load(&tensors)?;
    Ok(format!(
        "{} of {} tensors start from {}; {} in the file were not used",
        report.loaded.len(),
        report.loaded.len() + report.missing.len(),
        file.display(),
        report.unexpected.len()
    ))
}
