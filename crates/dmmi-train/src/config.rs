//! One file is one experiment: model, data, losses, optimiser, schedule, checkpoints, evaluation (spec sections 7 to 9).
//!
//! Every value a file leaves out is the release's. Unknown keys are refused; sizes are checked before anything is read.

use std::path::{Path, PathBuf};

use dmmi_model::{DmmiConfig, LossConfig};
use refzom_dataset::{DatasetConfig, Order};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result as CrateResult};
use crate::overrides::{apply_set, merge};

/// Everything that decides a run's result. Saved beside it as `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// First values of parameters, order of samples, dropout: all drawn from this.
    pub seed: u64,
    /// Where checkpoints, metrics and this configuration go.
    pub out: PathBuf,
    /// Weights to start from: a checkpoint folder or a `.safetensors` file; parameters it lacks keep their first values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Datasets and how samples become tensors.
    pub data: DataConfig,
    /// Weights of the loss terms.
    pub loss: LossConfig,
    /// AdamW and which parameters it holds.
    pub optimizer: OptimizerConfig,
    /// Length of the run and learning rate over it.
    pub schedule: ScheduleConfig,
    /// When the run ends before its schedule does.
    pub stop: StopConfig,
    /// What is kept on disk.
    pub checkpoint: CheckpointConfig,
    /// Scoring during the run.
    pub eval: EvalConfig,
    /// The network. `text.vocab_size = 0` takes the vocabulary's size.
    pub model: DmmiConfig,
}

/// Datasets and how samples become tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `[height, width]` of the network's input, pixels.
    pub image_size: [usize; 2],
    /// Word pieces of an expression, `[CLS]` and `[SEP]` included; longer ones are cut.
    pub max_words: usize,
    /// `bert-base-uncased` or `synthetic` (both built in), or the path of a WordPiece `vocab.txt`.
    pub vocab: String,
    /// How the phrase of the erased expression T' is hidden.
    pub erase: EraseChoice,
    /// What hidden word pieces become.
    pub erase_with: EraseToken,
    /// Order of the training samples.
    pub order: Order,
    /// Threads that decode pictures.
    pub workers: usize,
    /// Batches made ahead of the network.
    pub prefetch: usize,
    /// Memory for pictures that were decoded and resized, in megabytes; 0: decoded again every epoch.
    pub cache_mb: usize,
    /// Decode every picture once before the run, so that a damaged one is left out and counted instead of ending the run
    /// at some later step. Costs a minute for some 20,000 pictures.
    pub check_pictures: bool,
    /// The split trained on.
    pub train: DatasetConfig,
    /// The split that chooses the best checkpoint; none: the last one is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<DatasetConfig>,
    /// The split `quickstart` and `eval` report on; training never looks at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<DatasetConfig>,
}

/// How the phrase of the erased expression is hidden (spec section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EraseChoice {
    /// All pieces of one noun group and only these, drawn anew for every sample and epoch.
    Aligned,
    /// The released code's word index used as piece index, drawn once a run.
    Released,
    /// Nothing is hidden and the reconstruction branch does not run.
    Off,
}

/// What hidden word pieces become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraseToken {
    /// `[PAD]`, as released.
    Pad,
    /// `[MASK]`.
    Mask,
}

/// AdamW and which parameters it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate before decay.
    pub lr: f64,
    /// Decoupled weight decay; 0 for the backbone's norms and position tables whatever is set here.
    pub weight_decay: f64,
    /// Decay of the two moment estimates.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Largest global gradient norm; none: no clipping, as released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Which part of the text encoder is trained; the first 10 layers in the release.
    pub text_layers_trained: TextLayers,
    /// Times the learning rate, for the visual backbone (with the fusion blocks inside it); 1 in the release.
    pub backbone_lr_scale: f64,
    /// Times the learning rate, for the text encoder; 1 in the release.
    pub text_lr_scale: f64,
}

/// Which part of the text encoder is trained: `"all"`, or a number of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextLayers {
    /// All of it, embeddings included.
    All,
    /// The first layers; embeddings and later layers keep their values. `First(0)`: none.
    First(usize),
}

