//! Records and entries: ids, what they point at, what they say about themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use super::Fault;
use super::report::Chart;
use crate::dataset::ImageFinder;
use crate::mask::check_extent;
use crate::{Annotation, Annotations, ImageEntry, RefRecord, RejectReason};

/// Values of `source` whose meaning is known: Ref-ZOM's `zero`, and the other two by their names.
const SOURCES: [&str; 3] = ["zero", "one", "many"];

/// What the later checks build upon.
pub(super) struct State<'a> {
    /// Images by id.
    pub(super) images: HashMap<i64, &'a ImageEntry>,
    /// Annotations by id.
    pub(super) outlines: HashMap<i64, &'a Annotation>,
    /// Image files that records need, by image id; those that do not exist are left out.
    pub(super) files: BTreeMap<i64, (PathBuf, &'a ImageEntry)>,
    /// A record each: whether training can use it.
    pub(super) usable: Vec<bool>,
}

/// `reference 7 (image 579003)`.
pub(super) fn name(record: &RefRecord) -> String {
    format!("reference {} (image {})", record.ref_id, record.image_id)
}

/// The annotations a record means, each once; none if it says that nothing is meant.
pub(super) fn targets(record: &RefRecord) -> Vec<i64> {
    let mut ids = if record.is_zero() { Vec::new() } else { record.ann_id.to_vec() };
    ids.sort_unstable();
    ids.dedup();
    ids
}

pub(super) fn check<'a>(annotations: &'a Annotations, chart: &mut Chart) -> State<'a> {
    let instances = &annotations.instances;
    let mut images = HashMap::with_capacity(instances.images.len());
    for image in &instances.images {
        if images.insert(image.id, image).is_some() {
            chart
                .add(Fault::DuplicateImageId, || format!("image {} {}", image.id, image.file_name));
        }
    }
    let mut outlines = HashMap::with_capacity(instances.annotations.len());
    for annotation in &instances.annotations {
        if outlines.insert(annotation.id, annotation).is_some() {
            chart.add(Fault::DuplicateAnnotationId, || {
                format!("annotation {} (image {})", annotation.id, annotation.image_id)
            });
        }
    }
    let mut state = State { images, outlines, files: BTreeMap::new(), usable: Vec::new() };
    let (mut references, mut sentences) = (HashSet::new(), HashSet::new());
    let mut used: BTreeMap<i64, (Vec<&RefRecord>, Vec<usize>)> = BTreeMap::new();
    for (at, record) in annotations.records.iter().enumerate() {
        if !references.insert(record.ref_id) {
            chart.add(Fault::DuplicateReferenceId, || name(record));
        }
        for sentence in &record.sentences {
            if !sentences.insert(sentence.sent_id) {
                chart.add(Fault::DuplicateSentenceId, || {
                    format!("sentence {} of {}", sentence.sent_id, name(record))
                });
            }
        }
        words_about_itself(record, chart);
        let mut usable = pointers(record, &state, chart);
        if record.sentences.is_empty() {
            chart.add(Fault::NoSentence, || name(record));
            usable = false;
        }
        state.usable.push(usable);
        let (users, places) = used.entry(record.image_id).or_default();
        users.push(record);
        places.push(at);
    }
    let mut finder = ImageFinder::new(annotations.images.clone());
    for (id, (users, places)) in used {
        let Some(image) = state.images.get(&id).copied() else { continue };
        if !image_file(image, &users, &mut finder, &mut state, chart) {
            places.iter().for_each(|&at| state.usable[at] = false);
        }
    }
    let named: HashSet<i64> = annotations.records.iter().map(|r| r.image_id).collect();
    for image in instances.images.iter().filter(|image| !named.contains(&image.id)) {
        chart.add(Fault::UnusedImage, || format!("image {} {}", image.id, image.file_name));
    }
    state
}

/// What a record says about itself: split, source, ids of its sentences.
fn words_about_itself(record: &RefRecord, chart: &mut Chart) {
    let split = record.split.as_str();
    if !is_asked_for(split) {
        chart.add(Fault::UnknownSplit, || format!("{split:?} of {}", name(record)));
    }
    let named = record.ann_id.to_vec();
    if let Some(source) = record.source.as_deref() {
        if source != "zero" && is_like_zero(source) {
            chart.add(Fault::MisspeltSource, || format!("{source:?} of {}", name(record)));
        } else if !SOURCES.contains(&source) {
            chart.add(Fault::UnknownSource, || format!("{source:?} of {}", name(record)));
        }
    }
    let says_zero = record.source.as_deref() == Some("zero") || record.no_target == Some(true);
    let says_target = record.source.as_deref().is_some_and(|s| s != "zero" && !is_like_zero(s))
        || record.no_target == Some(false);
    if says_zero && !named.is_empty() {
        chart.add(Fault::ZeroWithTarget, || format!("annotation {} of {}", named[0], name(record)));
    } else if says_target && !says_zero && named.is_empty() {
        chart.add(Fault::TargetWithoutAnnotation, || {
            let word = record.source.as_deref().unwrap_or("no_target = false");
            format!("{word:?} of {}", name(record))
        });
    }
    let ids: Vec<i64> = record.sentences.iter().map(|sentence| sentence.sent_id).collect();
    if !record.sent_ids.is_empty() && record.sent_ids != ids {
        chart.add(Fault::SentenceIdsDiffer, || name(record));
    }
}

