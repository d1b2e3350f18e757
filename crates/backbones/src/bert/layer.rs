//! One BERT layer: self-attention and feed-forward, each with a residual and a layer norm after the sum.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{
    Activation, LayerNorm, Linear, Mode, Projected, ScoreTerms, add, attend_projected, dropout,
    feed_forward, layer_norm_layer, linear_with_init,
};

use super::{BertConfig, EPS};

/// Keys `attention.self.{query,key,value}`, `attention.output.{dense,LayerNorm}`, `intermediate.dense`,
/// `output.{dense,LayerNorm}`.
#[derive(Clone, Debug)]
pub(super) struct BertLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_out: (Linear, LayerNorm),
    intermediate: Linear,
    output: (Linear, LayerNorm),
    heads: usize,
    dropout: f64,
}

impl BertLayer {
    pub(super) fn new(cfg: &BertConfig, vb: VarBuilder) -> Result<Self> {
        let (d, f) = (cfg.hidden_size, cfg.intermediate_size);
        let linear = |a: usize, b: usize, vb: VarBuilder| {
            linear_with_init(a, b, true, cfg.init(), Init::Const(0.0), vb)
        };
        let attention = vb.pp("attention");
        let projections = attention.pp("self");
        let normed = |a: usize, vb: VarBuilder| -> Result<(Linear, LayerNorm)> {
            Ok((linear(a, d, vb.pp("dense"))?, layer_norm_layer(d, EPS, vb.pp("LayerNorm"))?))
        };
        Ok(Self {
            query: linear(d, d, projections.pp("query"))?,
            key: linear(d, d, projections.pp("key"))?,
            value: linear(d, d, projections.pp("value"))?,
            attention_out: normed(d, attention.pp("output"))?,
            intermediate: linear(d, f, vb.pp("intermediate").pp("dense"))?,
            output: normed(f, vb.pp("output"))?,
            heads: cfg.num_heads,
            dropout: cfg.dropout,
        })
    }

    /// `(B, L, D)` to `(B, L, D)`; `mask` `(B, 1, L)` is added to the scores.
    pub(super) fn forward_t(&self, xs: &Tensor, mask: &Tensor, mode: Mode) -> Result<Tensor> {
        let drop = |xs: &Tensor| dropout(xs, self.dropout, mode);
        let (q, k, v) = (self.query.forward(xs)?, self.key.forward(xs)?, self.value.forward(xs)?);
        let terms = ScoreTerms { bias: None, mask: Some(mask) };
        let projected = Projected::Three(&q, &k, &v);
        let attended = attend_projected(projected, self.heads, terms, self.dropout, mode)?;
        let (dense, norm) = &self.attention_out;
        let xs = norm.forward(&add(&drop(&dense.forward(&attended)?)?, xs)?)?;
        let (dense, norm) = &self.output;
        let fed = feed_forward(&xs, &self.intermediate, Activation::Gelu, dense)?;
        norm.forward(&add(&drop(&fed)?, &xs)?)
    }
}
