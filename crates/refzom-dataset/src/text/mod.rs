//! Expressions to word-piece ids, and the phrase that is hidden from them (spec §1).

mod erase;
mod expression;
mod nltk;
mod tagger;
mod words;

pub(crate) use expression::has_words;

pub use erase::{EraseMode, PhraseEraser, Replacement};
pub use expression::{
    BERT_BASE_UNCASED_VOCAB, Cut, Encoded, ExpressionTokenizer, MAX_EXPRESSION_BYTES,
};
pub use tagger::{NounTagger, PerceptronTagger, TaggedWord};
pub use words::split_words;
