//! Which words are nouns: an averaged perceptron tagger with built-in weights.
//!
//! The algorithm and its features are those of the tagger behind NLTK and TextBlob (Honnibal 2013), which the
//! release uses; the built-in weights are trained on the open MASC corpus, as NLTK's own have no clear licence.
//! NLTK's own can be loaded with [`PerceptronTagger::from_file`] for exact parity.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use super::words::split_words;
use crate::DataError;

/// A word with its part of speech.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedWord {
    /// Bytes of the expression.
    pub range: Range<usize>,
    /// Penn Treebank tag.
    pub tag: String,
    /// Whether it holds no letter or digit.
    pub punctuation: bool,
}

impl TaggedWord {
    /// A common noun, singular or plural. DMMI hides runs of these.
    pub fn is_noun(&self) -> bool {
        matches!(self.tag.as_str(), "NN" | "NNS")
    }
}

/// Finds the nouns of an expression; implement it to bring another tagger.
pub trait NounTagger: Send + Sync {
    /// The words of the expression in order.
    fn tag(&self, expression: &str) -> Vec<TaggedWord>;
}

/// Averaged perceptron over words, affixes and the two tags before.
#[derive(Clone, Debug)]
pub struct PerceptronTagger {
    weights: HashMap<String, Vec<(u16, f64)>>,
    frequent: HashMap<String, u16>,
    classes: Vec<String>,
}

/// `[weights, tagdict, classes]`
pub(super) type Stored =
    (HashMap<String, HashMap<String, f64>>, HashMap<String, String>, Vec<String>);

impl PerceptronTagger {
    /// The built-in weights (MASC, pruned; 0.5 MB).
    ///
    /// # Errors
    /// None in a sound build.
    pub fn masc() -> Result<Self, DataError> {
        let packed: &[u8] = include_bytes!("../../assets/masc_perceptron_pruned.json.gz");
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut json).map_err(|e| {
            DataError::Text(format!("the built-in tagger weights are damaged: {e}"))
        })?;
        Self::from_json(&json)
    }

    /// Weights as `[weights, tagdict, classes]`.
    ///
    /// # Errors
    /// The bytes are not of that form.
    pub fn from_json(json: &[u8]) -> Result<Self, DataError> {
        Self::from_stored(serde_json::from_slice(json).map_err(|e| {
            DataError::Text(format!(
                "tagger weights are not json of [weights, tagdict, classes]: {e}"
            ))
        })?)
    }

    pub(super) fn from_stored(stored: Stored) -> Result<Self, DataError> {
        let (weights, frequent, mut classes) = stored;
        classes.sort();
        classes.dedup();
        let index = |tag: &str| {
            let unknown = || {
                DataError::Text(format!(
                    "tagger weights use the tag {tag:?}, which their classes lack"
                ))
            };
            classes
                .binary_search_by(|c| c.as_str().cmp(tag))
                .map(|i| i as u16)
                .map_err(|_| unknown())
        };
        let mut table = HashMap::with_capacity(weights.len());
        for (feature, by_tag) in &weights {
            let mut row = by_tag
                .iter()
                .map(|(t, w)| Ok((index(t)?, *w)))
                .collect::<Result<Vec<_>, DataError>>()?;
            row.sort_by_key(|(class, _)| *class);
            table.insert(feature.clone(), row);
        }
        let frequent = frequent
            .into_iter()
            .map(|(w, t)| Ok((w, index(&t)?)))
            .collect::<Result<_, DataError>>()?;
        if classes.is_empty() {
            return Err(DataError::Text("tagger weights without classes".into()));
        }
        Ok(Self { weights: table, frequent, classes })
    }

    /// Tags of a list of words.
    pub fn tag_words(&self, words: &[&str]) -> Vec<&str> {
        let mut context: Vec<String> = vec!["-START-".into(), "-START2-".into()];
        context.extend(words.iter().map(|w| normalize(w)));
        context.extend(["-END-".into(), "-END2-".into()]);
        let (mut before, mut before2) = ("-START-", "-START2-");
        let mut tags = Vec::with_capacity(words.len());
        for (i, word) in words.iter().enumerate() {
            let class = match self.frequent.get(*word) {
                Some(class) => *class as usize,
                None => self.predict(word, &context[i..i + 5], before, before2),
            };
            let tag = self.classes[class].as_str();
            (before2, before) = (before, tag);
            tags.push(tag);
        }
        tags
    }

    /// `context`: the normalised word between its two neighbours on each side.
    fn predict(&self, word: &str, context: &[String], before: &str, before2: &str) -> usize {
        let here = context[2].as_str();
        let mut scores = vec![0f64; self.classes.len()];
        let mut add = |feature: &str| {
            for (class, weight) in self.weights.get(feature).into_iter().flatten() {
                scores[*class as usize] += weight;
            }
        };
        add("bias");
        add(&format!("i suffix {}", suffix(word)));
        add(&format!("i pref1 {}", word.chars().next().map(String::from).unwrap_or_default()));
        add(&format!("i-1 tag {before}"));
        add(&format!("i-2 tag {before2}"));
        add(&format!("i tag+i-2 tag {before} {before2}"));
        add(&format!("i word {here}"));
        add(&format!("i-1 tag+i word {before} {here}"));
        add(&format!("i-1 word {}", context[1]));
        add(&format!("i-1 suffix {}", suffix(&context[1])));
        add(&format!("i-2 word {}", context[0]));
        add(&format!("i+1 word {}", context[3]));
        add(&format!("i+1 suffix {}", suffix(&context[3])));
        add(&format!("i+2 word {}", context[4]));
        // the later class wins a tie, as in NLTK
        let mut best = 0;
        for (class, score) in scores.iter().enumerate() {
            if *score >= scores[best] {
                best = class;
            }
        }
        best
    }
}

