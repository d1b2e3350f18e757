//! Sizes of BERT encoders (Devlin et al. 2019).

use candle_nn::Init;
use serde::{Deserialize, Serialize};

use crate::sizes::at_most;

/// A BERT encoder without pooler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BertConfig {
    /// Entries of the WordPiece vocabulary.
    pub vocab_size: usize,
    /// Channels.
    pub hidden_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Longest sequence, in tokens.
    #[serde(default = "positions")]
    pub max_positions: usize,
    /// Dropout in training. The release runs BERT without (0).
    #[serde(default)]
    pub dropout: f64,
    /// Standard deviation of the weights' first values. 0.02 suits 768 channels; narrow encoders that start from scratch
    /// need more, or their attention stays uniform for thousands of steps.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
}

fn positions() -> usize {
    512
}

fn initializer_range() -> f64 {
    0.02
}

impl BertConfig {
    /// BERT-base, uncased.
    pub fn base_uncased() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_layers: 12,
            num_heads: 12,
            intermediate_size: 3072,
            max_positions: 512,
            dropout: 0.0,
            initializer_range: initializer_range(),
        }
    }

    /// Initial distribution of all weights.
    pub(crate) fn init(&self) -> Init {
        Init::Randn { mean: 0.0, stdev: self.initializer_range }
    }

    /// Why the sizes are impossible, if they are.
    pub fn validate(&self) -> Result<(), String> {
        let sizes = [self.vocab_size, self.hidden_size, self.num_heads, self.intermediate_size];
        if sizes.contains(&0) || self.max_positions == 0 {
            return Err("vocab_size, hidden_size, num_heads, intermediate_size and max_positions must be positive".into());
        }
        at_most(&[
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("max_positions", self.max_positions, 1 << 20),
            ("num_layers", self.num_layers, 1 << 10),
        ])?;
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(format!(
                "num_heads {} does not divide hidden_size {}",
                self.num_heads, self.hidden_size
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("dropout {} is not in [0, 1)", self.dropout));
        }
        Ok(())
    }
}
