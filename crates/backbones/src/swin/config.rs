//! Sizes of Swin Transformers (Liu et al. 2021, Table 7 and section 4).

use candle_nn::Init;
use serde::{Deserialize, Serialize};

use crate::sizes::at_most;

/// A Swin Transformer with four stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Pixels per side of a patch.
    #[serde(default = "four")]
    pub patch_size: usize,
    /// Channels of the first stage; each next stage doubles them.
    pub embed_dim: usize,
    /// Blocks per stage.
    pub depths: [usize; 4],
    /// Attention heads per stage.
    pub num_heads: [usize; 4],
    /// Cells per side of an attention window.
    pub window_size: usize,
    /// Width of the feed-forward part, in multiples of the channels.
    #[serde(default = "four")]
    pub mlp_ratio: usize,
    /// Stochastic depth of the last block; rises linearly from 0.
    pub drop_path: f64,
    /// Standard deviation of the linear weights' first values; narrow encoders that start from scratch need more than the
    /// official 0.02.
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// A learnt vector for each cell is added to the patches (`ape` in the official code): cells per column and row of
    /// pictures of the size it is made for; other sizes take it resized bicubically, as there. None in all published sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute_position: Option<[usize; 2]>,
}

fn four() -> usize {
    4
}

fn initializer_range() -> f64 {
    0.02
}

impl SwinConfig {
    fn sized(embed_dim: usize, third: usize, heads: usize, window_size: usize) -> Self {
        Self {
            patch_size: 4,
            embed_dim,
            depths: [2, 2, third, 2],
            num_heads: [heads, 2 * heads, 4 * heads, 8 * heads],
            window_size,
            mlp_ratio: 4,
            drop_path: 0.3,
            initializer_range: initializer_range(),
            absolute_position: None,
        }
    }

    /// Swin-T, window 7.
    pub fn tiny_w7() -> Self {
        Self::sized(96, 6, 3, 7)
    }

    /// Swin-S, window 7.
    pub fn small_w7() -> Self {
        Self::sized(96, 18, 3, 7)
    }

    /// Swin-B, window 12: the encoder of DMMI.
    pub fn base_w12() -> Self {
        Self::sized(128, 18, 4, 12)
    }

    /// Swin-L, window 12.
    pub fn large_w12() -> Self {
        Self::sized(192, 18, 6, 12)
    }

    /// Initial distribution of the linear weights, bias tables and positions.
    pub(crate) fn init(&self) -> Init {
        Init::Randn { mean: 0.0, stdev: self.initializer_range }
    }

    /// Why the sizes are impossible, if they are.
    pub fn validate(&self) -> Result<(), String> {
        if self.patch_size == 0
            || self.embed_dim == 0
            || self.window_size == 0
            || self.mlp_ratio == 0
        {
            return Err("patch_size, embed_dim, window_size and mlp_ratio must be positive".into());
        }
        if self.absolute_position.is_some_and(|cells| cells.contains(&0)) {
            return Err("absolute_position: give positive numbers of cells, or leave it out".into());
        }
        at_most(&[
            ("patch_size", self.patch_size, 1 << 10),
            ("embed_dim", self.embed_dim, 1 << 14),
            ("window_size", self.window_size, 1 << 10),
            ("mlp_ratio", self.mlp_ratio, 1 << 6),
            ("depths", self.depths.into_iter().max().unwrap_or(0), 1 << 10),
        ])?;
        if self.depths.contains(&0) {
            return Err(format!("depths {:?}: every stage needs a block", self.depths));
        }
        for (i, &heads) in self.num_heads.iter().enumerate() {
            let c = self.embed_dim << i;
            if heads == 0 || !c.is_multiple_of(heads) {
                return Err(format!(
                    "num_heads[{i}] = {heads} does not divide the {c} channels of stage {i}"
                ));
            }
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return Err(format!("drop_path {} is not in [0, 1)", self.drop_path));
        }
        Ok(())
    }
}
