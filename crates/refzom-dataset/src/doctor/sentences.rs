//! Sentences: empty, endless, cut off by the model, repeated, or contradicting each other.

use std::collections::HashMap;

use super::Fault;
use super::records::{State, name, targets};
use super::report::Chart;
use crate::dataset::MAX_EXPRESSION;
use crate::text::has_words;
use crate::{Annotations, DataError, ExpressionTokenizer, RefRecord, Segmentation};

pub(super) fn check(
    annotations: &Annotations,
    max_pieces: usize,
    state: &mut State<'_>,
    chart: &mut Chart,
    progress: &mut impl FnMut(&'static str, usize, usize),
) -> Result<(), DataError> {
    let tokenizer = ExpressionTokenizer::bert_base_uncased(max_pieces)?;
    let total = annotations.records.len();
    let mut seen: HashMap<(i64, String), Vec<&RefRecord>> = HashMap::new();
    for (at, record) in annotations.records.iter().enumerate() {
        progress("sentences", at, total);
        let mut left = 0;
        for sentence in &record.sentences {
            let raw = sentence.raw.trim();
            let expression = if raw.is_empty() { sentence.sent.trim() } else { raw };
            let of = || format!("sentence {} of {}", sentence.sent_id, name(record));
            let length = expression.chars().count();
            if length > MAX_EXPRESSION {
                chart.add(Fault::EndlessExpression, || format!("{}: {length} characters", of()));
                continue;
            }
            if !has_words(expression) {
                chart.add(Fault::EmptyExpression, of);
                continue;
            }
            left += 1;
            if tokenizer.encode(expression).is_ok_and(|encoded| encoded.truncated) {
                chart.add(Fault::CutExpression, || format!("{}: {expression:?}", of()));
            }
            let words: Vec<&str> = expression.split_whitespace().collect();
            let before = seen.entry((record.image_id, words.join(" ").to_lowercase())).or_default();
            if let Some(other) = before.iter().find(|other| !same_target(other, record, state)) {
                chart.add(Fault::Contradiction, || {
                    let both = format!("references {} and {}", other.ref_id, record.ref_id);
                    format!("{expression:?} of image {}: {both}", record.image_id)
                });
            } else if !before.is_empty() {
                chart.add(Fault::RepeatedSentence, || format!("{}: {expression:?}", of()));
            }
            before.push(record);
        }
        if left == 0 {
            state.usable[at] = false;
        }
    }
    progress("sentences", total, total);
    Ok(())
}

/// Whether two records of one image mean the same: by annotation, or by outline where ids were given anew.
fn same_target(a: &RefRecord, b: &RefRecord, state: &State<'_>) -> bool {
    let (a, b) = (targets(a), targets(b));
    if a == b {
        return true;
    }
    let outline = |id: &i64| state.outlines.get(id).map(|annotation| &annotation.segmentation);
    let same = |(a, b): (&i64, &i64)| -> bool {
        let (a, b): (Option<&Segmentation>, Option<&Segmentation>) = (outline(a), outline(b));
        a.is_some() && a == b
    };
    a.len() == b.len() && a.iter().zip(&b).all(same)
}
