//! Multi-head attention and the post-norm decoder layer, with PyTorch's parameter names.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::attend::{Projected, attend_projected};
use crate::combine::add;
use crate::dropout::dropout;
use crate::feed_forward::{Activation, feed_forward};
use crate::linear::{Linear, default_init, linear, linear_layer, linear_with_init};
use crate::mode::Mode;
use crate::norm::{LayerNorm, layer_norm_layer};
use crate::softmax::ScoreTerms;

/// `(B, N, M d)` to `(B, M, N, d)`.
pub fn split_heads(xs: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, c) = xs.dims3()?;
    if heads == 0 || c % heads != 0 {
        bail!("{c} channels do not divide into {heads} heads");
    }
    xs.reshape((b, n, heads, c / heads))?.transpose(1, 2)?.contiguous()
}

/// `(B, M, N, d)` to `(B, N, M d)`.
pub fn merge_heads(xs: &Tensor) -> Result<Tensor> {
    let (b, m, n, d) = xs.dims4()?;
    xs.transpose(1, 2)?.contiguous()?.reshape((b, n, m * d))
}

/// Multi-head attention with keys `in_proj_weight (3D, D)`, `in_proj_bias`, `out_proj.{weight,bias}` (PyTorch's
/// `MultiheadAttention`, Vaswani et al. 2017).
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    in_weight: Tensor,
    in_bias: Tensor,
    out: Linear,
    heads: usize,
    dropout: f64,
}

impl MultiHeadAttention {
    /// `dim` channels in `heads` heads; `dropout` on the attention weights.
    pub fn new(dim: usize, heads: usize, dropout: f64, vb: VarBuilder) -> Result<Self> {
        if heads == 0 || !dim.is_multiple_of(heads) {
            bail!("{dim} channels do not divide into {heads} heads");
        }
        // Xavier over the stacked (3D, D) matrix, zero biases: PyTorch's choice.
        let bound = (6.0 / (4 * dim) as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let out_init = default_init(dim);
        Ok(Self {
            in_weight: vb.get_with_hints((3 * dim, dim), "in_proj_weight", init)?,
            in_bias: vb.get_with_hints(3 * dim, "in_proj_bias", Init::Const(0.0))?,
            out: linear_with_init(dim, dim, true, out_init, Init::Const(0.0), vb.pp("out_proj"))?,
            heads,
            dropout,
        })
    }

    /// Queries `(B, N, D)` over keys and values `(B, S, D)` to `(B, N, D)`.
    pub fn forward_t(&self, queries: &Tensor, memory: &Tensor, mode: Mode) -> Result<Tensor> {
        let d = self.in_bias.dim(0)? / 3;
        let part = |xs: &Tensor, from: usize, count: usize| -> Result<Tensor> {
            let at = |t: &Tensor| t.narrow(0, from * d, count * d);
            linear(xs, &at(&self.in_weight)?, Some(&at(&self.in_bias)?))
        };
        let attended = |x: Projected| {
            attend_projected(x, self.heads, ScoreTerms::default(), self.dropout, mode)
        };
        let attended = if queries.id() == memory.id() {
            attended(Projected::One(&part(queries, 0, 3)?))?
        } else {
            attended(Projected::Two(&part(queries, 0, 1)?, &part(memory, 1, 2)?))?
        };
        self.out.forward(&attended) // (B, N, D)
    }
}

/// Sizes of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderLayerConfig {
    /// Channels.
    pub dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Dropout everywhere inside.
    pub dropout: f64,
}

/// Self-attention, attention over a memory, feed-forward (ReLU); layer norm after each sum. PyTorch's
/// `TransformerDecoderLayer` with its defaults and key names.
#[derive(Clone, Debug)]
pub struct TransformerDecoderLayer {
    self_attention: MultiHeadAttention,
    cross_attention: MultiHeadAttention,
    linear1: Linear,
    linear2: Linear,
    norms: [LayerNorm; 3],
    dropout: f64,
}

impl TransformerDecoderLayer {
    /// Keys `self_attn`, `multihead_attn`, `linear1`, `linear2`, `norm1`, `norm2`, `norm3`.
    pub fn new(cfg: &DecoderLayerConfig, vb: VarBuilder) -> Result<Self> {
        let (d, p) = (cfg.dim, cfg.dropout);
        let norm = |name: &str| layer_norm_layer(d, 1e-5, vb.pp(name));
        Ok(Self {
            self_attention: MultiHeadAttention::new(d, cfg.heads, p, vb.pp("self_attn"))?,
            cross_attention: MultiHeadAttention::new(d, cfg.heads, p, vb.pp("multihead_attn"))?,
            linear1: linear_layer(d, cfg.feed_forward, vb.pp("linear1"))?,
            linear2: linear_layer(cfg.feed_forward, d, vb.pp("linear2"))?,
            norms: [norm("norm1")?, norm("norm2")?, norm("norm3")?],
            dropout: p,
        })
    }

