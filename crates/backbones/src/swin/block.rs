//! One Swin block: (shifted) window attention and a feed-forward part, both residual.

use candle_core::Result;
use candle_nn::{Init, VarBuilder};
use nn_ops::{
    Activation, LayerNorm, Linear, Mode, add_drop_path, feed_forward, layer_norm_layer,
    linear_with_init,
};

use super::window::{Pairs, WindowAttention, Windows};
use crate::grid::FeatureGrid;

/// Keys `norm1`, `attn`, `norm2`, `mlp.fc1`, `mlp.fc2`.
#[derive(Clone, Debug)]
pub(super) struct SwinBlock {
    norm1: LayerNorm,
    attention: WindowAttention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    shift: usize,
    drop_path: f64,
}

/// Width and position of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockConfig {
    pub(super) dim: usize,
    pub(super) heads: usize,
    pub(super) shift: usize,
    pub(super) hidden: usize,
    pub(super) drop_path: f64,
    pub(super) init: Init,
}

impl SwinBlock {
    pub(super) fn new(cfg: &BlockConfig, pairs: &Pairs, vb: VarBuilder) -> Result<Self> {
        let BlockConfig { dim, heads, shift, hidden, drop_path, init } = *cfg;
        let linear = |a: usize, b: usize, name: &str| {
            linear_with_init(a, b, true, init, Init::Const(0.0), vb.pp("mlp").pp(name))
        };
        Ok(Self {
            norm1: layer_norm_layer(dim, 1e-5, vb.pp("norm1"))?,
            attention: WindowAttention::new((dim, heads), pairs, init, vb.pp("attn"))?,
            norm2: layer_norm_layer(dim, 1e-5, vb.pp("norm2"))?,
            fc1: linear(dim, hidden, "fc1")?,
            fc2: linear(hidden, dim, "fc2")?,
            shift,
            drop_path,
        })
    }

    pub(super) fn forward_t(
        &self,
        grid: &FeatureGrid,
        windows: &Windows,
        mode: Mode,
    ) -> Result<FeatureGrid> {
        let xs = self.norm1.forward(grid.tokens())?;
        let attended = match self.shift {
            0 => self.attention.forward(&xs, &windows.plain, None)?,
            _ => self.attention.forward(&xs, &windows.shifted, Some(&windows.mask))?,
        };
        let xs = add_drop_path(grid.tokens(), &attended, self.drop_path, mode)?;
        let fed = feed_forward(&self.norm2.forward(&xs)?, &self.fc1, Activation::Gelu, &self.fc2)?;
        grid.with_tokens(add_drop_path(&xs, &fed, self.drop_path, mode)?)
    }
}
