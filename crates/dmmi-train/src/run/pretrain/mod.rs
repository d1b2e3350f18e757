//! `[pretrain]`: before its first sentence, the visual encoder learns to tell the categories of `instances.json` apart.
//!
//! The published models start from encoders trained on ImageNet. From scratch, the segmentation loss alone teaches colours and
//! places soon and shapes last, because no word says which of a picture's pixels a shape consists of; object masks do.

mod head;
mod pictures;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Tensor, Var, bail};
use dmmi_model::names::FUSION;
use nn_ops::names::fits;
use nn_ops::{AdamW, Gradients, Mode, Noise, Tape, Uploader, class_cross_entropy};
use refzom_dataset::{
    Batches, CategoryMaps, DataError, ImageTransform, Order, Sampler, TargetKind,
};
use serde::{Deserialize, Serialize};

use self::head::{Head, PREFIX};
use self::pictures::{Pictures, Source};
use super::{Ended, OPTIMIZER, Run, RunOptions, STATE};
use crate::checkpoint::{
    FORMAT, Fingerprint, WEIGHTS, load_tensors, save_tensors, verify, write_json,
};
use crate::config::{OptimizerConfig, TrainConfig};
use crate::error::{Error, Result};
use crate::network::{Network, optimizer_of};
use crate::observe::{Observer, PretrainRecord};
use crate::parts::{Recording, clip, cut, in_parts};
use crate::schedule::PolyDecay;

/// Where the visual encoder lies in the network.
const VISUAL: &str = "model.backbone.";
/// Keeps its noise and its order of pictures apart from those of the run's steps.
const STREAM: u64 = 0x7072_6574_7261_696e;
/// Steps between its checkpoints, unless `checkpoint.every_steps` says otherwise.
const EVERY_STEPS: usize = 500;

/// Where an unfinished `[pretrain]` stands; its `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PretrainState {
    format: u32,
    /// Steps done.
    pub(super) step: usize,
    data: Fingerprint,
    config: TrainConfig,
}

/// What `[pretrain]` changes.
struct Learner<'a> {
    network: &'a Network,
    head: Head,
    optimizer: AdamW,
    trained: Vec<(String, Var)>,
    recording: Recording,
    uploader: Uploader,
    settings: &'a TrainConfig,
}

impl Run {
    /// The state of an unfinished `[pretrain]` of this run. One that is damaged is passed over.
    ///
    /// # Errors
    /// [`Error::Resume`] when it is of another configuration or other data.
    pub(super) fn begun_pretraining(
        &self,
        observer: &mut dyn Observer,
    ) -> Result<Option<PretrainState>> {
        let folder = self.dir.pretraining();
        if !folder.exists() {
            return Ok(None);
        }
        if let Err(error) = verify(&folder) {
            observer.note(&format!("passed over: {error}"))?;
            return Ok(None);
        }
        let file = folder.join(STATE);
        let bytes = std::fs::read(&file).map_err(Error::read(&file))?;
        let state: Option<PretrainState> = serde_json::from_slice(&bytes).ok();
        let Some(state) = state.filter(|state| state.format == FORMAT) else {
            let message = format!(
                "{STATE} is of another version of this program; start anew with another --out"
            );
            return Err(Error::Resume { path: folder, message });
        };
        self.is_same_run(&folder, &state.config, &state.data)?;
        Ok(Some(state))
    }

