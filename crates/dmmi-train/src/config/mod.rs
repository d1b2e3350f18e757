//! One file is one experiment: model, data, losses, optimiser, schedule, checkpoints, evaluation (spec sections 7 to 9).
//!
//! Every value a file leaves out is the release's. Unknown keys are refused; sizes are checked before anything is read.

mod check;
mod data;
mod init;
mod pretrain;
mod read;

use std::path::PathBuf;

use candle_core::DType;
use dmmi_model::{DmmiConfig, LossConfig};
use serde::{Deserialize, Serialize};
use toml::Value;

pub use self::init::{InitConfig, InitParts};
pub use self::pretrain::PretrainConfig;
pub use data::{CarveConfig, DataConfig, EraseChoice, EraseToken, LeakChoice, ValConfig};

/// Everything that decides a run's result. Saved beside it as `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// First values of parameters, order of samples, dropout: all drawn from this.
    pub seed: u64,
    /// Where checkpoints, metrics and this configuration go.
    pub out: PathBuf,
    /// Weights to start from: a checkpoint folder, a `.safetensors` or a PyTorch file; or one file for each encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<InitConfig>,
    /// Arithmetic of the network. A configuration without this key means `f32`.
    #[serde(default)]
    pub precision: Precision,
    /// Compute the backbone's blocks, the fusion's attention and the decoder's convolutions again in the backward pass
    /// instead of keeping what lies inside them: less memory, more time, the same numbers but for other dropout masks. May
    /// change when a run is resumed.
    #[serde(default)]
    pub checkpoint_activations: bool,
    /// Datasets and how samples become tensors.
    pub data: DataConfig,
    /// What the visual encoder learns before it meets sentences; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<PretrainConfig>,
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

/// Arithmetic of forward and backward passes. Parameters, moments, norms, softmax and losses are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// bf16 activations (mixed precision): half the memory, and the tensor cores of a GPU.
    Bf16,
}

impl Precision {
    /// Type of the activations.
    pub fn activations(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
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
            serde::de::Error::custom(format!(
                "text_layers_trained = {shown}: use \"all\" or a number of layers"
            ))
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
    /// Parts of a batch that are computed at the same time, one a CPU core: quicker than one after another where the
    /// network is small. Batch statistics and the contrastive loss are those of a part, as on several GPUs. The result
    /// depends on this number, and not on the number of cores.
    pub parts: usize,
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

impl Score {
    /// Whether it counts nothing but targeted samples (cIoU of others is 0 or nothing).
    pub(crate) fn needs_targets(self) -> bool {
        matches!(self, Self::OverallIou | Self::MeanIou | Self::Ciou)
    }
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
