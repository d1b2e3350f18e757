//! The three losses (spec section 7): pure functions of the output and the targets.

mod contrastive;
mod segmentation;
mod similarity;

use candle_core::{Result, Tensor};
use mba_fusion::Variant;
use serde::{Deserialize, Serialize};

use crate::model::DmmiOutput;

pub use contrastive::contrastive;
pub use segmentation::segmentation;
pub use similarity::{similarity, similarity_of_targets};

/// Forms and weights of the losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Whose formulas: they differ in the segmentation and in the similarity loss.
    #[serde(default)]
    pub variant: Variant,
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
        Self {
            variant: Variant::Release,
            class_weights: [0.9, 1.1],
            similarity: 0.01,
            contrastive: 0.01,
            temperature: 0.05,
        }
    }

    /// As the paper writes them: binary cross-entropy, `δ (1 - cos)`, all three with weight 1; the release's temperature.
    pub fn paper() -> Self {
        Self {
            variant: Variant::Paper,
            class_weights: [1.0, 1.0],
            similarity: 1.0,
            contrastive: 1.0,
            temperature: 0.05,
        }
    }

    /// Why the values are impossible, if they are; names the key.
    pub fn validate(&self) -> std::result::Result<(), String> {
        let weights = self.class_weights;
        if weights.iter().any(|w| !w.is_finite() || *w <= 0.0) {
            return Err(format!("class_weights = {weights:?}: both must be above 0"));
        }
        if self.variant == Variant::Paper && weights[0] != weights[1] {
            return Err(format!(
                "class_weights = {weights:?} with variant = \"paper\": its binary cross-entropy has none; use [1.0, 1.0], or variant = \"release\""
            ));
        }
        for (key, value) in [("similarity", self.similarity), ("contrastive", self.contrastive)] {
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{key} = {value}: must be 0 or more"));
            }
        }
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            return Err(format!("temperature = {}: must be above 0", self.temperature));
        }
        Ok(())
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
    /// Picture against expression within the batch; 0 without their vectors.
    pub contrastive: Tensor,
}

impl LossTerms {
    /// All terms of one output.
    pub fn of(out: &DmmiOutput, targets: &Targets, cfg: &LossConfig) -> Result<Self> {
        let segmentation = segmentation(&out.logits, &targets.masks, cfg.class_weights)?;
        let delta = &targets.has_target;
        let similarity = match (&out.reconstructed, cfg.variant) {
            (Some(words), Variant::Release) => similarity(&out.words, words, &out.attention, delta),
            (Some(words), Variant::Paper) => {
                similarity_of_targets(&out.words, words, &out.attention, delta)
            }
            (None, _) => segmentation.zeros_like(),
        }?;
        let contrastive = match &out.contrast {
            Some(pair) => contrastive(&pair.visual, &pair.aligned, delta, cfg.temperature)?,
            None => segmentation.zeros_like()?,
        };
        Ok(Self { segmentation, similarity, contrastive })
    }

    /// The weighted sum, a scalar. Parameters of a loss with factor 0 have gradients of 0.
    pub fn total(&self, cfg: &LossConfig) -> Result<Tensor> {
        let terms = (times(&self.similarity, cfg.similarity)?
            + times(&self.contrastive, cfg.contrastive)?)?;
        &self.segmentation + terms
    }
}

fn times(loss: &Tensor, factor: f64) -> Result<Tensor> {
    if factor == 0.0 {
        // Not `loss * 0.0`, which Candle does not differentiate.
        return loss * loss.zeros_like()?;
    }
    loss * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_values_name_the_key() {
        for (cfg, key) in [
            (LossConfig { class_weights: [0.9, 1.1], ..LossConfig::paper() }, "class_weights"),
            (LossConfig { class_weights: [0.0, 1.0], ..LossConfig::release() }, "class_weights"),
            (LossConfig { similarity: -1.0, ..LossConfig::release() }, "similarity"),
            (LossConfig { temperature: 0.0, ..LossConfig::release() }, "temperature"),
        ] {
            assert!(cfg.validate().expect_err("must be refused").contains(key), "{cfg:?}");
        }
        assert_eq!(LossConfig::paper().validate(), Ok(()));
        assert_eq!(LossConfig::release().validate(), Ok(()));
    }
}