/// Whether a split has a name by which training or testing asks for it.
fn is_asked_for(split: &str) -> bool {
    matches!(split, "train" | "val") || split.contains("test")
}

/// Whether someone may have meant `zero`.
fn is_like_zero(source: &str) -> bool {
    let source = source.trim().to_ascii_lowercase();
    let words = ["zero", "zeros", "zeroes", "zreo", "zer0", "0", "none", "null", "no_target"];
    words.contains(&source.as_str())
}

/// Whether image entry and annotations exist and belong together.
fn pointers(record: &RefRecord, state: &State<'_>, chart: &mut Chart) -> bool {
    let mut sound = true;
    if !state.images.contains_key(&record.image_id) {
        chart.add(Fault::MissingImageEntry, || name(record));
        sound = false;
    }
    for id in targets(record) {
        match state.outlines.get(&id) {
            None => {
                chart.add(Fault::MissingAnnotation, || {
                    format!("annotation {id} of {}", name(record))
                });
                sound = false;
            }
            Some(annotation) if annotation.image_id != record.image_id => {
                chart.add(Fault::AnnotationOfOtherImage, || {
                    let other = annotation.image_id;
                    format!("annotation {id} of {} lies in image {other}", name(record))
                });
                sound = false;
            }
            Some(_) => {}
        }
    }
    sound
}

/// Whether the image of these records can be looked for and is found.
fn image_file<'a>(
    image: &'a ImageEntry,
    users: &[&RefRecord],
    finder: &mut ImageFinder,
    state: &mut State<'a>,
    chart: &mut Chart,
) -> bool {
    let of = |records: usize| match records {
        1 => "1 record".to_owned(),
        n => format!("{n} records"),
    };
    let mut sound = true;
    if let Err(message) = check_extent(image.height, image.width) {
        chart.add(Fault::BadImageSize, || format!("image {}: {message}", image.id));
        sound = false;
    }
    let recorded = users.first().map_or("", |record| record.file_name.as_str());
    match finder.find(&image.file_name, recorded) {
        Ok(path) => {
            if sound {
                state.files.insert(image.id, (path, image));
            }
        }
        Err(reason) => {
            let fault = match reason {
                RejectReason::UnsafeFileName(_) => Fault::UnsafeImageName,
                _ => Fault::MissingImageFile,
            };
            chart.add(fault, || match &reason {
                RejectReason::MissingImageFile(path) => {
                    format!("{} (image {}), of {}", path.display(), image.id, of(users.len()))
                }
                other => format!("image {}: {other}, of {}", image.id, of(users.len())),
            });
            sound = false;
        }
    }
    sound
}

/// Splits that hold records, but none that training can use.
pub(super) fn empty_splits(annotations: &Annotations, state: &State<'_>, chart: &mut Chart) {
    let all: BTreeSet<&str> = annotations.records.iter().map(|r| r.split.as_str()).collect();
    let usable: BTreeSet<&str> = annotations
        .records
        .iter()
        .zip(&state.usable)
        .filter(|(_, usable)| **usable)
        .map(|(record, _)| record.split.as_str())
        .collect();
    for split in all.difference(&usable) {
        chart.add(Fault::EmptySplit, || format!("{split:?}"));
    }
    if all.is_empty() {
        chart.add(Fault::EmptySplit, || "there is no record at all".to_owned());
    }
}

/// Splits of names that nobody asks for where there is none to train on. A set to test on is none of them.
pub(super) fn train_split(annotations: &Annotations, chart: &mut Chart) {
    let splits = annotations.splits();
    if splits.contains_key("train") || splits.keys().all(|split| is_asked_for(split)) {
        return;
    }
    chart.add(Fault::NoTrainSplit, || {
        let has: Vec<String> =
            splits.iter().map(|(split, records)| format!("{split:?} ({records})")).collect();
        format!("there is only {}", has.join(", "))
    });
}