impl Serialize for TextLayers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::First(layers) => serializer.serialize_u64(*layers as u64),
        }
    }
}

impl<'de> Deserialize<'de> for TextLayers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |shown: String| {
            serde::de::Error::custom(format!("text_layers_trained = {shown}: use \"all\" or a number of layers"))
        };
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "all" => Ok(Self::All),
            Value::Integer(layers) => {
                usize::try_from(layers).map(Self::First).map_err(|_| refused(layers.to_string()))
            }
            other => Err(refused(other.to_string())),
        }
    }
}

/// Length of the run and learning rate over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Expressions a step.
    pub batch_size: usize,
    /// Exponent of the polynomial decay.
    pub power: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
}

/// When the run ends before its schedule does. The learning rate still follows the whole schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopConfig {
    /// After this many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// After this many minutes of this process; the run can be resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// After this many evaluations without a better score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// How many of the newest checkpoints stay, besides the best.
    pub keep_last: usize,
    /// Steps between checkpoints inside an epoch; none: only at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<usize>,
}

/// Scoring during the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Expressions a batch.
    pub batch_size: usize,
    /// Epochs between evaluations; the last epoch is always evaluated.
    pub every_epochs: usize,
    /// The score that chooses the best checkpoint.
    pub best_by: Score,
}

/// A score of an evaluation at model size; higher is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Pixel-summed IoU of the targeted samples, as in the release.
    OverallIou,
    /// Mean IoU of the targeted samples.
    MeanIou,
    /// GRES: mean IoU with rejected zero-target samples counting 1.
    Giou,
    /// GRES: pixel-summed IoU over all samples.
    Ciou,
    /// Mean of overall IoU, mean IoU and zero-target accuracy.
    Balanced,
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OverallIou => "oIoU",
            Self::MeanIou => "mIoU",
            Self::Giou => "gIoU",
            Self::Ciou => "cIoU",
            Self::Balanced => "mean of oIoU, mIoU, Acc",
        })
    }
}

impl OptimizerConfig {
    /// The release's optimiser (spec section 8).
    pub fn release() -> Self {
        Self {
            lr: 5e-5,
            weight_decay: 0.01,
            betas: [0.9, 0.999],
            eps: 1e-8,
            clip_norm: None,
            text_layers_trained: TextLayers::First(10),
            backbone_lr_scale: 1.0,
            text_lr_scale: 1.0,
        }
    }
}

/// Values a file may leave out: the release's.
fn defaults() -> CrateResult<Table> {
    let text = r#"
seed = 0
out = "runs/dmmi"
[data]
image_size = [480, 480]
max_words = 20
vocab = "bert-base-uncased"
erase = "aligned"
erase_with = "pad"
order = "balanced"
workers = 2
prefetch = 4
cache_mb = 512
check_pictures = true
[schedule]
epochs = 40
batch_size = 8
power = 0.9
warmup_steps = 0
[stop]
[checkpoint]
keep_last = 2
[eval]
batch_size = 8
every_epochs = 1
best_by = "overall_iou"
[model]
preset = "swin-base-release"
"#;
    let mut table: Table = text.parse().map_err(|error| built_in("defaults", error))?;
    table.insert("optimizer".into(), to_value(&OptimizerConfig::release())?);
    table.insert("loss".into(), to_value(&LossConfig::release())?);
    Ok(table)
}

/// Through text, which writes an `f32` of 0.9 as 0.9.
fn to_value<T: Serialize>(value: &T) -> CrateResult<Value> {
    let text = toml::to_string(value).map_err(|error| built_in("built-in configuration", error))?;
    let table: Table = text.parse().map_err(|error| built_in("built-in configuration", error))?;
    Ok(Value::Table(table))
}

fn built_in(what: &str, error: impl std::fmt::Display) -> Error {
    Error::config(what, error.to_string())
}

/// The network a preset's name stands for; its vocabulary size is left to be filled in (0).
fn preset(name: &str) -> Option<DmmiConfig> {
    let mut config = DmmiConfig::preset(name, 0)?;
    config.text.vocab_size = 0;
    Some(config)
}

