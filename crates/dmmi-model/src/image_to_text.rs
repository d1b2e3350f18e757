//! The image-to-text decoder, which recovers the erased phrase from the picture: conditioned contrastive reconstruction
//! (CCR, spec section 5).
//!
//! Checkpoint prefix `classifier.lan_func.`.

use backbones::FeatureGrid;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{DecoderLayerConfig, Mode, TransformerDecoderLayer};

use crate::conv_norm::ConvNorm;
use crate::text_to_image::decoder_layer;

/// Words with a hidden phrase look at the decoder's map `y3`.
#[derive(Clone, Debug)]
pub struct ImageToTextDecoder {
    project: ConvNorm,
    layer: TransformerDecoderLayer,
}

impl ImageToTextDecoder {
    /// Keys `conv1`, `bn1`, `transformer_model.layers.0`.
    pub fn new(cfg: &DecoderLayerConfig, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            project: ConvNorm::new(cfg.dim, cfg.dim, ("conv1", "bn1"), vb.clone())?,
            layer: decoder_layer(cfg, vb)?,
        })
    }

    /// Words of the erased expression `(B, L, D)` and the map `(B, D, h, w)` to reconstructed words `(B, L, D)`.
    pub fn forward_t(&self, erased: &Tensor, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let memory = FeatureGrid::from_map(&self.project.forward_t(map, mode)?)?;
        self.layer.forward_t(erased, memory.tokens(), mode)
    }
}
