//! How much of what a data set holds: the table of Ref-ZOM's paper (spec section 10) for any data set.
//!
//! An *expression* is a sentence about an image, an *object* an annotation that at least one expression means, a *reference*
//! a record of the file (one region with its sentences). Images and objects are counted once, however often they occur.

mod histogram;
mod text;

pub use histogram::{Bin, Distribution};

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::{DataError, Dataset, Sample, TargetKind};

/// Upper ends, in per cent of the image, of the bins of [`Statistics::area_share`].
const AREA_ENDS: [f64; 8] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// Words, and targets, beyond which expressions share one bin.
const MOST_WORDS: usize = 20;
const MOST_TARGETS: usize = 9;

/// Counts of one part of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Different images.
    pub images: usize,
    /// Different annotations that are meant by an expression.
    pub objects: usize,
    /// Different records.
    pub references: usize,
    /// Sentences.
    pub expressions: usize,
    /// Sentences that mean nothing in their image.
    pub zero: usize,
    /// Sentences that mean one object.
    pub one: usize,
    /// Sentences that mean several objects.
    pub many: usize,
}

impl Tally {
    fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Self {
        let mut tally = Self::default();
        let (mut images, mut objects) = (BTreeSet::new(), BTreeSet::new());
        let mut references = BTreeSet::new();
        for sample in samples {
            images.insert(sample.image_id);
            objects.extend(sample.annotation_ids.iter().copied());
            references.insert(sample.ref_id);
            tally.expressions += 1;
            match sample.kind {
                TargetKind::Zero => tally.zero += 1,
                TargetKind::One => tally.one += 1,
                TargetKind::Many => tally.many += 1,
            }
        }
        Self { images: images.len(), objects: objects.len(), references: references.len(), ..tally }
    }
}

/// Counts and distributions of a data set. [`std::fmt::Display`] draws them as text, serde writes them as json.
#[derive(Clone, Debug, Serialize)]
pub struct Statistics {
    /// Everything.
    pub all: Tally,
    /// By split, as the file names them: train, val and test first.
    pub splits: Vec<(String, Tally)>,
    /// By number of targets.
    pub kinds: BTreeMap<TargetKind, Tally>,
    /// Expressions by `source`, where the file has one.
    pub sources: BTreeMap<String, usize>,
    /// Words (split at white space) of an expression.
    pub words: Distribution,
    /// Different words, in lower case.
    pub vocabulary: usize,
    /// Objects that an expression means.
    pub targets: Distribution,
    /// Per cent of the image that a targeted expression means.
    pub area_share: Distribution,
}

