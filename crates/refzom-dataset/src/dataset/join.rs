//! Joins records with the images and outlines of `instances.json`; image files are looked for later ([`super::load`]).

use std::collections::HashMap;
use std::sync::Arc;

use super::{Annotations, RejectReason, Rejected};
use crate::mask::check_extent;
use crate::text::has_words;
use crate::{Annotation, ImageEntry, RefRecord, Segmentation};

/// Longest sentence, in characters; the longest of Ref-ZOM has a few hundred.
pub(crate) const MAX_EXPRESSION: usize = 10_000;

/// A record whose image and outlines are known and can be drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    pub(super) ref_id: i64,
    pub(super) image_id: i64,
    /// Image file by `instances.json`, and by the record.
    pub(super) listed: String,
    pub(super) recorded: String,
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) annotation_ids: Vec<i64>,
    pub(super) outlines: Vec<Arc<Segmentation>>,
    pub(super) split: String,
    pub(super) source: Option<String>,
    /// Usable sentences with their ids.
    pub(super) sentences: Vec<(i64, String)>,
    /// Sentences that are not.
    pub(super) faults: Vec<(i64, RejectReason)>,
}

/// A record after joining.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Joined {
    /// It can be used if its image file exists.
    Region(Region),
    /// It cannot.
    Rejected(Rejected),
}

impl Joined {
    pub(super) fn split(&self) -> &str {
        match self {
            Self::Region(region) => &region.split,
            Self::Rejected(rejected) => &rejected.split,
        }
    }
}

/// Joins every record, in order. Lines that were no record come first.
pub(super) fn join(annotations: Annotations) -> Vec<Joined> {
    let Annotations { records, instances, rejected, .. } = annotations;
    let outline = |a: Annotation| (a.id, (a.image_id, Arc::new(a.segmentation)));
    let joiner = Joiner {
        images: instances.images.into_iter().map(|image| (image.id, image)).collect(),
        annotations: instances.annotations.into_iter().map(outline).collect(),
    };
    let lines = rejected.into_iter().map(Joined::Rejected);
    lines.chain(records.into_iter().map(|record| joiner.join(record))).collect()
}

struct Joiner {
    images: HashMap<i64, ImageEntry>,
    annotations: HashMap<i64, (i64, Arc<Segmentation>)>,
}

impl Joiner {
    fn join(&self, record: RefRecord) -> Joined {
        match self.region(&record) {
            Ok(region) => Joined::Region(region),
            Err(reason) => {
                let RefRecord { ref_id, image_id, split, .. } = record;
                Joined::Rejected(Rejected { ref_id, sentence_id: None, image_id, split, reason })
            }
        }
    }

    fn region(&self, record: &RefRecord) -> Result<Region, RejectReason> {
        let image = self.images.get(&record.image_id).ok_or(RejectReason::MissingImageEntry)?;
        let (height, width) = (image.height, image.width);
        check_extent(height, width).map_err(RejectReason::BadImageSize)?;

        let mut ids = if record.is_zero() { Vec::new() } else { record.ann_id.to_vec() };
        ids.sort_unstable();
        ids.dedup();
        let mut outlines = Vec::with_capacity(ids.len());
        let mut area = 0;
        for &annotation_id in &ids {
            let Some((image_id, outline)) = self.annotations.get(&annotation_id) else {
                return Err(RejectReason::MissingAnnotation(annotation_id));
            };
            if *image_id != record.image_id {
                let image_id = *image_id;
                return Err(RejectReason::AnnotationOfOtherImage { annotation_id, image_id });
            }
            let rle = outline
                .to_rle(height, width)
                .map_err(|e| RejectReason::BadOutline { annotation_id, message: e.to_string() })?;
            area += rle.area();
            outlines.push(Arc::clone(outline));
        }
        if !ids.is_empty() && area == 0 {
            return Err(RejectReason::EmptyMask);
        }
        if record.sentences.is_empty() {
            return Err(RejectReason::NoSentence);
        }
        let (mut sentences, mut faults) = (Vec::new(), Vec::new());
        for sentence in &record.sentences {
            let raw = sentence.raw.trim();
            let expression = if raw.is_empty() { sentence.sent.trim() } else { raw };
            let length = expression.chars().count();
            match length {
                ..=MAX_EXPRESSION if !has_words(expression) => {
                    faults.push((sentence.sent_id, RejectReason::EmptyExpression))
                }
                ..=MAX_EXPRESSION => sentences.push((sentence.sent_id, expression.to_owned())),
                _ => faults.push((sentence.sent_id, RejectReason::EndlessExpression(length))),
            }
        }
        Ok(Region {
            ref_id: record.ref_id,
            image_id: record.image_id,
            listed: image.file_name.clone(),
            recorded: record.file_name.clone(),
            height,
            width,
            annotation_ids: ids,
            outlines,
            split: record.split.clone(),
            source: record.source.clone(),
            sentences,
            faults,
        })
    }
}
