//! One vector for the picture and one for the expression, which the contrastive loss compares (spec sections 6, 7).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{Linear, Probe, conv1x1, global_avg_pool, linear_layer};

/// Pools the decoder maps from coarse to fine. Keys `crossfuse1.linear`, `crossfuse2.linear` under `classifier.`.
#[derive(Clone, Debug)]
pub struct CrossLayerPooling {
    first: Linear,
    second: Linear,
}

impl CrossLayerPooling {
    /// Width `dim` of the maps.
    pub fn new(dim: usize, vb: VarBuilder) -> Result<Self> {
        let layer = |name: &str| linear_layer(2 * dim, dim, vb.pp(name).pp("linear"));
        Ok(Self { first: layer("crossfuse1")?, second: layer("crossfuse2")? })
    }

    /// `y4, y3, y2` to `(B, D)`.
    pub fn forward(&self, [y4, y3, y2]: &[Tensor; 3], probe: &mut Probe) -> Result<Tensor> {
        let join = |d: &Tensor, map: &Tensor| Tensor::cat(&[d, &global_avg_pool(map)?], 1);
        let d = self.first.forward(&join(&global_avg_pool(y4)?, y3)?)?;
        probe.record("crossfuse1", &d);
        let d = self.second.forward(&join(&d, y2)?)?;
        probe.record("de_feat", &d);
        Ok(d)
    }
}

/// Projects the words and averages them over all positions, padding included, as released. Key `align_lan.0` under
/// `contrastive.`.
#[derive(Clone, Debug)]
pub struct ExpressionVector {
    align: Linear,
}

impl ExpressionVector {
    /// Width `dim` of the words.
    pub fn new(dim: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { align: conv1x1(dim, dim, vb.pp("align_lan").pp("0"))? })
    }

    /// `(B, L, D)` to `(B, D)`.
    pub fn forward(&self, words: &Tensor) -> Result<Tensor> {
        self.align.forward(words)?.mean(1)
    }
}