/// Lays the rest of `[model]` on the preset it names.
fn expand_model(table: &mut Table, origin: &str) -> CrateResult<()> {
    let Some(Value::Table(model)) = table.get_mut("model") else {
        return Err(Error::config(origin, "model must be a table, as in [model] preset = \"quickstart\""));
    };
    let Some(name) = model.remove("preset") else { return Ok(()) };
    let Some(config) = name.as_str().and_then(preset) else {
        let known = DmmiConfig::PRESETS.join(", ");
        return Err(Error::config(origin, format!("model.preset = {name} is not known; use one of {known}")));
    };
    let Value::Table(mut base) = to_value(&config)? else {
        return Err(Error::config(origin, "model must be a table"));
    };
    merge(&mut base, std::mem::take(model));
    *model = base;
    Ok(())
}

impl TrainConfig {
    /// Reads a configuration file, applies `--set` overrides and checks the result.
    ///
    /// # Errors
    /// [`Error::Read`] for a missing file, [`Error::Config`] naming the key for anything else.
    pub fn from_file(path: impl AsRef<Path>, sets: &[String]) -> CrateResult<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        Self::from_toml(&text, &path.display().to_string(), sets)
    }

    /// Reads a configuration from text; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn from_toml(text: &str, origin: &str, sets: &[String]) -> CrateResult<Self> {
        let mut file: Table =
            text.parse().map_err(|error: toml::de::Error| Error::config(origin, syntax(text, &error)))?;
        // A file's [model] without a preset is complete in itself; it is not laid on the default network.
        let whole_model = file
            .get("model")
            .and_then(Value::as_table)
            .is_some_and(|model| !model.contains_key("preset"));
        for set in sets {
            apply_set(&mut file, set).map_err(|message| Error::config("command line", message))?;
        }
        let mut table = defaults()?;
        if whole_model {
            table.remove("model");
        }
        merge(&mut table, file);
        expand_model(&mut table, origin)?;
        let config: Self = Value::Table(table).try_into().map_err(|error| unknown_key(origin, &error))?;
        config.check().map_err(|message| Error::config(origin, message))?;
        Ok(config)
    }

    /// The configuration as a file that reads back as this very value.
    ///
    /// # Errors
    /// [`Error::Config`] when a value has no TOML form (an integer above `i64::MAX`).
    pub fn to_toml(&self) -> CrateResult<String> {
        toml::to_string(self).map_err(|error| built_in("configuration", error))
    }

    /// The configuration as a table, for comparison.
    pub(crate) fn to_table(&self) -> CrateResult<Table> {
        match to_value(self)? {
            Value::Table(table) => Ok(table),
            other => Err(Error::config("configuration", format!("expected a table, found {other}"))),
        }
    }

    /// The same with the vocabulary's size in the network, which is then complete and checked.
    ///
    /// # Errors
    /// [`Error::Config`] when the network is set to another vocabulary size, or its own check refuses it.
    pub fn with_vocabulary(mut self, size: usize) -> CrateResult<Self> {
        let set = self.model.text.vocab_size;
        if set != 0 && set != size {
            return Err(Error::config(
                "configuration",
                format!(
                    "model.text.vocab_size = {set}, but the vocabulary data.vocab = \"{}\" has {size} entries; set it to 0 to take the vocabulary's size",
                    self.data.vocab
                ),
            ));
        }
        self.model.text.vocab_size = size;
        if self.data.max_words > self.model.text.max_positions {
            return Err(Error::config(
                "configuration",
                format!(
                    "data.max_words = {} is more than model.text.max_positions = {}; lower the first or raise the second",
                    self.data.max_words, self.model.text.max_positions
                ),
            ));
        }
        self.model
            .validate()
            .map_err(|message| Error::config("configuration", format!("model: {message}")))?;
        Ok(self)
    }

    /// Checks sizes and ranges; the message names the key and the remedy.
    fn check(&self) -> Result<(), String> {
        let [height, width] = self.data.image_size;
        let need = |ok: bool, key: &str, value: &dyn std::fmt::Display, remedy: &str| {
            if ok { Ok(()) } else { Err(format!("{key} = {value}: {remedy}")) }
        };
        let o = &self.optimizer;
        let s = &self.schedule;
        let side = |n: usize| (32..=4096).contains(&n);
        need(
            side(height) && side(width),
            "data.image_size",
            &format!("[{height}, {width}]"),
            "[height, width] between 32 and 4096 pixels are possible",
        )?;
        need((3..=512).contains(&self.data.max_words), "data.max_words", &self.data.max_words, "between 3 ([CLS], a word, [SEP]) and 512 are possible")?;
        need((1..=256).contains(&self.data.workers), "data.workers", &self.data.workers, "use 1 to 256 threads")?;
        need(self.data.cache_mb <= 1 << 20, "data.cache_mb", &self.data.cache_mb, "use at most 1048576 (1 TB)")?;
        need((1..=1024).contains(&self.data.prefetch), "data.prefetch", &self.data.prefetch, "use 1 to 1024 batches")?;
        need(o.lr.is_finite() && o.lr > 0.0, "optimizer.lr", &o.lr, "must be above 0")?;
        need(o.weight_decay.is_finite() && o.weight_decay >= 0.0, "optimizer.weight_decay", &o.weight_decay, "must be 0 or more")?;
        for beta in o.betas {
            need((0.0..1.0).contains(&beta), "optimizer.betas", &beta, "each must be in 0 to 1, 1 excluded")?;
        }
        need(o.eps.is_finite() && o.eps > 0.0, "optimizer.eps", &o.eps, "must be above 0")?;
        if let Some(norm) = o.clip_norm {
            need(norm.is_finite() && norm > 0.0, "optimizer.clip_norm", &norm, "must be above 0; leave it out for no clipping")?;
        }
        for (key, scale) in [("optimizer.backbone_lr_scale", o.backbone_lr_scale), ("optimizer.text_lr_scale", o.text_lr_scale)] {
            need(scale.is_finite() && scale >= 0.0, key, &scale, "must be 0 or more")?;
        }
        need((1..=100_000).contains(&s.epochs), "schedule.epochs", &s.epochs, "use 1 to 100000")?;
        need((1..=65_536).contains(&s.batch_size), "schedule.batch_size", &s.batch_size, "use 1 to 65536")?;
        need((1..=65_536).contains(&self.eval.batch_size), "eval.batch_size", &self.eval.batch_size, "use 1 to 65536")?;
        need(s.power.is_finite() && s.power >= 0.0, "schedule.power", &s.power, "must be 0 or more")?;
        need(self.eval.every_epochs > 0, "eval.every_epochs", &0, "must be 1 or more")?;
        need(self.checkpoint.keep_last > 0, "checkpoint.keep_last", &0, "must be 1 or more, or nothing could be resumed")?;
        need(self.checkpoint.every_steps != Some(0), "checkpoint.every_steps", &0, "must be 1 or more; leave it out for one an epoch")?;
        need(self.stop.steps != Some(0), "stop.steps", &0, "must be 1 or more; leave it out for the whole schedule")?;
        need(self.stop.patience != Some(0), "stop.patience", &0, "must be 1 or more; leave it out for no early stop")?;
        need(self.stop.minutes.is_none_or(|m| m.is_finite() && m > 0.0), "stop.minutes", &self.stop.minutes.unwrap_or(0.0), "must be above 0; leave it out for no limit")?;
        need(i64::try_from(self.seed).is_ok(), "seed", &self.seed, "use at most 9223372036854775807")
    }
}

/// Line and reason of a TOML syntax error, without the drawing.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line} is not valid TOML: {}", error.message())
}

/// serde's message already lists the keys that exist; toml's adds in which table.
fn unknown_key(origin: &str, error: &toml::de::Error) -> Error {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("not a configuration").to_owned();
    let place = lines.next().unwrap_or_default();
    let place = place.trim_start_matches("in ").replace('`', "");
    let message = if place.is_empty() { first } else { format!("{place}: {first}") };
    Error::config(origin, message)
}
