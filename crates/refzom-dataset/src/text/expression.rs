//! BERT's uncased WordPiece: `[CLS] pieces [SEP]`, cut and padded to a fixed length (spec §1).
//!
//! Equals the tokenizer that the published checkpoints were trained with: unlike today's, it does not drop
//! control and format characters (a word with one becomes `[UNK]`), and a long expression loses its `[SEP]`.

use std::borrow::Cow;
use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Model, NormalizedString, Normalizer, Tokenizer};

use crate::DataError;

/// Longest expression that is looked at, in bytes; 500 words are about 3,000.
pub const MAX_EXPRESSION_BYTES: usize = 1 << 16;

/// The vocabulary of bert-base-uncased, a piece a line.
pub const BERT_BASE_UNCASED_VOCAB: &str = include_str!("../../assets/bert-base-uncased-vocab.txt");

/// Fewer pieces than this is no vocabulary of a language: BERT has 30,522.
const SMALL_VOCABULARY: usize = 5_000;

/// What happens to `[SEP]` when an expression is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// It is cut off with the rest, as in the release.
    #[default]
    Plain,
    /// It takes the last place.
    KeepSep,
}

/// An encoded expression; all vectors have the tokenizer's length `L`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Piece ids, padded with 0.
    pub ids: Vec<u32>,
    /// 1 on pieces and specials, 0 on padding.
    pub attention: Vec<u8>,
    /// Byte range of each piece in the expression; `(0, 0)` for `[CLS]`, `[SEP]` and padding.
    pub offsets: Vec<(usize, usize)>,
    /// Whether pieces were cut off.
    pub truncated: bool,
}

/// Expressions to ids; cheap to share between threads behind an `Arc`.
#[derive(Clone, Debug)]
pub struct ExpressionTokenizer {
    tokenizer: Tokenizer,
    max_len: usize,
    cut: Cut,
    cls: u32,
    sep: u32,
    mask: u32,
    vocab_size: usize,
}

impl ExpressionTokenizer {
    /// The vocabulary of `bert-base-uncased`, built in (Apache-2.0). DMMI uses `max_len` 20.
    ///
    /// # Errors
    /// `max_len` is below 3.
    pub fn bert_base_uncased(max_len: usize) -> Result<Self, DataError> {
        Self::from_vocab_str(BERT_BASE_UNCASED_VOCAB, max_len)
    }

