//! Evidence of the cells for each word, from phrases of 1, 2 or 3 words (spec section 3, release).
//!
//! Checkpoint prefix `..image_lang_att.refinelan{11,21,31}.`. The scale uses the visual width, as released. The word mask is
//! constant along the softmax axis (cells) and therefore left out.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{
    Linear, ScoreTerms, attention_softmax, conv1x1, instance_norm, matmul_nt, reshape, scale_rows,
    text_windows,
};

use crate::centred::Centred;
use crate::stage::each;
use crate::{IN_EPS, MbaConfig};

/// Similarity of words to cells for one phrase length.
#[derive(Clone, Debug)]
pub(crate) struct TextWindow {
    query: Linear,
    window: Linear,
    key: Linear,
    size: usize,
    scale: f64,
}

impl TextWindow {
    /// `size` words, `inner` channels in the windows. Keys `f_query.0`, `f_query2.0`, `f_key.0`.
    pub(crate) fn new(cfg: &MbaConfig, size: usize, inner: usize, vb: VarBuilder) -> Result<Self> {
        let (c, d) = (cfg.visual_dim, cfg.text_dim);
        Ok(Self {
            query: conv1x1(d, inner, vb.pp("f_query").pp("0"))?,
            window: conv1x1(inner * size, d, vb.pp("f_query2").pp("0"))?,
            key: conv1x1(c, d, vb.pp("f_key").pp("0"))?,
            size,
            scale: 1.0 / (c as f64).sqrt(),
        })
    }

    /// Cells `(B, N, C)`, words `(B, L, D)`, mask `(B, L, 1)` to a map `(B, 1, L, N)` whose rows sum to 1. `centred` are the
    /// same cells where nothing needs their projections.
    pub(crate) fn forward(
        &self,
        visual: &Tensor,
        centred: Option<&Centred>,
        words: &Tensor,
        mask: &Tensor,
    ) -> Result<Tensor> {
        let windows = text_windows(&self.query.forward(words)?, self.size)?;
        let q = scale_rows(&self.window.forward(&windows)?, mask)?; // (B, L, D)
        let scores = match centred {
            Some(centred) => centred.scores(&q, &self.key)?,
            None => {
                let key = instance_norm(&self.key.forward(visual)?, IN_EPS)?; // (B, N, D)
                matmul_nt(&q, &each(&key, q.dim(0)?)?)?
            }
        };
        let (b, l, n) = scores.dims3()?;
        attention_softmax(&reshape(&scores, (b, 1, l, n))?, self.scale, ScoreTerms::default()) // (B, 1, L, N)
    }
}
