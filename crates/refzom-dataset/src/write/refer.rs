//! Records as RefCOCO, Ref-ZOM and gRefCOCO write them: one annotation, a number or a list, always a list.

use std::collections::HashMap;

use super::loss::{Loss, Losses};
use crate::dataset::Format;
use crate::{Annotation, Annotations, Category, Ids, Instances, RefRecord, Sentence};

/// What gRefCOCO writes where there is no annotation, and REFER's relatives where there is no category.
const NOTHING: i64 = -1;

/// The records in the terms of `format`, which has an `instances.json`.
pub(super) fn records(
    annotations: &Annotations,
    format: Format,
    losses: &mut Losses,
) -> Vec<RefRecord> {
    let images: HashMap<i64, &str> =
        annotations.instances.images.iter().map(|i| (i.id, i.file_name.as_str())).collect();
    let categories: HashMap<i64, i64> =
        annotations.instances.annotations.iter().map(|a| (a.id, a.category_id)).collect();
    let mut out = Vec::with_capacity(annotations.records.len());
    for record in &annotations.records {
        let zero = record.is_zero();
        let ids = record.ann_id.to_vec();
        let meant = if zero { 0 } else { ids.len() };
        match (format, meant) {
            (Format::Refer, 0) => {
                losses.add(Loss::ZeroRecord, 1);
                continue;
            }
            (Format::Refer, 2..) => {
                losses.add(Loss::ManyRecord, 1);
                continue;
            }
            _ => {}
        }
        let derived = match meant {
            0 => "zero",
            1 => "one",
            _ => "many",
        };
        if format != Format::RefZom {
            let source = record.source.as_deref();
            losses.add(Loss::Source, usize::from(source.is_some_and(|s| s != derived)));
            losses.add(Loss::ZeroAnnotation, usize::from(zero && !ids.is_empty()));
        }
        let always_lists = matches!(format, Format::Grefcoco | Format::GrefcocoPickle);
        let (ann_id, category_id) = if always_lists {
            let ids = if zero { Vec::new() } else { ids };
            let kinds = each_category(record, &ids, &categories);
            (Ids::Many(or_nothing(ids)), Ids::Many(or_nothing(kinds)))
        } else {
            (number_or_list(ids), one_category(record, &categories))
        };
        let file_name = match record.file_name.as_str() {
            "" => images.get(&record.image_id).copied().unwrap_or_default().to_owned(),
            name => name.to_owned(),
        };
        let source = match (zero, record.source.as_deref()) {
            // What means nothing must say so in Ref-ZOM's word.
            (true, _) => "zero",
            (false, named) => named.unwrap_or(derived),
        };
        out.push(RefRecord {
            ref_id: record.ref_id,
            ann_id,
            image_id: record.image_id,
            category_id,
            split: record.split.clone(),
            file_name,
            sent_ids: record.sentences.iter().map(|sentence| sentence.sent_id).collect(),
            sentences: record.sentences.iter().map(complete).collect(),
            source: (format == Format::RefZom).then(|| source.to_owned()),
            no_target: always_lists.then_some(zero),
        });
    }
    out
}

fn or_nothing(ids: Vec<i64>) -> Vec<i64> {
    if ids.is_empty() { vec![NOTHING] } else { ids }
}

fn number_or_list(ids: Vec<i64>) -> Ids {
    match ids.as_slice() {
        [one] => Ids::One(*one),
        _ => Ids::Many(ids),
    }
}

/// One category an annotation: the record's own where it tells them, else the annotations'.
fn each_category(record: &RefRecord, ids: &[i64], categories: &HashMap<i64, i64>) -> Vec<i64> {
    let own = record.category_id.to_vec();
    if own.len() == ids.len() {
        return own;
    }
    let fallback = own.first().copied().unwrap_or(NOTHING);
    ids.iter().map(|id| categories.get(id).copied().unwrap_or(fallback)).collect()
}

/// A number where all are of one category, as RefCOCO and Ref-ZOM write it.
fn one_category(record: &RefRecord, categories: &HashMap<i64, i64>) -> Ids {
    let mut own = record.category_id.to_vec();
    if own.is_empty() {
        let of = |id: &i64| categories.get(id).copied();
        own = record.ann_id.to_vec().iter().filter_map(of).collect();
    }
    match own.first() {
        None => Ids::One(NOTHING),
        Some(&first) if own.iter().all(|&id| id == first) => Ids::One(first),
        Some(_) => Ids::Many(own),
    }
}

/// The sentence with its cleaned form and words, where they are missing.
fn complete(sentence: &Sentence) -> Sentence {
    let raw = if sentence.raw.is_empty() { &sentence.sent } else { &sentence.raw };
    let sent = if sentence.sent.is_empty() { cleaned(raw) } else { sentence.sent.clone() };
    let tokens = match sentence.tokens.is_empty() {
        true => sent.split_whitespace().map(str::to_owned).collect(),
        false => sentence.tokens.clone(),
    };
    Sentence { tokens, raw: raw.clone(), sent, sent_id: sentence.sent_id }
}

/// REFER's cleaning: lower case, punctuation gone, single spaces.
pub(super) fn cleaned(raw: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || matches!(c, '\'' | '-') { c } else { ' ' };
    let text: String = raw.chars().map(keep).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// Entries made up by the reader of one's own sets, with what tools for COCO expect to find: areas, boxes, categories.
pub(super) fn completed(instances: &Instances) -> Instances {
    let sizes: HashMap<i64, (u32, u32)> =
        instances.images.iter().map(|i| (i.id, (i.height, i.width))).collect();
    let annotation = |annotation: &Annotation| {
        let mut annotation = annotation.clone();
        let rle = sizes
            .get(&annotation.image_id)
            .and_then(|&(height, width)| annotation.segmentation.to_rle(height, width).ok());
        if let Some(rle) = rle
            && annotation.bbox.is_empty()
        {
            annotation.area = rle.area() as f64;
            let sides = rle.bounding_box().map(|b| [b.x, b.y, b.width, b.height]);
            annotation.bbox = sides.unwrap_or_default().map(f64::from).to_vec();
        }
        annotation
    };
    let mut out = Instances {
        images: instances.images.clone(),
        annotations: instances.annotations.iter().map(annotation).collect(),
        categories: instances.categories.clone(),
    };
    let known = |id: i64| instances.categories.iter().any(|category| category.id == id);
    if !known(0) && instances.annotations.iter().any(|a| a.category_id == 0) {
        let name = "object".to_owned();
        out.categories.push(Category { id: 0, name, supercategory: String::new() });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cleaned_as_refer_does() {
        assert_eq!(cleaned("THE  Lady, w/ the Blue shirt."), "the lady w the blue shirt");
        assert_eq!(cleaned("man's t-shirt"), "man's t-shirt");
        assert_eq!(cleaned("..."), "");
    }
}