    /// Trains the visual encoder on categories where the configuration asks for it. A folder: stopped before its end, the state
    /// lies there.
    pub(super) fn pretrain(
        &self,
        begun: Option<PretrainState>,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<(Ended, PathBuf)>> {
        let Some(cfg) = self.config.pretrain.clone() else { return Ok(None) };
        let device = self.network.device.clone();
        let maps = CategoryMaps::open(&self.config.data.train, self.data.train.dataset()).map_err(
            |error| {
                Error::config(
                    "[pretrain]",
                    format!("{error}; leave [pretrain] out (--set pretrain=)"),
                )
            },
        )?;
        let classes = maps.names().len() + 1;
        let pictures = maps.len();
        let stages = self.network.train.stages();
        let stride = stages.first().map_or(1, |finest| finest.stride);
        let [height, width] = self.config.data.image_size;
        let source = Source {
            maps,
            transform: ImageTransform {
                resampling: self.config.data.resize,
                ..ImageTransform::imagenet(height as u32, width as u32)
            },
            cells: (height.div_ceil(stride), width.div_ceil(stride)),
            batch_size: cfg.batch_size,
            sampler: Sampler::new(
                vec![TargetKind::One; pictures],
                Order::Shuffled,
                self.config.seed ^ STREAM,
            ),
        };
        let head = Head::new(stages, classes, self.config.seed ^ STREAM, &device)?;
        let mut learner = Learner::new(&self.network, head, &self.config)?;
        let done = begun.as_ref().map_or(0, |state| state.step);
        if begun.is_some() {
            learner.load(&self.dir.pretraining())?;
            observer.note(&format!("visual encoder: going on after step {done}"))?;
        }
        let schedule = PolyDecay {
            base: cfg.lr,
            total: cfg.steps,
            power: self.config.schedule.power,
            warmup: cfg.steps / 20,
        };
        let every = self.config.checkpoint.every_steps.unwrap_or(EVERY_STEPS);
        let (data, dir) = (&self.config.data, &self.dir);
        let fingerprint = self.data.train.fingerprint();
        let save = |learner: &Learner<'_>, step: usize| {
            let state = PretrainState {
                format: FORMAT,
                step,
                data: fingerprint.clone(),
                config: self.config.clone(),
            };
            dir.save_pretraining(|folder| {
                learner.save(folder)?;
                write_json(&folder.join(STATE), &state)
            })
        };
        let mut recent = Recent::default();
        let make = move |step| source.batch(step);
        let batches = Batches::made_by(make, done..cfg.steps, data.workers, data.prefetch)?;
        let mut batches = batches.interrupted_by(Arc::clone(&options.stop));
        for step in done..cfg.steps {
            let clock = Instant::now();
            let batch = match batches.next() {
                None => break,
                Some(Err(DataError::Stopped)) => Err(Ended::Interrupted),
                Some(Ok(_)) if self.minutes_over() => Err(Ended::Minutes),
                Some(batch) => Ok(batch?),
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(ended) => {
                    let folder = save(&learner, step)?;
                    let steps = cfg.steps;
                    observer
                        .note(&format!("visual encoder: stopped after {step} of {steps} steps"))?;
                    return Ok(Some((ended, folder)));
                }
            };
            let lr = schedule.lr(step);
            let found = learner.step(&batch, step, lr)?;
            recent.add(&found);
            observer.pretraining(&PretrainRecord {
                step: step + 1,
                steps: cfg.steps,
                lr,
                loss: found.loss,
                accuracy: found.right / found.objects.max(1.0),
                grad_norm: found.grad_norm,
                samples: cfg.batch_size,
                seconds: clock.elapsed().as_secs_f64(),
            })?;
            if (step + 1).is_multiple_of(every) && step + 1 < cfg.steps {
                save(&learner, step + 1)?;
            }
        }
        observer.note(&format!(
            "visual encoder: {} steps on {} categories in {pictures} pictures; of the last steps, {recent}",
            cfg.steps,
            classes - 1,
        ))?;
        Ok(None)
    }
}

/// What one step found.
struct Found {
    loss: f64,
    /// Cells of objects whose category was found.
    right: f64,
    /// Cells of objects.
    objects: f64,
    grad_norm: f64,
}

impl<'a> Learner<'a> {
    fn new(network: &'a Network, head: Head, settings: &'a TrainConfig) -> Result<Self> {
        let encoder = |(name, _): &(String, Var)| {
            let alone = |rest: &str| !FUSION.iter().any(|(pattern, _)| fits(pattern, rest));
            name.strip_prefix(VISUAL).is_some_and(alone)
        };
        let parameters = network.store.parameters().into_iter().filter(encoder);
        let parameters = parameters.chain(head.store.parameters()).collect();
        let even = OptimizerConfig { backbone_lr_scale: 1.0, ..settings.optimizer.clone() };
        let (optimizer, trained) = optimizer_of(parameters, &even)?;
        Ok(Self {
            network,
            head,
            optimizer,
            trained,
            recording: Recording::default(),
            uploader: Uploader::new(&network.device),
            settings,
        })
    }

