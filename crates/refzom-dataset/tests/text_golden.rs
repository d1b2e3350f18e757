//! Token ids, attention and released erasures of 200 expressions against the official tokenizer (g7).
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use refzom_dataset::text::{
    EraseMode, ExpressionTokenizer, NounTagger, PhraseEraser, Replacement, TaggedWord,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    text: String,
    input_ids: Vec<u32>,
    attention: Vec<u8>,
    tags: Vec<(String, String)>,
    masked_ids_per_group: Vec<Masked>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Masked {
    Ids(Vec<u32>),
    #[allow(dead_code)]
    Error(String),
}

fn golden() -> Vec<Record> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/g7_text.json");
    serde_json::from_slice::<Golden>(&std::fs::read(path).unwrap()).unwrap().records
}

#[test]
fn ids_and_attention_equal_the_official_tokenizer() {
    let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for record in golden() {
        match tokenizer.encode(&record.text) {
            Ok(encoded) => {
                checked += 1;
                if encoded.ids != record.input_ids || encoded.attention != record.attention {
                    wrong.push(format!(
                        "{:?}\n  {:?}\n  {:?}",
                        record.text, encoded.ids, record.input_ids
                    ));
                }
            }
            // the release encodes nothing as [CLS] [SEP]; here it is an error
            Err(_) => assert_eq!(record.input_ids[..3], [101, 102, 0], "{:?}", record.text),
        }
    }
    assert!(wrong.is_empty(), "{} wrong of {checked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 190, "{checked}");
}

/// Gives back the reference's own tags, so that only the erasing is compared.
struct Recorded(Vec<(String, String)>);

impl NounTagger for Recorded {
    fn tag(&self, _: &str) -> Vec<TaggedWord> {
        self.0
            .iter()
            .map(|(word, tag)| TaggedWord {
                range: 0..0,
                tag: tag.clone(),
                punctuation: !word.contains(char::is_alphanumeric),
            })
            .collect()
    }
}

#[test]
fn released_erasing_equals_the_official_code() {
    let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
    let mut compared = 0;
    for record in golden() {
        let Ok(encoded) = tokenizer.encode(&record.text) else { continue };
        let eraser = PhraseEraser::new(
            Arc::new(Recorded(record.tags)),
            EraseMode::Released,
            Replacement::Pad,
        );
        let mut ours = eraser.erasures(&record.text, &encoded);
        if ours.is_empty() {
            ours.push(encoded.ids.clone());
        }
        assert_eq!(ours.len(), record.masked_ids_per_group.len(), "{}", record.text);
        for (ours, theirs) in ours.iter().zip(&record.masked_ids_per_group) {
            if let Masked::Ids(theirs) = theirs {
                compared += 1;
                assert_eq!(ours, theirs, "{}", record.text);
            }
        }
    }
    assert!(compared > 300, "{compared}");
}
