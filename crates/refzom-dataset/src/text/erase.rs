//! The erased expression `T'`: one noun group of the sentence hidden at random (spec §1).
//!
//! The caller hands in the generator, so the group is drawn anew for each sample and epoch and yet reproducibly.
//! The attention mask stays that of the whole expression.

use std::ops::Range;
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::expression::Encoded;
use super::tagger::{NounTagger, PerceptronTagger, TaggedWord};
use crate::DataError;

/// How words find their pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseMode {
    /// By byte ranges: all pieces of the phrase and only these.
    #[default]
    Aligned,
    /// Word index plus one, words tagged as punctuation not counted, as the release does: wrong as soon as a word before or in
    /// the phrase has several pieces. Positions beyond the expression are left alone (the release stops there).
    Released,
}

/// What is written in place of a hidden piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// `[PAD]`, id 0, as the release does.
    #[default]
    Pad,
    /// `[MASK]` with its id in the vocabulary.
    Mask(u32),
}

impl Replacement {
    fn id(self) -> u32 {
        match self {
            Replacement::Pad => 0,
            Replacement::Mask(id) => id,
        }
    }
}

/// Hides one noun group of an expression.
#[derive(Clone)]
pub struct PhraseEraser {
    tagger: Arc<dyn NounTagger>,
    mode: EraseMode,
    replacement: Replacement,
}

impl PhraseEraser {
    /// An eraser with any tagger.
    pub fn new(tagger: Arc<dyn NounTagger>, mode: EraseMode, replacement: Replacement) -> Self {
        Self { tagger, mode, replacement }
    }

    /// An eraser with the built-in tagger.
    ///
    /// # Errors
    /// As [`PerceptronTagger::masc`].
    pub fn with_builtin_tagger(
        mode: EraseMode,
        replacement: Replacement,
    ) -> Result<Self, DataError> {
        Ok(Self::new(Arc::new(PerceptronTagger::masc()?), mode, replacement))
    }

    /// Ids of `T'`: those of `encoded` with one noun group hidden, drawn uniformly among those
    /// that were not cut off. Without a noun group `T'` = `T`.
    pub fn erase(&self, expression: &str, encoded: &Encoded, rng: &mut impl Rng) -> Vec<u32> {
        let groups = self.groups(expression, encoded);
        if groups.is_empty() {
            return encoded.ids.clone();
        }
        let group = rng.random_range(0..groups.len());
        self.hide(encoded, &groups[group])
    }

    /// Every `T'` that [`Self::erase`] may return.
    pub fn erasures(&self, expression: &str, encoded: &Encoded) -> Vec<Vec<u32>> {
        self.groups(expression, encoded).iter().map(|g| self.hide(encoded, g)).collect()
    }

    fn hide(&self, encoded: &Encoded, positions: &[usize]) -> Vec<u32> {
        let mut ids = encoded.ids.clone();
        for &position in positions {
            ids[position] = self.replacement.id(); // groups() keeps them below the length
        }
        ids
    }

    /// Piece positions of each noun group.
    fn groups(&self, expression: &str, encoded: &Encoded) -> Vec<Vec<usize>> {
        let words = self.tagger.tag(expression);
        match self.mode {
            EraseMode::Aligned => {
                let phrase =
                    |run: Range<usize>| words[run.start].range.start..words[run.end - 1].range.end;
                let runs = runs(&words, |word| word.is_noun() && !word.punctuation);
                let groups = runs.into_iter().map(|run| pieces_of(&phrase(run), encoded));
                groups.filter(|pieces| !pieces.is_empty()).collect() // those cut off cannot be hidden
            }
            EraseMode::Released => {
                // TextBlob leaves words out by their tag: a `%` tagged as a noun counts.
                let mut words = words;
                words.retain(|word| !word.tag.starts_with(|c: char| c.is_ascii_punctuation()));
                words.truncate(encoded.ids.len().saturating_sub(1));
                let real = encoded.attention.iter().filter(|&&a| a == 1).count();
                let positions =
                    |run: Range<usize>| run.map(|word| word + 1).filter(|&p| p < real).collect();
                runs(&words, TaggedWord::is_noun).into_iter().map(positions).collect()
            }
        }
    }
}

impl std::fmt::Debug for PhraseEraser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PhraseEraser")
            .field("mode", &self.mode)
            .field("replacement", &self.replacement)
            .finish_non_exhaustive()
    }
}

/// Maximal runs of nouns.
fn runs(words: &[TaggedWord], is_noun: impl Fn(&TaggedWord) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for i in (0..words.len()).filter(|&i| is_noun(&words[i])) {
        match runs.last_mut().filter(|run| run.end == i) {
            Some(run) => run.end = i + 1,
            None => runs.push(i..i + 1),
        }
    }
    runs
}

/// Positions of the pieces that overlap a byte range.
fn pieces_of(phrase: &Range<usize>, encoded: &Encoded) -> Vec<usize> {
    let inside = |&(_, &(from, to)): &(usize, &(usize, usize))| {
        from < to && from < phrase.end && to > phrase.start
    };
    encoded.offsets.iter().enumerate().filter(inside).map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::expression::ExpressionTokenizer;
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn pieces(tokenizer: &ExpressionTokenizer, before: &[u32], after: &[u32]) -> Vec<String> {
        let hidden = before.iter().zip(after).filter(|(a, b)| a != b);
        hidden.map(|(a, _)| tokenizer.piece(*a).unwrap()).collect()
    }

    #[test]
    fn aligned_hides_whole_phrases_and_nothing_else() {
        let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
        let eraser = PhraseEraser::with_builtin_tagger(
            EraseMode::Aligned,
            Replacement::Mask(tokenizer.mask_id()),
        )
        .unwrap();
        let text = "the fire hydrant's skateboarder, umbrella";
        let encoded = tokenizer.encode(text).unwrap();
        let erased = eraser.erasures(text, &encoded);
        let hidden: Vec<String> =
            erased.iter().map(|ids| pieces(&tokenizer, &encoded.ids, ids).join(" ")).collect();
        assert_eq!(hidden, ["fire hydra ##nt", "skate ##board ##er", "umbrella"]);
        assert!(erased.iter().all(|ids| ids.contains(&103)));
    }

    #[test]
    fn draws_are_seeded_and_vary() {
        let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
        let eraser =
            PhraseEraser::with_builtin_tagger(EraseMode::Aligned, Replacement::Pad).unwrap();
        let text = "man with umbrella on the left of the bench";
        let encoded = tokenizer.encode(text).unwrap();
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..40).map(|_| eraser.erase(text, &encoded, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        let mut seen = draw(1);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), eraser.erasures(text, &encoded).len());
        assert!(seen.len() >= 3);
    }

    #[test]
    fn without_a_noun_nothing_is_hidden() {
        let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for mode in [EraseMode::Aligned, EraseMode::Released] {
            let eraser = PhraseEraser::with_builtin_tagger(mode, Replacement::Pad).unwrap();
            for text in ["left", "?!", "he is"] {
                let encoded = tokenizer.encode(text).unwrap();
                if eraser.erasures(text, &encoded).is_empty() {
                    assert_eq!(eraser.erase(text, &encoded, &mut rng), encoded.ids);
                }
            }
            let long = "dog and cat ".repeat(200);
            let encoded = tokenizer.encode(&long).unwrap();
            for _ in 0..50 {
                assert_eq!(eraser.erase(&long, &encoded, &mut rng).len(), 20);
            }
        }
    }
}