    fn step(&mut self, batch: &Pictures, step: usize, lr: f64) -> Result<Found> {
        let placed = self.uploader.upload(&[&batch.images, &batch.classes])?;
        let (images, classes) = (&placed[0], &placed[1]);
        let seed = self.settings.seed ^ STREAM;
        let samples = images.dim(0)?;
        let (network, head, trained) = (self.network, &self.head, &self.trained);
        let recording = &self.recording;
        let parts = in_parts(
            (samples, self.settings.schedule.parts),
            (seed, step),
            |part, noise, share| {
                let part = [cut(images, &part)?, cut(classes, &part)?];
                let pass = |part: &[Tensor], noise: &Noise| {
                    let [images, classes] = part else { bail!("pictures and their classes") };
                    let _tape = Tape::begin();
                    let maps = network.train.encode_pictures(images, Mode::Train(noise))?;
                    let logits = head.forward(&maps)?;
                    let loss = (class_cross_entropy(&logits, classes)? * share)?;
                    let gradients = Gradients::of(&loss, trained)?;
                    Ok((tally(&loss, &logits, classes)?, gradients))
                };
                let (sums, gradients) = recording.pass(&|| 0, &part, noise, share, &pass)?;
                let sums = sums.to_vec1::<f32>()?;
                let sums: [f64; 3] =
                    std::array::from_fn(|i| sums.get(i).copied().map_or(0.0, f64::from));
                Ok((sums, gradients))
            },
        )?;
        let (mut sums, mut gradients) = ([0.0; 3], Gradients::default());
        for (tallied, part) in parts {
            sums.iter_mut().zip(tallied).for_each(|(sum, value)| *sum += value);
            gradients.add(part)?;
        }
        let finite = |what: &'static str, value: f64| {
            if value.is_finite() {
                Ok(value)
            } else {
                Err(Error::PretrainNonFinite { what, value, step })
            }
        };
        let loss = finite("the loss", sums[0])?;
        if step == 0 {
            let missing = gradients.missing(trained);
            if !missing.is_empty() {
                return Err(Error::NoGradient(missing));
            }
        }
        let grad_norm = clip(&mut gradients, self.settings.optimizer.clip_norm)?;
        let grad_norm = finite("the gradient norm", grad_norm)?;
        self.optimizer.step(&gradients, lr)?;
        Ok(Found { loss, right: sums[1], objects: sums[2], grad_norm })
    }

    /// The encoder's values and running statistics, and the head's.
    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = self.network.store.tensors();
        tensors.retain(|name, _| name.starts_with(VISUAL));
        tensors.extend(self.head.store.tensors());
        tensors
    }

    fn save(&self, folder: &Path) -> Result<()> {
        save_tensors(&folder.join(WEIGHTS), &self.tensors())?;
        save_tensors(&folder.join(OPTIMIZER), &self.optimizer.state()?)
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        let refuse = |file: &str, why: String| Error::Resume {
            path: folder.to_path_buf(),
            message: format!("{file}: {why}; start anew with another --out"),
        };
        let device = &self.network.device;
        let (head, encoder): (BTreeMap<_, _>, BTreeMap<_, _>) =
            load_tensors(&folder.join(WEIGHTS), device)?
                .into_iter()
                .partition(|(name, _)| name.starts_with(PREFIX));
        for (store, tensors) in [(&self.head.store, head), (&self.network.store, encoder)] {
            let report = store.load(&tensors)?;
            if let Some(name) = report.unexpected.first() {
                return Err(refuse(WEIGHTS, format!("{name} is not in the network")));
            }
            if let Some((name, ..)) = report.mismatched.first() {
                return Err(refuse(WEIGHTS, format!("{name} has another shape")));
            }
        }
        let moments = load_tensors(&folder.join(OPTIMIZER), device)?;
        self.optimizer.load_state(&moments).map_err(|error| refuse(OPTIMIZER, error.to_string()))
    }
}

/// Loss, cells of objects whose category was found, cells of objects.
fn tally(loss: &Tensor, logits: &Tensor, classes: &Tensor) -> candle_core::Result<Tensor> {
    let objects = classes.ne(0u32)?.to_dtype(DType::F32)?;
    let right = logits.detach().to_dtype(DType::F32)?.argmax(1)?.eq(classes)?;
    let right = (right.to_dtype(DType::F32)? * &objects)?;
    let loss = loss.detach().to_dtype(DType::F32)?;
    Tensor::stack(&[loss, right.sum_all()?, objects.sum_all()?], 0)
}

/// The last steps, forgetting the earlier ones: what training has come to.
#[derive(Default)]
struct Recent {
    steps: f64,
    loss: f64,
    right: f64,
    objects: f64,
}

impl Recent {
    fn add(&mut self, found: &Found) {
        const KEEP: f64 = 0.98;
        for (sum, value) in [
            (&mut self.steps, 1.0),
            (&mut self.loss, found.loss),
            (&mut self.right, found.right),
            (&mut self.objects, found.objects),
        ] {
            *sum = *sum * KEEP + value;
        }
    }
}

impl std::fmt::Display for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let right = 100.0 * self.right / self.objects.max(1.0);
        write!(
            f,
            "loss {:.3}, {right:.1} % of the objects' cells right",
            self.loss / self.steps.max(1.0)
        )
    }
}
