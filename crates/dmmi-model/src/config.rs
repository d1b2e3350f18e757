//! The configuration of a whole model. [`DmmiConfig::preset`] knows the published ones.

use backbones::{BertConfig, ResNetConfig, SwinConfig};
use mba_fusion::{Directions, FusionConfig, GateInit};
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
    /// Whether the text-to-image decoder looks at the words.
    #[serde(default)]
    pub words: DecoderWords,
}

/// What the text-to-image decoder does with the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderWords {
    /// A transformer layer over the words follows each of the two coarser maps (DMMI).
    #[default]
    Attended,
    /// Convolutions only; the words have spoken in the encoder (LAVT).
    Ignored,
}

/// Whether a branch that only a loss needs is part of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// It is.
    #[default]
    On,
    /// It is not: no parameters, no loss.
    Off,
}

impl Branch {
    /// Whether the branch is there.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
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
    /// Equations, directions and windows of the fusion.
    #[serde(default)]
    pub fusion: FusionConfig,
    /// The image-to-text decoder (CCR) and its similarity loss.
    #[serde(default)]
    pub reconstruction: Branch,
    /// The pooled vectors and their contrastive loss.
    #[serde(default)]
    pub contrast: Branch,
}

impl DmmiConfig {
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
            decoder: DecoderConfig {
                num_heads: 4,
                feed_forward: 128,
                dropout: 0.0,
                words: DecoderWords::Attended,
            },
            gate: GateInit::Default,
            fusion: FusionConfig::release(),
            reconstruction: Branch::On,
            contrast: Branch::On,
        }
    }

    /// Why sizes or choices are impossible, if they are; names the key.
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
        self.fusion.validate().map_err(|e| format!("fusion: {e}"))?;
        self.check_paths()
    }

    /// Refuses models in which the words cannot reach the mask, or something is computed that nothing reads.
    fn check_paths(&self) -> Result<(), String> {
        let directions = self.fusion.directions;
        if self.decoder.words == DecoderWords::Attended {
            return Ok(());
        }
        if !directions.to_vision() {
            return Err(
                "decoder.words = \"ignored\" with no words in the picture (fusion.directions): the mask would not depend on the text; set fusion.directions = \"text_to_vision\" or decoder.words = \"attended\"".into(),
            );
        }
        if directions == Directions::Both && self.contrast == Branch::Off {
            return Err(
                "fusion.directions = \"both\", but decoder.words = \"ignored\" and contrast = \"off\": nothing reads the last words; set fusion.directions = \"text_to_vision\"".into(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(change: impl FnOnce(&mut DmmiConfig), words: &[&str]) {
        let mut cfg = DmmiConfig::quickstart(40);
        change(&mut cfg);
        let message = cfg.validate().expect_err("must be refused");
        for word in words {
            assert!(message.contains(word), "no \"{word}\" in: {message}");
        }
    }

    #[test]
    fn impossible_combinations_name_the_keys() {
        refused(|c| c.fusion.vision_windows = vec![2], &["fusion", "vision_windows"]);
        let ignore = |c: &mut DmmiConfig| c.decoder.words = DecoderWords::Ignored;
        for directions in [Directions::None, Directions::VisionToText] {
            let change = |c: &mut DmmiConfig| {
                ignore(c);
                c.fusion.directions = directions;
            };
            refused(change, &["decoder.words", "fusion.directions"]);
        }
        let change = |c: &mut DmmiConfig| {
            ignore(c);
            c.contrast = Branch::Off;
        };
        refused(change, &["fusion.directions", "text_to_vision"]);
    }

    #[test]
    fn configurations_of_before_are_the_release() {
        let old = r#"{"backbone":{"kind":"resnet","layers":[1,1,2,1],"width":8},
            "text":{"vocab_size":40,"hidden_size":32,"num_layers":2,"num_heads":4,"intermediate_size":64},
            "decoder":{"num_heads":4,"feed_forward":64,"dropout":0.0},"gate":"default"}"#;
        let read: DmmiConfig = serde_json::from_str(old).expect("still readable");
        assert_eq!(read.fusion, FusionConfig::release());
        assert_eq!((read.reconstruction, read.contrast), (Branch::On, Branch::On));
        assert_eq!(read.decoder.words, DecoderWords::Attended);
        let unknown = old.replace("\"gate\"", "\"gates\"");
        assert!(serde_json::from_str::<DmmiConfig>(&unknown).is_err());
        let unknown = old.replace("\"gate\":\"default\"", "\"fusion\":{\"lamda\":\"fixed\"}");
        let message = serde_json::from_str::<DmmiConfig>(&unknown).expect_err("typo").to_string();
        assert!(message.contains("lamda") && message.contains("lambda"), "{message}");
    }
}
