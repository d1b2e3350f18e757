//! The typed part of a model case's sidecar. Entries that are not read here are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A case of the whole network.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sidecar {
    /// Sizes and inputs.
    pub(crate) config: CaseConfig,
    /// First values of every parameter and buffer.
    pub(crate) weights: Weights,
    /// f32 noise of each recorded tensor.
    #[serde(default)]
    pub(crate) stage_noise: BTreeMap<String, StageNoise>,
    /// Tensors stored as a slice.
    #[serde(default)]
    pub(crate) subsampled: BTreeMap<String, String>,
    /// Elements of all parameters.
    pub(crate) n_params: Option<usize>,
    /// What training gives.
    pub(crate) train: Option<Train>,
    /// Columns of the stage statistics.
    #[serde(default)]
    pub(crate) stage_stats_columns: Vec<String>,
}

/// Sizes and inputs of a case. Widths come from the weight table.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CaseConfig {
    /// `swin` or `resnet`.
    pub(crate) arch: String,
    /// Seed of images.
    pub(crate) seed: u32,
    /// Samples.
    pub(crate) batch: usize,
    /// Swin: attention heads a stage.
    pub(crate) num_heads: Option<[usize; 4]>,
    /// Text encoder.
    #[serde(default)]
    pub(crate) bert: BertPart,
    /// Attention heads of the decoders; PyTorch code fixes 8.
    pub(crate) decoder_heads: Option<usize>,
    /// Image sides, each perhaps with a flag that tells whether all stages are stored.
    #[serde(default)]
    pub(crate) eval_sizes: Vec<EvalSize>,
    /// The same, without flags.
    #[serde(default)]
    pub(crate) sizes: Vec<EvalSize>,
}

/// What the text encoder's tensors cannot tell.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct BertPart {
    /// Attention heads; transformers' default is 12.
    pub(crate) num_attention_heads: Option<usize>,
}

/// An image side.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum EvalSize {
    /// `96`
    Side(usize),
    /// `[96, true]`
    Flagged(usize, #[allow(dead_code)] bool),
}

impl EvalSize {
    /// Pixels a side.
    pub(crate) fn side(self) -> usize {
        match self {
            Self::Side(side) | Self::Flagged(side, _) => side,
        }
    }
}

/// How the weights are made.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Weights {
    /// Seed of all.
    pub(crate) seed: u32,
    /// One entry a tensor.
    pub(crate) table: Vec<TableEntry>,
}

/// One hash-initialised tensor.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TableEntry {
    /// Name in the checkpoint, and of the hash.
    pub(crate) name: String,
    /// Sizes.
    pub(crate) shape: Vec<usize>,
    /// Centre of the values.
    pub(crate) base: f32,
    /// Largest distance from it.
    pub(crate) scale: f32,
}

/// How far PyTorch's f32 run is from its f64 run.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct StageNoise {
    /// Largest absolute difference.
    pub(crate) max_abs_f32_vs_f64: Option<f64>,
    /// Root mean square of the difference, relative.
    pub(crate) rel_rms_f32_vs_f64: Option<f64>,
}

/// Training part.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Train {
    /// Image side.
    pub(crate) size: usize,
    /// Columns of every summary.
    pub(crate) summary_columns: Vec<String>,
    /// Rows of the parameter summaries.
    pub(crate) params: Vec<Param>,
    /// Rows of the buffer summary, `<name>@<steps>`.
    #[serde(default)]
    pub(crate) buffer_rows: Vec<String>,
    /// Learning rate of each step.
    pub(crate) lr_used: Vec<f64>,
    /// Optimiser constants.
    pub(crate) adamw: AdamWPart,
    /// Schedule constants.
    pub(crate) poly: PolyPart,
    /// Euclidean norm of all first gradients.
    pub(crate) total_grad_l2: Option<f64>,
}

/// Optimiser constants.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AdamWPart {
    /// Learning rate before decay.
    pub(crate) lr: f64,
    /// Decoupled weight decay.
    pub(crate) weight_decay: f64,
    /// Decay of the moments.
    pub(crate) betas: [f64; 2],
    /// Added to the denominator.
    pub(crate) eps: f64,
}

/// Schedule constants.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct PolyPart {
    /// Steps of the whole run.
    pub(crate) total_iters: usize,
    /// Exponent.
    pub(crate) power: f64,
}

/// One parameter.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Param {
    /// Name in the checkpoint.
    pub(crate) name: String,
    /// Sizes.
    pub(crate) shape: Vec<usize>,
    /// Optimiser group; -1: not optimised.
    pub(crate) group: i64,
    /// Whether autograd reaches it.
    pub(crate) has_grad: bool,
    /// Its true gradient is zero.
    #[serde(default)]
    pub(crate) zero_grad_by_invariance: bool,
}

impl Param {
    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
