//! The paper's attention maps: similarities summed over windows of the querying side (spec section 3, paper).
//!
//! Row `i` is `softmax(Σ_{m in Ω_r(i)} (W_q x^m)ᵀ (W_k y) / √Ĉ)`. The sum runs over the querying side only, so it may be
//! taken after the products: one matrix of products serves all scales, and a box filter over its rows costs the same for
//! every window. `W_q` and `W_k` have no bias: the equation has none, and the softmax would not see one of `W_k`.
//! `Ĉ` is the visual width on both sides. Not in the released checkpoints; keys `{vision,text}.w_{q,k,v}`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{
    Linear, ScoreTerms, attention_softmax, box_sum2d, linear_no_bias, matmul_nt, run_sum,
    scale_rows,
};

use crate::MbaConfig;
use crate::stage::each;

/// Projections shared by all scales of one side.
#[derive(Clone, Debug)]
pub(crate) struct WindowSums {
    query: Linear,
    key: Linear,
    windows: Vec<usize>,
    scale: f64,
}

impl WindowSums {
    fn new(
        (queries, keys): (usize, usize),
        windows: &[usize],
        cfg: &MbaConfig,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let shared = cfg.visual_dim;
        Ok(Self {
            query: linear_no_bias(queries, shared, vb.pp("w_q"))?,
            key: linear_no_bias(keys, shared, vb.pp("w_k"))?,
            windows: windows.to_vec(),
            scale: 1.0 / (shared as f64).sqrt(),
        })
    }

    /// Cells ask, words answer.
    pub(crate) fn of_cells(cfg: &MbaConfig, vb: &VarBuilder) -> Result<Self> {
        Self::new((cfg.visual_dim, cfg.text_dim), &cfg.fusion.vision_windows, cfg, vb)
    }

    /// Words ask, cells answer.
    pub(crate) fn of_words(cfg: &MbaConfig, vb: &VarBuilder) -> Result<Self> {
        Self::new((cfg.text_dim, cfg.visual_dim), &cfg.fusion.text_windows, cfg, vb)
    }

    /// Cells `(B, N, C)`, words `(B, L, D)` and their score term `(B, 1, L)` to one map `(B, 1, N, L)` a window.
    /// Cells beyond the border count as zero; padded words get no attention.
    pub(crate) fn over_words(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        score_mask: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let key = self.key.forward(words)?;
        let products = matmul_nt(&each(&self.query.forward(visual)?, key.dim(0)?)?, &key)?;
        let map = |k: &usize| {
            let scores = box_sum2d(&products, extent, *k)?.unsqueeze(1)?; // (B, 1, N, L)
            let terms = ScoreTerms { bias: None, mask: Some(score_mask) };
            attention_softmax(&scores, self.scale, terms)
        };
        self.windows.iter().map(map).collect()
    }

    /// Cells `(B, N, C)`, words `(B, L, D)`, mask `(B, L, 1)` to one map `(B, 1, L, N)` a window.
    /// A window starts at its word; padded words add nothing to a sum, and the end cuts windows short.
    pub(crate) fn over_cells(
        &self,
        visual: &Tensor,
        words: &Tensor,
        mask: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let query = scale_rows(&self.query.forward(words)?, mask)?;
        let key = each(&self.key.forward(visual)?, query.dim(0)?)?;
        let products = matmul_nt(&query, &key)?; // (B, L, N)
        let map = |k: &usize| {
            let scores = run_sum(&products, *k)?.unsqueeze(1)?;
            attention_softmax(&scores, self.scale, ScoreTerms::default())
        };
        self.windows.iter().map(map).collect()
    }

    /// Sizes of the windows, in order.
    pub(crate) fn windows(&self) -> &[usize] {
        &self.windows
    }
}
