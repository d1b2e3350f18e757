//! Which parameters are trained, with which decay: the release's parameter groups (spec section 8), by name alone.

use candle_core::Var;
use nn_ops::ParamGroup;

use crate::config::{OptimizerConfig, TextLayers};

/// Parts of a backbone parameter's name that mean "no weight decay".
const UNDECAYED: [&str; 3] = ["norm", "relative_position_bias_table", "absolute_pos_embed"];

/// Sorts parameters into the release's groups: `backbone, no decay`, `backbone`, `classifier`, `contrastive`, `text`.
///
/// Text parameters beyond [`OptimizerConfig::text_layers_trained`] are left out, so they never change. A name of no known
/// part goes to the group `other`, decayed. Empty groups are dropped; order within a group is that of `params`.
pub fn param_groups(params: Vec<(String, Var)>, cfg: &OptimizerConfig) -> Vec<ParamGroup> {
    let group = |name: &str, weight_decay: f64, lr_scale: f64| ParamGroup {
        name: name.to_owned(),
        params: Vec::new(),
        weight_decay,
        lr_scale,
    };
    let mut groups = [
        group("backbone, no decay", 0.0, cfg.backbone_lr_scale),
        group("backbone", cfg.weight_decay, cfg.backbone_lr_scale),
        group("classifier", cfg.weight_decay, 1.0),
        group("contrastive", cfg.weight_decay, 1.0),
        group("text", cfg.weight_decay, cfg.text_lr_scale),
        group("other", cfg.weight_decay, 1.0),
    ];
    for (name, var) in params {
        if let Some(index) = group_of(&name, cfg.text_layers_trained) {
            groups[index].params.push((name, var));
        }
    }
    groups.into_iter().filter(|group| !group.params.is_empty()).collect()
}

/// Index into the groups above; none: not trained.
fn group_of(name: &str, text: TextLayers) -> Option<usize> {
    if let Some(rest) = name.strip_prefix("model.backbone.") {
        return Some(usize::from(!UNDECAYED.iter().any(|part| rest.contains(part))));
    }
    if name.starts_with("model.classifier.") {
        return Some(2);
    }
    if name.starts_with("model.contrastive.") {
        return Some(3);
    }
    let Some(rest) = name.strip_prefix("bert_model.") else { return Some(5) };
    let trained = match text {
        TextLayers::All => true,
        TextLayers::First(layers) => rest
            .strip_prefix("encoder.layer.")
            .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok())
            .is_some_and(|layer| layer < layers),
    };
    trained.then_some(4)
}

/// Whether a trained parameter provably never receives a gradient, so that its absence in step 1 is no fault.
///
/// * `*.decoder_layer.*`: the release's dead copies of the transformer decoder layers, stored but never used (spec section 4);
/// * `res_gate` of the last stage of a Swin: nothing follows the gated sum there, the decoder sees the residual (spec section 3);
///   `W_l` of the last stage only reaches the decoders, so it does get one.
///
/// That a parameter receives a gradient does not mean that it is above zero: see [`dmmi_model::zero_gradient`].
pub fn provably_without_gradient(name: &str, last_stage: usize) -> bool {
    name.contains(".decoder_layer.")
        || name.starts_with(&format!("model.backbone.layers.{last_stage}.res_gate."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use candle_core::{DType, Device};

    use super::*;

    fn golden(file: &str) -> Vec<(String, i64, bool)> {
        let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("JSON");
        let params = json["train"]["params"].as_array().expect("a list").iter();
        params
            .map(|p| {
                let name = p["name"].as_str().expect("a name").to_owned();
                (name, p["group"].as_i64().expect("a group"), p["has_grad"] == true)
            })
            .collect()
    }

    #[test]
    fn groups_are_the_releases() {
        for file in ["g1_tiny_swin.json", "g2_tiny_resnet.json"] {
            let params = golden(file);
            let zero = || Var::zeros((), DType::F32, &Device::Cpu).expect("a scalar");
            let vars = params.iter().map(|(name, ..)| (name.clone(), zero())).collect();
            let groups = param_groups(vars, &OptimizerConfig::release());
            let names = ["backbone, no decay", "backbone", "classifier", "contrastive", "text"];
            let mut seen = BTreeSet::new();
            for group in &groups {
                let index = names.iter().position(|n| *n == group.name).expect("a known group");
                assert_eq!(group.weight_decay, if index == 0 { 0.0 } else { 0.01 });
                for (name, _) in &group.params {
                    let (_, expected, _) = params.iter().find(|p| p.0 == *name).expect("known");
                    assert_eq!(index as i64, *expected, "{file}: {name}");
                    seen.insert(name.clone());
                }
            }
            for (name, expected, _) in &params {
                assert_eq!(seen.contains(name), *expected >= 0, "{file}: {name}");
            }
        }
    }

    #[test]
    fn parameters_without_gradient_are_the_documented_ones() {
        for file in ["g1_tiny_swin.json", "g2_tiny_resnet.json"] {
            for (name, _, has_grad) in golden(file) {
                assert_eq!(!provably_without_gradient(&name, 3), has_grad, "{file}: {name}");
            }
        }
    }

    #[test]
    fn all_of_the_text_encoder_on_demand() {
        assert_eq!(
            group_of("bert_model.embeddings.word_embeddings.weight", TextLayers::All),
            Some(4)
        );
        assert_eq!(
            group_of("bert_model.embeddings.word_embeddings.weight", TextLayers::First(10)),
            None
        );
        assert_eq!(
            group_of("bert_model.encoder.layer.10.output.dense.bias", TextLayers::First(10)),
            None
        );
        assert_eq!(
            group_of("bert_model.encoder.layer.9.output.dense.bias", TextLayers::First(10)),
            Some(4)
        );
    }
}
