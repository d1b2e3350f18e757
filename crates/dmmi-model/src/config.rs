//! The configuration of a whole model, and the published sizes.

use backbones::{BertConfig, ResNetConfig, SwinConfig};
use mba_fusion::GateInit;
use serde::{Deserialize, Serialize};

/// Which visual encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BackboneConfig {
    /// Swin Transformer. The decoder sees the layer-normed residual of each fusion stage.
    Swin(SwinConfig),
    /// ResNet with bottleneck blocks. The decoder sees the gated sum.
    Resnet(ResNetConfig),
}

/// Sizes of the transformer layers in both decoders. Their channels are those of the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Dropout inside the layers.
    pub dropout: f64,
}

/// A DMMI model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DmmiConfig {
    /// Visual encoder.
    pub backbone: BackboneConfig,
    /// Text encoder; its width is the width of both decoders.
    pub text: BertConfig,
    /// Decoders.
    pub decoder: DecoderConfig,
    /// First values of the fusion gates.
    #[serde(default)]
    pub gate: GateInit,
}

impl DmmiConfig {
    fn published(backbone: BackboneConfig, gate: GateInit) -> Self {
        let decoder = DecoderConfig { num_heads: 8, feed_forward: 2048, dropout: 0.1 };
        Self { backbone, text: BertConfig::base_uncased(), decoder, gate }
    }

    /// Swin-B (window 12) and BERT-base, as released.
    pub fn swin_base_release() -> Self {
        Self::published(BackboneConfig::Swin(SwinConfig::base_w12()), GateInit::Zero)
    }

    /// ResNet-101 and BERT-base, as released.
    pub fn resnet101_release() -> Self {
        Self::published(BackboneConfig::Resnet(ResNetConfig::resnet101()), GateInit::Default)
    }

    /// A model of about a million parameters that learns the synthetic data from scratch on a CPU.
    pub fn quickstart(vocab_size: usize) -> Self {
        Self {
            backbone: BackboneConfig::Swin(SwinConfig {
                patch_size: 4,
                embed_dim: 32,
                depths: [1, 1, 2, 1],
                num_heads: [2, 2, 4, 4],
                window_size: 6,
                mlp_ratio: 2,
                drop_path: 0.0,
                initializer_range: 0.02,
                absolute_position: None,
            }),
            text: BertConfig {
                vocab_size,
                hidden_size: 64,
                num_layers: 2,
                num_heads: 4,
                intermediate_size: 128,
                max_positions: 64,
                dropout: 0.0,
                initializer_range: 0.02,
            },
            decoder: DecoderConfig { num_heads: 4, feed_forward: 128, dropout: 0.0 },
            gate: GateInit::Default,
        }
    }

    /// Presets by name: `swin-base-release`, `resnet101-release`, `quickstart` (which takes the vocabulary size).
    pub fn preset(name: &str, vocab_size: usize) -> Option<Self> {
        match name {
            "swin-base-release" => Some(Self::swin_base_release()),
            "resnet101-release" => Some(Self::resnet101_release()),
            "quickstart" => Some(Self::quickstart(vocab_size)),
            _ => None,
        }
    }

    /// The names [`preset`](Self::preset) knows.
    pub const PRESETS: [&str; 3] = ["swin-base-release", "resnet101-release", "quickstart"];

    /// Why the sizes are impossible, if they are; names the field.
    pub fn validate(&self) -> Result<(), String> {
        match &self.backbone {
            BackboneConfig::Swin(c) => c.validate().map_err(|e| format!("backbone: {e}"))?,
            BackboneConfig::Resnet(c) => c.validate().map_err(|e| format!("backbone: {e}"))?,
        }
        self.text.validate().map_err(|e| format!("text: {e}"))?;
        let (d, heads) = (self.text.hidden_size, self.decoder.num_heads);
        if heads == 0 || !d.is_multiple_of(heads) {
            return Err(format!("decoder: num_heads {heads} does not divide the text width {d}"));
        }
        if self.decoder.feed_forward == 0 {
            return Err("decoder: feed_forward must be positive".into());
        }
        if !(0.0..1.0).contains(&self.decoder.dropout) {
            return Err(format!("decoder: dropout {} is not in [0, 1)", self.decoder.dropout));
        }
        Ok(())
    }
}