    /// A `vocab.txt`: one piece a line, the line number is the id.
    ///
    /// # Errors
    /// The file cannot be read, or see [`Self::from_vocab_str`].
    pub fn from_vocab_file(path: impl AsRef<Path>, max_len: usize) -> Result<Self, DataError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| DataError::read(path, e))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            DataError::format(
                path,
                "is not utf-8; a vocabulary is a text file with one piece a line",
            )
        })?;
        Self::from_vocab_str(&text, max_len).map_err(|e| match e {
            DataError::Text(message) => DataError::format(path, message),
            other => other,
        })
    }

    /// The text of a `vocab.txt`.
    ///
    /// # Errors
    /// A special piece is missing, `[PAD]` is not the first line, or `max_len` is below 3.
    pub fn from_vocab_str(vocab: &str, max_len: usize) -> Result<Self, DataError> {
        if !(3..=4096).contains(&max_len) {
            return Err(DataError::Config {
                field: "max_len",
                message: format!("is {max_len}, give 3 to 4096 pieces"),
            });
        }
        let text = |e: tokenizers::Error| DataError::Text(e.to_string());
        let pieces = WordPiece::read_bytes(vocab.as_bytes()).map_err(text)?;
        let id = |piece: &str| {
            pieces.get(piece).copied().ok_or_else(|| {
                DataError::Text(format!(
                    "the vocabulary lacks {piece}; give a BERT vocab.txt with one piece a line"
                ))
            })
        };
        let (pad, cls, sep, mask) = (id("[PAD]")?, id("[CLS]")?, id("[SEP]")?, id("[MASK]")?);
        id("[UNK]")?;
        if pad != 0 {
            return Err(DataError::Text(format!(
                "[PAD] is line {} of the vocabulary, it must be the first",
                pad + 1
            )));
        }
        let model =
            WordPiece::builder().vocab(pieces).unk_token("[UNK]".into()).build().map_err(text)?;
        let vocab_size = model.get_vocab_size();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(normalizer()))
            .map_err(text)?
            .with_pre_tokenizer(Some(BertPreTokenizer));
        // written out in an expression, they stand for themselves, as in the release
        let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        tokenizer
            .add_special_tokens(specials.map(|s| AddedToken::from(s, true).normalized(false)))
            .map_err(text)?;
        Ok(Self { tokenizer, max_len, cut: Cut::Plain, cls, sep, mask, vocab_size })
    }

    /// The same tokenizer with another way to cut.
    pub fn with_cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    /// `L`, the length of every encoding.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Number of pieces, what an embedding table needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of `[MASK]`.
    pub fn mask_id(&self) -> u32 {
        self.mask
    }

    /// The piece with this id.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Whether a piece stands for a word that the vocabulary does not know: `[UNK]`, and, in a small vocabulary such as that of
    /// synthetic data, a single letter inside a word.
    pub fn is_unknown(&self, id: u32) -> bool {
        let letter = |piece: &str| piece.len() == 3 && piece.starts_with("##");
        let small = self.vocab_size < SMALL_VOCABULARY;
        self.piece(id).is_some_and(|piece| piece == "[UNK]" || small && letter(&piece))
    }

    /// Encodes one expression.
    ///
    /// # Errors
    /// It holds nothing but white space and accents without a letter, or more than [`MAX_EXPRESSION_BYTES`].
    pub fn encode(&self, expression: &str) -> Result<Encoded, DataError> {
        if expression.len() > MAX_EXPRESSION_BYTES {
            return Err(DataError::Text(format!(
                "an expression of {} bytes; shorten it to at most {MAX_EXPRESSION_BYTES}",
                expression.len()
            )));
        }
        let encoding = self.tokenizer.encode(as_python_splits(expression), false).map_err(|e| {
            DataError::Text(format!("cannot split {expression:?} into pieces: {e}"))
        })?;
        let n = encoding.get_ids().len();
        if n == 0 {
            return Err(DataError::Text("an empty expression; write what to look for".into()));
        }
        let pieces = encoding.get_ids().iter().copied().zip(encoding.get_offsets().iter().copied());
        let mut all: Vec<(u32, (usize, usize))> = vec![(self.cls, (0, 0))];
        all.extend(pieces.take(self.max_len));
        if n + 2 <= self.max_len {
            all.push((self.sep, (0, 0)));
        }
        all.truncate(self.max_len);
        if self.cut == Cut::KeepSep && n + 2 > self.max_len {
            all[self.max_len - 1] = (self.sep, (0, 0)); // all is full: n + 1 >= max_len
        }
        let real = all.len();
        all.resize(self.max_len, (0, (0, 0)));
        Ok(Encoded {
            ids: all.iter().map(|(id, _)| *id).collect(),
            attention: (0..self.max_len).map(|i| u8::from(i < real)).collect(),
            offsets: all.iter().map(|(_, offset)| *offset).collect(),
            truncated: n + 2 > self.max_len,
        })
    }
}

fn normalizer() -> BertNormalizer {
    BertNormalizer::new(false, true, Some(true), true)
}

/// Where the official tokenizer splits and this library does not, a character of as many bytes where both do: Python takes
/// the four separators for white space, and the first 256 characters of an ideographic block stand alone (none has a piece).
fn as_python_splits(expression: &str) -> Cow<'_, str> {
    const SEPARATORS: std::ops::RangeInclusive<char> = '\u{1c}'..='\u{1f}';
    const IDEOGRAPHS: std::ops::RangeInclusive<char> = '\u{2b820}'..='\u{2b91f}';
    if !expression.contains(|c| SEPARATORS.contains(&c) || IDEOGRAPHS.contains(&c)) {
        return expression.into();
    }
    let split = |c| match c {
        c if SEPARATORS.contains(&c) => ' ',
        c if IDEOGRAPHS.contains(&c) => '\u{2b920}',
        c => c,
    };
    expression.chars().map(split).collect()
}

