//! Published sizes and variants by name.

use backbones::{BertConfig, ResNetConfig, SwinConfig};
use mba_fusion::{Directions, FusionConfig, GateInit, Variant};

use crate::config::{BackboneConfig, Branch, DecoderConfig, DecoderWords, DmmiConfig};

impl DmmiConfig {
    /// `backbone` with BERT-base and the published decoders, as released.
    pub fn release(backbone: BackboneConfig) -> Self {
        let gate = match backbone {
            BackboneConfig::Swin(_) => GateInit::Zero,
            BackboneConfig::Resnet(_) => GateInit::Default,
        };
        Self {
            backbone,
            text: BertConfig::base_uncased(),
            decoder: DecoderConfig {
                num_heads: 8,
                feed_forward: 2048,
                dropout: 0.1,
                words: DecoderWords::Attended,
            },
            gate,
            fusion: FusionConfig::release(),
            reconstruction: Branch::On,
            contrast: Branch::On,
        }
    }

    /// The same with the paper's equations. Gates can open (the released zeros cannot), and BERT has its own dropout.
    pub fn paper(backbone: BackboneConfig) -> Self {
        let mut cfg = Self { fusion: FusionConfig::paper(), ..Self::release(backbone) };
        cfg.text.dropout = 0.1;
        if cfg.gate == GateInit::Zero {
            cfg.gate = GateInit::OpensFromZero;
        }
        cfg
    }

    /// LAVT (Yang et al., CVPR 2022) of the same parts: each cell gathers words through one 1x1 attention, the words stay
    /// as BERT gives them, the decoder is convolutions only, and the mask is the only loss. Differs from the original in
    /// the query (projected twice, as DMMI's 1x1 branch is) and in the decoder's width (the text's, not half the last stage's).
    pub fn lavt(backbone: BackboneConfig) -> Self {
        Self::release(backbone).into_lavt()
    }

    /// This model's encoders with LAVT's fusion, decoder and loss.
    pub fn into_lavt(self) -> Self {
        Self {
            decoder: DecoderConfig { words: DecoderWords::Ignored, ..self.decoder },
            gate: if self.gate == GateInit::Zero { GateInit::OpensFromZero } else { self.gate },
            fusion: FusionConfig {
                directions: Directions::TextToVision,
                vision_windows: vec![1],
                ..FusionConfig::release()
            },
            reconstruction: Branch::Off,
            contrast: Branch::Off,
            ..self
        }
    }

    /// Swin-B (window 12) and BERT-base, as released.
    pub fn swin_base_release() -> Self {
        Self::release(BackboneConfig::Swin(SwinConfig::base_w12()))
    }

    /// The same with the paper's equations.
    pub fn swin_base_paper() -> Self {
        Self::paper(BackboneConfig::Swin(SwinConfig::base_w12()))
    }

    /// ResNet-101 and BERT-base, as released.
    pub fn resnet101_release() -> Self {
        Self::release(BackboneConfig::Resnet(ResNetConfig::resnet101()))
    }

    /// The same with the paper's equations.
    pub fn resnet101_paper() -> Self {
        Self::paper(BackboneConfig::Resnet(ResNetConfig::resnet101()))
    }

    /// A model for real pictures that a CPU can train: half of Swin-T's width, and a text encoder of the size of MiniLM-L6
    /// (384 wide, 6 layers) with BERT's vocabulary.
    pub fn cpu_small() -> Self {
        Self {
            text: BertConfig {
                hidden_size: 384,
                num_layers: 6,
                intermediate_size: 1536,
                ..BertConfig::base_uncased()
            },
            decoder: DecoderConfig {
                num_heads: 6,
                feed_forward: 768,
                dropout: 0.1,
                words: DecoderWords::Attended,
            },
            gate: GateInit::OpensFromZero,
            ..Self::release(BackboneConfig::Swin(SwinConfig {
                embed_dim: 48,
                depths: [2, 2, 4, 2],
                drop_path: 0.1,
                ..SwinConfig::tiny_w7()
            }))
        }
    }

