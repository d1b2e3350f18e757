//! Evidence of the words for each cell, from its 1x1, 3x3 or 5x5 neighbourhood (spec section 3, release).
//!
//! Checkpoint prefix `..image_lang_att.refineimg{11,33,55}.`. The query unfolds `k x k` windows and projects them: that is a
//! convolution with the same numbers, which is how it is computed here, for any `(h, w)`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{
    Conv2dConfig, Linear, ScoreTerms, attention_softmax, conv1x1, conv2d, default_init,
    instance_norm, map_to_tokens, matmul_nt, reshape, scale_rows, tokens_to_map,
};

use crate::stage::each;
use crate::{IN_EPS, MbaConfig};

/// Similarity of cells to words for one window size.
#[derive(Clone, Debug)]
pub(crate) struct VisionWindow {
    query: Linear,
    window: Tensor,
    window_bias: Tensor,
    key: Linear,
    size: usize,
    scale: f64,
}

impl VisionWindow {
    /// `size` cells a side, `inner` channels in the windows. Keys `f_query.0`, `f_query2.0`, `f_key.0`.
    pub(crate) fn new(cfg: &MbaConfig, size: usize, inner: usize, vb: VarBuilder) -> Result<Self> {
        let (c, d) = (cfg.visual_dim, cfg.text_dim);
        let unfolded = inner * size * size;
        let vq = vb.pp("f_query2").pp("0");
        let window = vq.get_with_hints((c, unfolded, 1), "weight", default_init(unfolded))?;
        Ok(Self {
            query: conv1x1(c, inner, vb.pp("f_query").pp("0"))?,
            window,
            window_bias: vq.get_with_hints(c, "bias", default_init(unfolded))?,
            key: conv1x1(d, c, vb.pp("f_key").pp("0"))?,
            size,
            scale: 1.0 / (c as f64).sqrt(),
        })
    }

    /// Cells `(B, N, C)`, words `(B, L, D)`, mask `(B, L, 1)`, its score term `(B, 1, L)` to a map `(B, 1, N, L)` whose
    /// rows sum to 1.
    pub(crate) fn forward(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        mask: &Tensor,
        score_mask: &Tensor,
    ) -> Result<Tensor> {
        let (_, n, _) = visual.dims3()?;
        let q = instance_norm(&self.query.forward(visual)?, IN_EPS)?;
        let q = tokens_to_map(&q, extent)?;
        let padding = Conv2dConfig::new(1, self.size / 2);
        let shape = (self.window.dim(0)?, q.dim(1)?, self.size, self.size);
        let window = reshape(&self.window, shape)?;
        let q = conv2d(&q, &window, Some(&self.window_bias), padding)?;
        let q = instance_norm(&map_to_tokens(&q)?, IN_EPS)?;
        let key = scale_rows(&self.key.forward(words)?, mask)?;
        let scores = matmul_nt(&each(&q, key.dim(0)?)?, &key)?;
        let scores = reshape(&scores, (key.dim(0)?, 1, n, key.dim(1)?))?;
        attention_softmax(&scores, self.scale, ScoreTerms { bias: None, mask: Some(score_mask) })
    }
}
