//! Expressions: ids and attention of the release's tokenizer, its erasures for given tags, and how far the built-in tagger
//! agrees with TextBlob (golden cases g7_text and textblob_tags).

use std::sync::Arc;

use anyhow::Result;
use refzom_dataset::{
    EraseMode, ExpressionTokenizer, NounTagger, PerceptronTagger, PhraseEraser, Replacement,
    TaggedWord,
};
use serde::Deserialize;
use serde_json::Value;

use super::same;
use crate::golden::Golden;
use crate::report::Report;

/// Below this the built-in tagger would be broken; its weights are not TextBlob's, so 1 cannot be asked for.
const F1: f64 = 0.90;

#[derive(Deserialize)]
struct Record {
    text: String,
    input_ids: Vec<u32>,
    attention: Vec<u8>,
    #[serde(default)]
    tags: Vec<(String, String)>,
    #[serde(default)]
    masked_ids_per_group: Vec<Value>,
}

/// Gives back the reference's own tags, so that only the erasing is compared.
struct Recorded(Vec<(String, String)>);

impl NounTagger for Recorded {
    fn tag(&self, _: &str) -> Vec<TaggedWord> {
        let word = |(_, tag): &(String, String)| TaggedWord {
            range: 0..0,
            tag: tag.clone(),
            punctuation: false,
        };
        self.0.iter().map(word).collect()
    }
}

/// Judges tokenizer and eraser.
pub(crate) fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    for (i, record) in golden.part::<Vec<Record>>("/records")?.into_iter().enumerate() {
        let shown: String = record.text.chars().take(40).collect();
        let name = format!("{i} {shown:?}");
        let tokenizer = ExpressionTokenizer::bert_base_uncased(record.input_ids.len().max(3))?;
        let Ok(encoded) = tokenizer.encode(&record.text) else {
            // The release encodes nothing as [CLS] [SEP]; here it is an error.
            let nothing = record.input_ids.starts_with(&[101, 102, 0]);
            same(report, &format!("{name} is nothing"), true, nothing);
            continue;
        };
        same(report, &format!("{name} ids"), &encoded.ids, &record.input_ids);
        same(report, &format!("{name} attention"), &encoded.attention, &record.attention);
        if record.masked_ids_per_group.is_empty() {
            continue;
        }
        let tagger = Arc::new(Recorded(record.tags));
        let eraser = PhraseEraser::new(tagger, EraseMode::Released, Replacement::Pad);
        let mut ours = eraser.erasures(&record.text, &encoded);
        if ours.is_empty() {
            ours.push(encoded.ids.clone());
        }
        same(report, &format!("{name} noun groups"), ours.len(), record.masked_ids_per_group.len());
        for (k, (ours, theirs)) in ours.iter().zip(&record.masked_ids_per_group).enumerate() {
            // Where the release raises, there is nothing to compare.
            if let Ok(theirs) = Vec::<u32>::deserialize(theirs) {
                same(report, &format!("{name} erased {k}"), ours, &theirs);
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Tagged {
    tokens_tags: Vec<(String, String)>,
}

/// Judges the built-in tagger on TextBlob's words: one minus the F1 of nouns and of noun groups.
pub(crate) fn run_tags(golden: &Golden, report: &mut Report) -> Result<()> {
    let tagger = PerceptronTagger::masc()?;
    let noun = |tag: &str| tag == "NN" || tag == "NNS";
    let (mut words, mut groups) = ([0usize; 3], [0usize; 3]);
    for record in golden.part::<Vec<Tagged>>("")? {
        let text: Vec<&str> = record.tokens_tags.iter().map(|(word, _)| word.as_str()).collect();
        let ours: Vec<bool> = tagger.tag_words(&text).into_iter().map(noun).collect();
        let theirs: Vec<bool> = record.tokens_tags.iter().map(|(_, tag)| noun(tag)).collect();
        let count = |bits: &[bool]| bits.iter().filter(|&&bit| bit).count();
        let both = ours.iter().zip(&theirs).filter(|(a, b)| **a && **b).count();
        for (sum, more) in words.iter_mut().zip([both, count(&ours), count(&theirs)]) {
            *sum += more;
        }
        let (ours, theirs) = (runs(&ours), runs(&theirs));
        let both = ours.iter().filter(|run| theirs.contains(run)).count();
        for (sum, more) in groups.iter_mut().zip([both, ours.len(), theirs.len()]) {
            *sum += more;
        }
    }
    let f1 = |[both, ours, theirs]: [usize; 3]| 2.0 * both as f64 / (ours + theirs).max(1) as f64;
    report.judge("nouns, 1 - F1", 1.0 - f1(words), 1.0 - F1);
    report.judge("noun groups, 1 - F1", 1.0 - f1(groups), 1.0 - F1 + 0.1);
    Ok(())
}

/// Maximal runs of nouns as (first, end).
fn runs(nouns: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for i in (0..nouns.len()).filter(|&i| nouns[i]) {
        match runs.last_mut().filter(|run| run.1 == i) {
            Some(run) => run.1 = i + 1,
            None => runs.push((i, i + 1)),
        }
    }
    runs
}
