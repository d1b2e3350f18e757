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
const TRAINING: &str = "state of the training";

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
        ("optimizer.**", To::Ignore(TRAINING)),
        ("lr_scheduler.**", To::Ignore(TRAINING)),
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