/// Whether [`ExpressionTokenizer::encode`] finds a piece: there is more than white space and marks without a letter.
pub(crate) fn has_words(expression: &str) -> bool {
    if expression.bytes().any(|byte| byte.is_ascii_graphic()) {
        return true;
    }
    let mut text = NormalizedString::from(&*as_python_splits(expression));
    normalizer().normalize(&mut text).is_err() || !text.get().trim().is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn specials_offsets_and_padding() {
        let tokenizer = ExpressionTokenizer::bert_base_uncased(12).unwrap();
        let text = "The café's Zebra";
        let encoded = tokenizer.encode(text).unwrap();
        let piece = |i: usize| tokenizer.piece(encoded.ids[i]).unwrap();
        assert_eq!((piece(0).as_str(), piece(2).as_str()), ("[CLS]", "cafe"));
        let (from, to) = encoded.offsets[2];
        assert_eq!(&text[from..to], "café");
        assert_eq!(encoded.attention.iter().map(|&a| usize::from(a)).sum::<usize>(), 7);
        assert_eq!((encoded.ids[6], encoded.ids[7], encoded.offsets[6]), (102, 0, (0, 0)));
        assert!(!encoded.truncated);
    }

    #[test]
    fn long_expressions_are_cut() {
        let text = "word ".repeat(500);
        let plain = ExpressionTokenizer::bert_base_uncased(20).unwrap();
        let encoded = plain.encode(&text).unwrap();
        assert!(encoded.truncated && encoded.ids[19] == encoded.ids[1]);
        let kept = plain.with_cut(Cut::KeepSep).encode(&text).unwrap();
        assert_eq!((kept.ids[19], kept.ids.len()), (102, 20));
        for n in 1..6 {
            let tokenizer =
                ExpressionTokenizer::bert_base_uncased(5).unwrap().with_cut(Cut::KeepSep);
            let encoded = tokenizer.encode(&"word ".repeat(n)).unwrap();
            assert_eq!(encoded.ids.iter().filter(|&&id| id == 102).count(), 1, "{n}");
            assert_eq!(encoded.truncated, n > 3);
        }
    }

    #[test]
    fn separators_and_rare_ideographs_split_as_in_python() {
        let tokenizer = ExpressionTokenizer::bert_base_uncased(12).unwrap();
        let text = "red\u{1c}dog \u{2b820}\u{2b91f}";
        let encoded = tokenizer.encode(text).unwrap();
        let pieces: Vec<String> =
            encoded.ids[1..5].iter().map(|&id| tokenizer.piece(id).unwrap()).collect();
        assert_eq!(pieces, ["red", "dog", "[UNK]", "[UNK]"]);
        assert_eq!(encoded.offsets[1..5], [(0, 3), (4, 7), (8, 12), (12, 16)]);
        assert!(tokenizer.encode("\u{1d}").is_err());
    }

    #[test]
    fn faults_name_the_remedy() {
        let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
        for empty in ["", " ", "\t \n"] {
            assert!(tokenizer.encode(empty).unwrap_err().to_string().contains("empty expression"));
        }
        assert!(tokenizer.encode(&"x".repeat(MAX_EXPRESSION_BYTES + 1)).is_err());
        assert!(ExpressionTokenizer::bert_base_uncased(2).is_err());
        let error = ExpressionTokenizer::from_vocab_str("[PAD]\na\n", 20).unwrap_err().to_string();
        assert!(error.contains("[CLS]"), "{error}");
        let shifted = "a\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
        assert!(ExpressionTokenizer::from_vocab_str(shifted, 20).is_err());
        let missing = ExpressionTokenizer::from_vocab_file("/nowhere/vocab.txt", 20).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/vocab.txt"));
    }

    proptest! {
        #[test]
        fn any_text_gives_valid_offsets(text in "\\PC{0,60}") {
            let tokenizer = ExpressionTokenizer::from_vocab_str(&crate::synthetic::synthetic_vocab(), 20).unwrap();
            match tokenizer.encode(&text) {
                Ok(encoded) => {
                    prop_assert!(has_words(&text));
                    prop_assert_eq!(encoded.ids.len(), 20);
                    for (from, to) in encoded.offsets {
                        prop_assert!(text.get(from..to).is_some());
                    }
                }
                // nothing is left of white space and of marks without a letter, such as U+0C46
                Err(error) => {
                    prop_assert!(error.to_string().contains("empty expression"), "{}", error);
                    prop_assert!(!has_words(&text));
                    prop_assert!(!text.chars().any(|c| c.is_ascii_graphic()));
                    let with_a_letter = text.clone() + " a";
                    prop_assert!(tokenizer.encode(&with_a_letter).is_ok());
                }
            }
        }
    }
}
