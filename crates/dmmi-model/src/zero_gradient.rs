//! Parameters whose gradient is zero whatever the data, with the reason: all others must have one above zero.
//!
//! Only whole tensors are listed. Parts of others are zero too: the keys' third of `attn.qkv.bias` and `in_proj_bias` (as for
//! BERT's key bias below), and the row of `[PAD]` in the word embeddings.

use mba_fusion::GateInit;

use crate::config::{BackboneConfig, DecoderWords, DmmiConfig};

/// Why the parameter `name` of a model of this configuration has a zero gradient in its first step; none: it must not.
///
/// Zero in exact arithmetic; in floating point what is left is rounding.
pub fn zero_gradient(cfg: &DmmiConfig, name: &str) -> Option<&'static str> {
    if name.contains(".decoder_layer.") {
        return Some("a stored copy of the decoder layer that the release never uses");
    }
    if name.ends_with(".attention.self.key.bias") {
        return Some("adds the same to all scores of a query, which the softmax removes");
    }
    if Some(name) == last_words_bias(cfg).as_deref() {
        return Some(
            "adds the same to all words, which only the cells' attention reads: it moves every score of a query alike and every gathered value alike",
        );
    }
    let rest = name.strip_prefix("model.backbone.")?;
    if rest.contains("res_gate.") {
        return gate(cfg, rest);
    }
    // The paper's attention has no such biases but that of `W`.
    let attention = rest.split_once("image_lang_att.")?.1;
    match attention {
        "W.0.bias" | "f_value_v.0.bias" => return Some(NORMED),
        "f_value.0.bias" => {
            return Some(
                "the weights of the words sum to 1, so every cell gets the same, which the instance norm removes",
            );
        }
        _ => {}
    }
    let (window, last) = attention.split_once('.')?;
    match (window.starts_with("refineimg"), last) {
        (true, "f_query.0.bias" | "f_query2.0.bias") | (false, "f_key.0.bias") => Some(NORMED),
        (true, "f_key.0.bias") => {
            Some("adds the same to the scores of all real words, which the softmax removes")
        }
        _ => None,
    }
}

/// The last bias of the text encoder, where nothing but the attention of cells reads the words (LAVT).
fn last_words_bias(cfg: &DmmiConfig) -> Option<String> {
    let read = cfg.decoder.words == DecoderWords::Attended
        || cfg.contrast.is_on()
        || cfg.reconstruction.is_on();
    let last = cfg.text.num_layers.checked_sub(1).filter(|_| !read)?;
    Some(format!("bert_model.encoder.layer.{last}.output.LayerNorm.bias"))
}

const NORMED: &str = "removed by the instance norm that follows";

fn gate(cfg: &DmmiConfig, rest: &str) -> Option<&'static str> {
    if matches!(cfg.backbone, BackboneConfig::Swin(_)) && rest.starts_with("layers.3.") {
        return Some("nothing reads the last gated sum: Swin's decoder sees the residual");
    }
    match cfg.gate {
        GateInit::Zero => {
            Some("both layers of the gate are zero and block each other for ever, as released")
        }
        GateInit::OpensFromZero if rest.contains("res_gate.0.") => {
            Some("behind the output layer, which is zero in the first step only")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reference recorded of itself, in float64.
    #[test]
    fn the_list_is_the_references() {
        for (file, backbone) in [
            ("g1_tiny_swin.json", DmmiConfig::quickstart(40).backbone),
            ("g2_tiny_resnet.json", DmmiConfig::resnet101_release().backbone),
        ] {
            let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
            let json: serde_json::Value =
                serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("JSON");
            let cfg = DmmiConfig { backbone, ..DmmiConfig::quickstart(40) };
            for p in json["train"]["params"].as_array().expect("a list") {
                let name = p["name"].as_str().expect("a name");
                let zero = p["zero_grad_by_invariance"] == true || p["has_grad"] == false;
                assert_eq!(zero_gradient(&cfg, name).is_some(), zero, "{file}: {name}");
            }
        }
    }
}
