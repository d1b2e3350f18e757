//! BERT as Hugging Face names it, whatever stands in front (`bert.`, nothing, a wrapper's name), and with the layer norms of
//! TensorFlow (`gamma`, `beta`) or PyTorch.

use nn_ops::names::{Rule, Scheme, To};

use super::HEAD;

/// Every scheme of a BERT file.
pub const BERT: &[Scheme] = &[Scheme {
    name: "BERT, Hugging Face",
    anchors: &["embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"],
    rules: HUGGING_FACE,
    lacks: &[],
}];

const HUGGING_FACE: &[Rule] = &[
    ("embeddings.position_ids", To::Ignore("constants of the positions")),
    ("embeddings.token_type_ids", To::Ignore("constants of the positions")),
    ("**.LayerNorm.gamma", To::Name("**.LayerNorm.weight")),
    ("**.LayerNorm.beta", To::Name("**.LayerNorm.bias")),
    ("embeddings.**", To::Name("embeddings.**")),
    ("encoder.**", To::Name("encoder.**")),
    ("pooler.**", To::Ignore("pooler, which the last hidden state does not need")),
    ("cls.**", To::Ignore(HEAD)),
    ("classifier.**", To::Ignore(HEAD)),
    ("qa_outputs.**", To::Ignore(HEAD)),
];