impl Statistics {
    /// Counts `dataset`; `progress` hears how many expressions are done.
    ///
    /// # Errors
    /// An outline cannot be drawn; [`Dataset::load`] has left such samples out.
    pub fn of(dataset: &Dataset, mut progress: impl FnMut(usize)) -> Result<Self, DataError> {
        let samples = dataset.samples();
        let mut splits: Vec<&str> = samples.iter().map(|s| s.split.as_str()).collect();
        splits.sort_by_key(|name| (split_rank(name), *name));
        splits.dedup();
        let kinds = [TargetKind::Zero, TargetKind::One, TargetKind::Many];

        let mut sources = BTreeMap::new();
        let mut vocabulary = BTreeSet::new();
        let (mut words, mut targets, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        let mut drawn: HashMap<&[i64], f64> = HashMap::new();
        for (at, sample) in samples.iter().enumerate() {
            if let Some(source) = &sample.source {
                *sources.entry(source.clone()).or_insert(0) += 1;
            }
            words.push(sample.expression.split_whitespace().count() as f64);
            vocabulary.extend(sample.expression.split_whitespace().map(str::to_lowercase));
            targets.push(sample.annotation_ids.len() as f64);
            if sample.kind.has_target() {
                // Sentences of one region share its outlines: they are drawn once.
                let share = match drawn.get(sample.annotation_ids.as_slice()) {
                    Some(&share) => share,
                    None => {
                        let share = area_share(sample)?;
                        drawn.insert(&sample.annotation_ids, share);
                        share
                    }
                };
                shares.push(share);
            }
            progress(at + 1);
        }
        let of_split = |name: &str| Tally::of(samples.iter().filter(|s| s.split == name));
        Ok(Self {
            all: Tally::of(samples.iter()),
            splits: splits.into_iter().map(|name| (name.to_owned(), of_split(name))).collect(),
            kinds: kinds
                .into_iter()
                .map(|kind| (kind, Tally::of(samples.iter().filter(|s| s.kind == kind))))
                .collect(),
            sources,
            words: Distribution::of_whole_numbers(words, 1, MOST_WORDS),
            vocabulary: vocabulary.len(),
            targets: Distribution::of_whole_numbers(targets, 0, MOST_TARGETS),
            area_share: Distribution::of_shares(shares, &AREA_ENDS),
        })
    }
}

/// Per cent of the image.
fn area_share(sample: &Sample) -> Result<f64, DataError> {
    let pixels = f64::from(sample.height) * f64::from(sample.width);
    Ok(100.0 * sample.rle()?.area() as f64 / pixels)
}

/// Order in which splits are listed.
pub(crate) fn split_rank(name: &str) -> usize {
    let known = ["train", "val", "test"];
    known.iter().position(|start| name.starts_with(start)).unwrap_or(known.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{DatasetConfig, TargetKind};

    fn coco33() -> Dataset {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33");
        let cfg = DatasetConfig::new(dir, "all").with_refs("refs(final).p");
        Dataset::load(&cfg).unwrap().0
    }

    #[test]
    fn parts_add_up() {
        let dataset = coco33();
        let mut heard = 0;
        let stats = Statistics::of(&dataset, |done| heard = done).unwrap();
        assert_eq!(heard, dataset.len());
        let sum =
            |pick: fn(&Tally) -> usize| stats.splits.iter().map(|(_, t)| pick(t)).sum::<usize>();
        assert_eq!(sum(|t| t.expressions), stats.all.expressions);
        assert_eq!(sum(|t| t.zero), stats.all.zero);
        assert_eq!(sum(|t| t.images), stats.all.images, "no image in two splits");
        assert_eq!(stats.all.images, 33);
        let of = |kind| stats.kinds[&kind];
        assert_eq!(of(TargetKind::Zero).objects, 0);
        assert_eq!(of(TargetKind::One).expressions, stats.all.one);
        assert_eq!(of(TargetKind::Many).expressions, stats.all.many);
        for (distribution, total) in [
            (&stats.words, stats.all.expressions),
            (&stats.targets, stats.all.expressions),
            (&stats.area_share, stats.all.one + stats.all.many),
        ] {
            assert_eq!(distribution.count, total);
            assert_eq!(distribution.bins.iter().map(|b| b.count).sum::<usize>(), total);
        }
        assert_eq!(stats.targets.bins[0].count, stats.all.zero);
        assert_eq!(stats.targets.bins[1].count, stats.all.one);
        assert_eq!(stats.splits[0].0, "train");
    }

    #[test]
    fn text_and_json_tell_the_same() {
        let stats = Statistics::of(&coco33(), |_| {}).unwrap();
        let text = stats.to_string();
        let json: serde_json::Value = serde_json::to_value(&stats).unwrap();
        let images = json["all"]["images"].as_u64().unwrap();
        assert!(text.contains(&images.to_string()) && text.contains("train"), "{text}");
        assert!(json["kinds"]["many"]["expressions"].as_u64().unwrap() > 0);
    }

    #[test]
    fn nothing_is_counted_as_nothing() {
        let stats = Statistics::of(&Dataset::from_samples(Vec::new()), |_| {}).unwrap();
        assert_eq!(stats.all, Tally::default());
        assert_eq!(stats.words.mean, None);
        assert!(stats.to_string().contains("all"));
    }
}
