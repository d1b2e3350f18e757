//! The authors' checkpoints (`model` and `bert_model`, spec sections 2 to 6): what of a file belongs to the network, which
//! network a file belongs to, and what has to be added for PyTorch to load ours strictly.

mod export;
mod infer;

use nn_ops::names::{Scheme, To};

pub use export::{StateDict, export};
pub use infer::{Heads, infer};

const DEAD: &str = "dead copies of decoder layers, never used (spec section 4)";
const REBUILT: &str = "constants of the window size";
const COUNTS: &str = "counts of batches";
const BESIDE: &str = "beside the network: state of the training, averaged copies";

/// Names of a DMMI checkpoint; ours are the same, without what is listed here as not needed.
pub const RELEASE: Scheme = Scheme {
    name: "DMMI checkpoint",
    anchors: &["model.classifier.conv1_1.weight", "bert_model.embeddings.word_embeddings.weight"],
    rules: &[
        ("**.num_batches_tracked", To::Ignore(COUNTS)),
        ("model.backbone.**.relative_position_index", To::Ignore(REBUILT)),
        ("model.backbone.**.attn_mask", To::Ignore(REBUILT)),
        ("model.classifier.transformer_fusion{n}.decoder_layer.**", To::Ignore(DEAD)),
        ("model.classifier.lan_func.decoder_layer.**", To::Ignore(DEAD)),
        ("bert_model.embeddings.position_ids", To::Ignore("constants of the positions")),
        ("bert_model.pooler.**", To::Ignore("pooler, which the last hidden state does not need")),
        ("bert_model.**.LayerNorm.gamma", To::Name("bert_model.**.LayerNorm.weight")),
        ("bert_model.**.LayerNorm.beta", To::Name("bert_model.**.LayerNorm.bias")),
        ("model.**", To::Name("model.**")),
        ("bert_model.**", To::Name("bert_model.**")),
        ("**", To::Ignore(BESIDE)),
    ],
    lacks: &[],
};

/// Parameters of the fusion inside the visual encoder, by their names after `model.backbone.`: encoders alone have none.
pub const FUSION: &[(&str, &str)] = &[
    ("layers.{i}.fusion.**", "fusion with the text"),
    ("layers.{i}.res_gate.**", "fusion with the text"),
    ("layers.{i}.W_l.**", "fusion with the text"),
    ("all_fusion{i}.**", "fusion with the text"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_the_network_is_not_needed() {
        let beside = ["optimizer.state.0.exp_avg", "model_ema.backbone.norm0.bias", "rng_state"];
        let network = ["model.classifier.conv1_1.weight", "model.classifier.new.weight"];
        let names = [RELEASE.anchors, &beside, &network[1..]].concat();
        let plan = RELEASE.plan(names.iter().copied()).expect("the anchors are there");
        let ignored: Vec<&str> = plan.ignored.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((ignored, plan.unexpected.len()), (beside.to_vec(), 0));
        assert!(network.iter().all(|name| plan.moves.contains_key(*name)));
    }
}