    /// Presets by name: those in [`PRESETS`](Self::PRESETS), and every backbone of [`BackboneConfig::named`] followed by
    /// `-release`, `-paper` or `-lavt`. Only `quickstart` takes the vocabulary size.
    pub fn preset(name: &str, vocab_size: usize) -> Option<Self> {
        match name {
            "quickstart" => return Some(Self::quickstart(vocab_size)),
            "cpu-small" => return Some(Self::cpu_small()),
            _ => {}
        }
        let (backbone, suffix) = name.rsplit_once('-')?;
        let backbone = BackboneConfig::named(backbone)?;
        match suffix {
            "release" => Some(Self::release(backbone)),
            "paper" => Some(Self::paper(backbone)),
            "lavt" => Some(Self::lavt(backbone)),
            _ => None,
        }
    }

    /// The names of [`preset`](Self::preset) a reader needs to know.
    pub const PRESETS: [&str; 7] = [
        "swin-base-release",
        "swin-base-paper",
        "swin-base-lavt",
        "resnet101-release",
        "resnet101-paper",
        "cpu-small",
        "quickstart",
    ];

    /// Whose equations the model follows.
    pub fn variant(&self) -> Variant {
        self.fusion.variant
    }
}

impl BackboneConfig {
    /// Published sizes by name: `swin-tiny`, `swin-small` (window 7), `swin-base`, `swin-large` (window 12), each also with
    /// its window (`swin-base-w7`), `resnet50`, `resnet101`.
    pub fn named(name: &str) -> Option<Self> {
        let (size, window) = match name.rsplit_once("-w") {
            Some((size, "7")) => (size, Some(7)),
            Some((size, "12")) => (size, Some(12)),
            _ => (name, None),
        };
        let swin = match size {
            "resnet50" if window.is_none() => {
                return Some(Self::Resnet(ResNetConfig::resnet50()));
            }
            "resnet101" if window.is_none() => {
                return Some(Self::Resnet(ResNetConfig::resnet101()));
            }
            "swin-tiny" => SwinConfig::tiny_w7(),
            "swin-small" => SwinConfig::small_w7(),
            "swin-base" => SwinConfig::base_w12(),
            "swin-large" => SwinConfig::large_w12(),
            _ => return None,
        };
        Some(Self::Swin(SwinConfig { window_size: window.unwrap_or(swin.window_size), ..swin }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_possible() {
        let sizes = ["swin-tiny", "swin-small", "swin-base", "swin-large", "resnet50", "resnet101"];
        let built =
            sizes.iter().flat_map(|s| ["release", "paper", "lavt"].map(|v| format!("{s}-{v}")));
        for name in built.chain(DmmiConfig::PRESETS.map(String::from)) {
            let cfg = DmmiConfig::preset(&name, 40).expect(&name);
            assert_eq!(cfg.validate(), Ok(()), "{name}");
        }
        for name in ["swin-base", "swin-huge-release", "resnet50-w7-release", "swin-base-w9-paper"]
        {
            assert_eq!(DmmiConfig::preset(name, 40), None, "{name}");
        }
    }

    #[test]
    fn names_mean_what_they_say() {
        let swin = |name: &str| match BackboneConfig::named(name) {
            Some(BackboneConfig::Swin(c)) => c,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(swin("swin-base"), SwinConfig::base_w12());
        assert_eq!(swin("swin-base-w7").window_size, 7);
        assert_eq!(swin("swin-tiny-w12"), SwinConfig { window_size: 12, ..SwinConfig::tiny_w7() });
        assert_eq!(DmmiConfig::preset("swin-base-paper", 0), Some(DmmiConfig::swin_base_paper()));
        assert_eq!(DmmiConfig::swin_base_paper().variant(), Variant::Paper);
        assert_eq!(DmmiConfig::swin_base_release().gate, GateInit::Zero);
    }
}
