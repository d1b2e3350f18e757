//! The parts of a model, as tables list them, and which part a parameter belongs to.

use std::fmt;

/// A part of the model. Stages count from 0 here and from 1 in print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// BERT.
    Text,
    /// Blocks of a backbone stage, with the patch embedding or stem before the first and the downsampling after it.
    Backbone(usize),
    /// Fusion (MBA) of a stage.
    Fusion(usize),
    /// The decoder that predicts the mask.
    TextToImage,
    /// The decoder that recovers the erased phrase (CCR).
    ImageToText,
    /// The pooled vectors of the contrastive loss.
    Contrast,
    /// What only the losses compute.
    Losses,
    /// Parameters of no known part.
    Other,
}

impl Part {
    /// All parts in the order data meets them.
    pub fn all() -> Vec<Self> {
        let stages = (0..4).flat_map(|i| [Self::Backbone(i), Self::Fusion(i)]);
        let rest =
            [Self::TextToImage, Self::ImageToText, Self::Contrast, Self::Losses, Self::Other];
        std::iter::once(Self::Text).chain(stages).chain(rest).collect()
    }

    /// The part of a parameter or buffer, by its name in the release's checkpoints.
    pub fn of(name: &str) -> Self {
        if name.starts_with("bert_model.") {
            return Self::Text;
        }
        if let Some(rest) = name.strip_prefix("model.backbone.") {
            return Self::of_backbone(rest);
        }
        let Some(rest) = name.strip_prefix("model.") else { return Self::Other };
        if rest.starts_with("classifier.lan_func.") {
            Self::ImageToText
        } else if rest.starts_with("classifier.crossfuse") || rest.starts_with("contrastive.") {
            Self::Contrast
        } else if rest.starts_with("classifier.") {
            Self::TextToImage
        } else {
            Self::Other
        }
    }

    fn of_backbone(rest: &str) -> Self {
        let (first, inner) = rest.split_once('.').unwrap_or((rest, ""));
        let digit = |text: &str| text.parse::<usize>().ok().filter(|i| *i < 4);
        let from_one = |text: &str| text.parse::<usize>().ok()?.checked_sub(1).filter(|i| *i < 4);
        if matches!(first, "patch_embed" | "absolute_pos_embed") {
            return Self::Backbone(0);
        }
        if let Some(stage) = first.strip_prefix("all_fusion").and_then(from_one) {
            return Self::Fusion(stage);
        }
        if let Some(stage) = first.strip_prefix("norm").and_then(digit) {
            return Self::Backbone(stage);
        }
        if first == "layers" {
            let (stage, inner) = inner.split_once('.').unwrap_or((inner, ""));
            let fused = ["fusion.", "res_gate.", "W_l."].iter().any(|part| inner.starts_with(part));
            return match digit(stage) {
                Some(stage) if fused => Self::Fusion(stage),
                Some(stage) => Self::Backbone(stage),
                None => Self::Other,
            };
        }
        match first.strip_prefix("layer").and_then(from_one) {
            Some(stage) => Self::Backbone(stage),
            None => Self::Other,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Text => "text encoder".to_owned(),
            Self::Backbone(stage) => format!("backbone stage {}", stage + 1),
            Self::Fusion(stage) => format!("fusion (MBA) stage {}", stage + 1),
            Self::TextToImage => "text-to-image decoder".to_owned(),
            Self::ImageToText => "image-to-text decoder".to_owned(),
            Self::Contrast => "contrastive vectors".to_owned(),
            Self::Losses => "losses".to_owned(),
            Self::Other => "other".to_owned(),
        };
        // `pad` honours a width given by the caller.
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_by_name() {
        for (name, part) in [
            ("model.backbone.patch_embed.proj.weight", Part::Backbone(0)),
            ("model.backbone.absolute_pos_embed", Part::Backbone(0)),
            ("model.backbone.layers.2.blocks.17.attn.qkv.weight", Part::Backbone(2)),
            ("model.backbone.layers.0.downsample.reduction.weight", Part::Backbone(0)),
            ("model.backbone.norm3.bias", Part::Backbone(3)),
            ("model.backbone.layers.0.fusion.vis_project.0.weight", Part::Fusion(0)),
            ("model.backbone.layers.3.res_gate.0.weight", Part::Fusion(3)),
            ("model.backbone.layers.1.W_l.0.bias", Part::Fusion(1)),
            ("model.backbone.layer1.0.weight", Part::Backbone(0)),
            ("model.backbone.layer4.2.bn3.running_mean", Part::Backbone(3)),
            ("model.backbone.all_fusion4.W_l.0.weight", Part::Fusion(3)),
            ("model.classifier.lan_func.bn1.weight", Part::ImageToText),
            ("model.classifier.conv1_4.weight", Part::TextToImage),
            ("model.classifier.crossfuse1.linear.weight", Part::Contrast),
            ("model.contrastive.align_lan.0.bias", Part::Contrast),
            ("bert_model.encoder.layer.0.output.dense.weight", Part::Text),
            ("model.backbone.layers.9.blocks.0.norm1.weight", Part::Other),
            ("something.else", Part::Other),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
        assert_eq!(format!("{:<8}|", Part::Losses), "losses  |");
    }
}
