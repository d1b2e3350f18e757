//! BERT encoder (Devlin et al. 2019), all parameters trainable, with the key names of `bert-base-uncased`.

mod config;
mod layer;

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{LayerNorm, Mode, add_repeated, dropout, embedding, layer_norm_layer};

use self::layer::BertLayer;

pub use self::config::BertConfig;

/// Added to the variance in every layer norm.
const EPS: f64 = 1e-12;
/// Id of `[PAD]`: its embedding gets no gradient.
const PAD_ID: u32 = 0;
/// Added to the scores of padded words.
const MASKED: f64 = -10_000.0;

/// A BERT encoder.
#[derive(Clone, Debug)]
pub struct BertEncoder {
    words: Tensor,
    positions: Tensor,
    token_types: Tensor,
    norm: LayerNorm,
    layers: Vec<BertLayer>,
    dropout: f64,
    compute: DType,
}

impl BertEncoder {
    /// Keys `embeddings.*`, `encoder.layer.{i}.*`.
    pub fn new(cfg: &BertConfig, vb: VarBuilder) -> Result<Self> {
        if let Err(why) = cfg.validate() {
            bail!("bert: {why}");
        }
        let d = cfg.hidden_size;
        let ve = vb.pp("embeddings");
        let table =
            |n: usize, name: &str| ve.get_with_hints((n, d), &format!("{name}.weight"), cfg.init());
        let layers = vb.pp("encoder").pp("layer");
        Ok(Self {
            words: table(cfg.vocab_size, "word_embeddings")?,
            positions: table(cfg.max_positions, "position_embeddings")?,
            token_types: table(2, "token_type_embeddings")?,
            norm: layer_norm_layer(d, EPS, ve.pp("LayerNorm"))?,
            layers: (0..cfg.num_layers)
                .map(|i| BertLayer::new(cfg, layers.pp(i)))
                .collect::<Result<_>>()?,
            dropout: cfg.dropout,
            compute: vb.dtype(),
        })
    }

    /// Activations of the layers in `dtype`; the embeddings are summed and normalised in the type of the parameters. At
    /// first the type of the parameters.
    pub fn compute_in(&mut self, dtype: DType) {
        self.compute = dtype;
    }

    /// Ids `(B, L)` and attention mask `(B, L)` (1 on real tokens) to the last hidden state `(B, L, D)`.
    ///
    /// # Errors
    /// When the sequence is longer than the position table, or an id is outside the vocabulary.
    pub fn forward_t(&self, ids: &Tensor, attention: &Tensor, mode: Mode) -> Result<Tensor> {
        let (b, l) = ids.dims2()?;
        if attention.dims2()? != (b, l) {
            bail!("attention mask {:?} for ids {:?}", attention.dims(), ids.dims());
        }
        let longest = self.positions.dim(0)?;
        if l > longest {
            bail!("{l} tokens exceed the {longest} positions of the encoder");
        }
        let words = embedding(&self.words, ids, Some(PAD_ID))?; // (B, L, D)
        let places =
            self.positions.narrow(0, 0, l)?.broadcast_add(&self.token_types.narrow(0, 0, 1)?)?;
        let xs = self.norm.forward(&add_repeated(&words, &places)?)?;
        let mut xs = dropout(&xs.to_dtype(self.compute)?, self.dropout, mode)?;
        let real = attention.to_dtype(xs.dtype())?;
        let mask = ((1.0 - real)? * MASKED)?.unsqueeze(1)?; // (B, 1, L)
        for layer in &self.layers {
            xs = layer.forward_t(&xs, &mask, mode)?;
        }
        Ok(xs)
    }
}