    /// Targets `(B, N, D)` over a memory `(B, S, D)` to `(B, N, D)`. No mask on either.
    pub fn forward_t(&self, target: &Tensor, memory: &Tensor, mode: Mode) -> Result<Tensor> {
        let drop = |xs: &Tensor| dropout(xs, self.dropout, mode);
        let attended = self.self_attention.forward_t(target, target, mode)?;
        let xs = self.norms[0].forward(&add(target, &drop(&attended)?)?)?;
        let attended = self.cross_attention.forward_t(&xs, memory, mode)?;
        let xs = self.norms[1].forward(&add(&xs, &drop(&attended)?)?)?;
        let out = match mode {
            Mode::Eval => feed_forward(&xs, &self.linear1, Activation::Relu, &self.linear2)?,
            _ => self.linear2.forward(&drop(&self.linear1.forward_relu(&xs)?)?)?,
        };
        self.norms[2].forward(&add(&xs, &drop(&out)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{gradients, half, several, threads, values};
    use crate::{Gradients, Noise, ParamStore};
    use candle_core::{DType, Device};

    fn cfg(dropout: f64) -> DecoderLayerConfig {
        DecoderLayerConfig { dim: 6, heads: 2, feed_forward: 5, dropout }
    }

    #[test]
    fn gradients_of_the_inputs() -> Result<()> {
        let inputs = several(&[&[2, 3, 6], &[2, 4, 6]])?;
        let at = |dtype| ParamStore::new(2).builder(dtype, &Device::Cpu);
        let attend = |x: &[Tensor]| {
            let vb = at(x[0].dtype());
            MultiHeadAttention::new(6, 3, 0.0, vb)?.forward_t(&x[0], &x[1], Mode::Eval)
        };
        gradients("attention", &inputs, &attend)?;
        half("attention", &inputs, &attend)?;
        let decode = |x: &[Tensor]| {
            let layer = TransformerDecoderLayer::new(&cfg(0.2), at(x[0].dtype()))?;
            layer.forward_t(&x[0], &x[1], Mode::Train(&Noise::new(1, 1)))
        };
        gradients("decoder layer", &inputs, &decode)?;
        half("decoder layer", &inputs, &decode)?;
        threads("decoder layer", &several(&[&[3, 150, 6], &[3, 90, 6]])?, &decode)
    }

    #[test]
    fn gradients_of_the_parameters() -> Result<()> {
        let store = ParamStore::new(2);
        let layer =
            TransformerDecoderLayer::new(&cfg(0.0), store.builder(DType::F64, &Device::Cpu))?;
        let params = store.parameters();
        assert_eq!(params.len(), 2 * 4 + 4 + 6);
        let (x, m) = (values(&[2, 3, 6], 1)?, values(&[2, 4, 6], 2)?);
        let probe = values(&[2, 3, 6], 3)?;
        let loss = || layer.forward_t(&x, &m, Mode::Eval)?.mul(&probe)?.sum_all();
        let grads = Gradients::of(&loss()?, &params)?;
        assert!(grads.missing(&params).is_empty());
        for (name, var) in &params {
            // One direction a parameter: the derivative along it against central differences.
            let direction = values(var.dims(), 11)?;
            let base = var.as_detached_tensor().copy()?;
            let at = |step: f64| -> Result<f64> {
                var.set(&(&base + (&direction * step)?)?)?;
                loss()?.to_scalar::<f64>()
            };
            let numeric = (at(1e-5)? - at(-1e-5)?) / 2e-5;
            var.set(&base)?;
            let Some(g) = grads.get(name) else { bail!("{name}") };
            let exact = g.mul(&direction)?.sum_all()?.to_scalar::<f64>()?;
            assert!(
                (numeric - exact).abs() < 1e-6 * exact.abs().max(1.0),
                "{name}: {exact} {numeric}"
            );
        }
        Ok(())
    }

    #[test]
    fn attention_by_hand() -> Result<()> {
        // Identity projections, one head: softmax(q kᵀ / sqrt(d)) v.
        let store = ParamStore::new(0);
        let mha = MultiHeadAttention::new(2, 1, 0.0, store.builder(DType::F64, &Device::Cpu))?;
        let eye = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        for (name, v) in store.parameters() {
            match name.as_str() {
                "in_proj_weight" => v.set(&Tensor::cat(&[&eye, &eye, &eye], 0)?)?,
                "out_proj.weight" => v.set(&eye)?,
                _ => v.set(&v.zeros_like()?)?,
            }
        }
        let q = Tensor::new(&[[[1f64, 0.0]]], &Device::Cpu)?;
        let m = Tensor::new(&[[[1f64, 2.0], [3.0, -1.0]]], &Device::Cpu)?;
        let y = mha.forward_t(&q, &m, Mode::Eval)?.flatten_all()?.to_vec1::<f64>()?;
        let (a, b) = ((1.0 / 2f64.sqrt()).exp(), (3.0 / 2f64.sqrt()).exp());
        let want = [(a + 3.0 * b) / (a + b), (2.0 * a - b) / (a + b)];
        assert!((y[0] - want[0]).abs() < 1e-12 && (y[1] - want[1]).abs() < 1e-12, "{y:?} {want:?}");
        Ok(())
    }
}