impl NounTagger for PerceptronTagger {
    fn tag(&self, expression: &str) -> Vec<TaggedWord> {
        let ranges = split_words(expression);
        let lower: Vec<String> =
            ranges.iter().map(|r| expression[r.clone()].to_lowercase()).collect();
        let words: Vec<&str> = lower.iter().map(String::as_str).collect();
        let tags = self.tag_words(&words);
        let tagged = ranges.into_iter().zip(words).zip(tags);
        tagged
            .map(|((range, word), tag)| TaggedWord {
                range,
                tag: tag.to_owned(),
                punctuation: !word.contains(char::is_alphanumeric),
            })
            .collect()
    }
}

/// The last three characters.
fn suffix(word: &str) -> &str {
    word.char_indices().rev().nth(2).map_or(word, |(at, _)| &word[at..])
}

/// Lower case, with stand-ins for hyphenated words, years and numbers.
fn normalize(word: &str) -> String {
    if word.contains('-') && !word.starts_with('-') {
        "!HYPHEN".into()
    } else if word.chars().all(|c| c.is_ascii_digit()) && word.len() == 4 {
        "!YEAR".into()
    } else if word.starts_with(|c: char| c.is_ascii_digit()) {
        "!DIGITS".into()
    } else {
        word.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(serde::Deserialize)]
    struct Reference {
        expr: String,
        tokens_tags: Vec<(String, String)>,
    }

    fn reference() -> Vec<Reference> {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/vectors/textblob_tags.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn nouns_agree_with_textblob() {
        let tagger = PerceptronTagger::masc().unwrap();
        let noun = |tag: &str| tag == "NN" || tag == "NNS";
        let (mut both, mut ours, mut theirs, mut same) = (0usize, 0usize, 0usize, 0usize);
        let reference = reference();
        for record in &reference {
            let words: Vec<&str> = record.tokens_tags.iter().map(|(w, _)| w.as_str()).collect();
            for (tag, (_, expected)) in
                tagger.tag_words(&words).into_iter().zip(&record.tokens_tags)
            {
                ours += usize::from(noun(tag));
                theirs += usize::from(noun(expected));
                both += usize::from(noun(tag) && noun(expected));
            }
            let split: Vec<String> = split_words(&record.expr)
                .into_iter()
                .map(|r| record.expr[r].to_lowercase())
                .collect();
            same += usize::from(split == words);
        }
        let f1 = 2.0 * both as f64 / (ours + theirs) as f64;
        let share = same as f64 / reference.len() as f64;
        // measured: F1 0.9131, the same words in 99.67 % of 1,525 expressions
        assert!(f1 >= 0.91, "{f1}");
        assert!(share >= 0.99, "{share}");
    }

    #[test]
    fn features_of_odd_words() {
        assert_eq!((suffix("ab"), suffix("abcd"), suffix("crème")), ("ab", "bcd", "ème"));
        assert_eq!(
            (normalize("old-fashioned").as_str(), normalize("-").as_str()),
            ("!HYPHEN", "-")
        );
        assert_eq!((normalize("1999").as_str(), normalize("2nd").as_str()), ("!YEAR", "!DIGITS"));
        let tagger = PerceptronTagger::masc().unwrap();
        assert!(tagger.tag("").is_empty());
        assert_eq!(tagger.tag("こんにちは 👋").len(), 2);
        assert!(PerceptronTagger::from_json(b"[{}, {}, []]").is_err());
        assert!(PerceptronTagger::from_json(br#"[{"bias": {"NN": 1.0}}, {}, ["JJ"]]"#).is_err());
    }
}
