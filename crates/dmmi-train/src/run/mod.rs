//! A run: epochs of steps, evaluation after each, checkpoints, and the conditions that end it.
//!
//! Everything random is drawn from (seed, epoch, step), so a run that is killed and resumed ends with the same bytes on CPU.

mod begin;
mod epoch;
mod initial;
mod pretrain;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Device, Var};
use nn_ops::{AdamW, Uploader};
use refzom_dataset::DataError;

use crate::ahead::Ahead;
use crate::checkpoint::{Best, EpochSums, RunDir, RunState, find_checkpoint};
use crate::config::TrainConfig;
use crate::data::{RunData, Split, load_vocabulary};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::observe::{Observer, StepRecord};
use crate::schedule::PolyDecay;
use crate::step::{StepSettings, StepStats, step};

/// File of the optimiser's moments in a checkpoint folder.
const OPTIMIZER: &str = "optimizer.safetensors";
/// File of the [`RunState`] in a checkpoint folder.
const STATE: &str = "state.json";

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
    /// `stop.patience` evaluations brought no better score; resume with a larger one to go on.
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
    let network = Network::blank(&config.model, config.seed, &options.device)?
        .compute_in(config.precision.activations())
        .checkpointing(config.checkpoint_activations);
    let (optimizer, trained) = network.optimizer(&config.optimizer)?;
    let mut run =
        Run { config, data, dir, network, optimizer, trained, began: Instant::now(), saved: None };
    let (state, pretraining) = run.begin(options, observer)?;
    if run.saved.is_none() {
        if let Some((ended, folder)) = run.pretrain(pretraining, options, observer)? {
            return Ok(Outcome {
                ended,
                step: 0,
                epoch: 0,
                best: None,
                last: folder.clone(),
                checkpoint: folder,
            });
        }
        if run.config.pretrain.is_some() {
            run.save(&state, observer)?;
        }
    }
    run.dir.end_pretraining()?;
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
        if !state.finished
            && let Some(note) = self.without_best()
        {
            observer.note(&note)?;
        }
        let mut check_gradients = true;
        let mut uploader = Uploader::new(&self.network.device);
        let mut ended = if state.finished { Some(self.end_of(&state)) } else { None };
        while ended.is_none() {
            let batches = self.data.train.epoch(state.epoch, state.batch)?;
            let mut batches = Ahead::new(batches.interrupted_by(Arc::clone(&options.stop)));
            while state.batch < steps_per_epoch {
                ended = self.stop_due(&state, options);
                if ended.is_some() {
                    break;
                }
                let clock = Instant::now();
                let placed = match batches.next(&mut uploader) {
                    None => break,
                    Some(Err(Error::Data(DataError::Stopped))) => {
                        ended = Some(Ended::Interrupted);
                        break;
                    }
                    Some(placed) => placed?,
                };
                let data_seconds = clock.elapsed().as_secs_f64();
                let settings = StepSettings {
                    seed: self.config.seed,
                    step: state.step,
                    epoch: state.epoch + 1,
                    lr: schedule.lr(state.step),
                    parts: self.config.schedule.parts,
                    clip_norm: self.config.optimizer.clip_norm,
                    check_gradients,
                };
                let losses = &self.config.loss;
                let stats = step(
                    &self.network,
                    &mut self.optimizer,
                    &self.trained,
                    &placed,
                    losses,
                    &settings,
                    &mut || batches.prepare(&mut uploader),
                )?;
                check_gradients = false;
                state.step += 1;
                state.batch += 1;
                let seconds = clock.elapsed().as_secs_f64();
                let samples = placed.batch.len();
                add(&mut state.sums, &stats, samples, seconds);
                state.sums.waiting += data_seconds;
                observer.step(&StepRecord {
                    step: state.step,
                    epoch: state.epoch + 1,
                    lr: settings.lr,
                    stats,
                    samples,
                    seconds,
                    data_seconds,
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
        self.minutes_over().then_some(Ended::Minutes)
    }

    /// Whether the run has had its `stop.minutes`.
    fn minutes_over(&self) -> bool {
        let over = |minutes: f64| self.began.elapsed() >= Duration::from_secs_f64(minutes * 60.0);
        self.config.stop.minutes.is_some_and(over)
    }

    /// Why no checkpoint will be called best, if none will.
    fn without_best(&self) -> Option<String> {
        let by = self.config.eval.best_by;
        let counted = |val: &Split| {
            let mut samples = val.dataset().samples().iter();
            !by.needs_targets() || samples.any(|sample| sample.kind.has_target())
        };
        let why = match &self.data.val {
            None => "no validation split (data.val)".to_owned(),
            Some(val) if counted(val) => return None,
            Some(_) => format!(
                "no sentence of the validation split has a target, and {by} (eval.best_by) counts no others"
            ),
        };
        Some(format!("{why}: the last checkpoint is kept, none is called best"))
    }

    /// Whether nothing is left to do, by the configuration of now.
    fn is_over(&self, state: &RunState) -> bool {
        state.epoch >= self.config.schedule.epochs
            || self.config.stop.patience.is_some_and(|patience| state.since_best >= patience)
    }

    fn end_of(&self, state: &RunState) -> Ended {
        if state.epoch >= self.config.schedule.epochs { Ended::Complete } else { Ended::Patience }
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
