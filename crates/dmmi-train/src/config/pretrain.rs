//! `[pretrain]`: what the visual encoder learns before it meets sentences.

use serde::{Deserialize, Serialize};

/// The visual encoder first learns to tell the categories of `instances.json` apart, cell by cell, from the objects in the
/// training pictures: in place of weights trained on ImageNet, where there are none. Loss, clipping and moments are those of
/// `[optimizer]`, parts and decay those of `[schedule]`, after a warm-up over a twentieth of the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Steps.
    pub steps: usize,
    /// Pictures a step.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// Learning rate before decay.
    #[serde(default = "lr")]
    pub lr: f64,
}

fn batch_size() -> usize {
    16
}

fn lr() -> f64 {
    1e-3
}
