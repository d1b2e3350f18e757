//! The three losses (spec section 7): pure functions of the output and the targets.

mod contrastive;
mod segmentation;
mod similarity;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::model::DmmiOutput;

pub use contrastive::contrastive;
pub use segmentation::segmentation;
pub use similarity::similarity;

/// Weights of the losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Background and foreground weight of the segmentation loss.
    pub class_weights: [f32; 2],
    /// Factor of the similarity loss.
    pub similarity: f64,
    /// Factor of the contrastive loss.
    pub contrastive: f64,
    /// Temperature of the contrastive loss.
    pub temperature: f64,
}

impl LossConfig {
    /// As released: class weights 0.9 and 1.1, both other losses times 0.01, temperature 0.05.
    pub fn release() -> Self {
        Self { class_weights: [0.9, 1.1], similarity: 0.01, contrastive: 0.01, temperature: 0.05 }
    }
}

/// What the model should have said.
#[derive(Clone, Debug)]
pub struct Targets {
    /// `(B, H, W)`, 1 on the referents.
    pub masks: Tensor,
    /// `(B)`, 0 where the expression refers to nothing (`δ`).
    pub has_target: Tensor,
}

/// The three losses, scalars in the graph.
#[derive(Clone, Debug)]
pub struct LossTerms {
    /// Weighted cross-entropy over pixels.
    pub segmentation: Tensor,
    /// 1 - mean cosine of the words and their reconstruction; 0 without one.
    pub similarity: Tensor,
    /// Picture against expression within the batch.
    pub contrastive: Tensor,
}

impl LossTerms {
    /// All terms of one output.
    pub fn of(out: &DmmiOutput, targets: &Targets, cfg: &LossConfig) -> Result<Self> {
        let segmentation = segmentation(&out.logits, &targets.masks, cfg.class_weights)?;
        let similarity = match &out.reconstructed {
            Some(words) => similarity(&out.words, words, &out.attention, &targets.has_target)?,
            None => segmentation.zeros_like()?,
        };
        let contrastive =
            contrastive(&out.visual, &out.aligned, &targets.has_target, cfg.temperature)?;
        Ok(Self { segmentation, similarity, contrastive })
    }

    /// The weighted sum, a scalar.
    pub fn total(&self, cfg: &LossConfig) -> Result<Tensor> {
        let terms =
            ((&self.similarity * cfg.similarity)? + (&self.contrastive * cfg.contrastive)?)?;
        &self.segmentation + terms
    }
}
