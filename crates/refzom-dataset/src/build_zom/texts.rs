//! What people wrote about each image: COCO captions, and expressions of RefCOCO-style files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::catalog::{Catalog, parse};
use super::json_stream::visit_arrays;
use crate::text::has_words;
use crate::{DataError, load_refs};

/// A caption: a sentence about the whole image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caption {
    /// Place of the image in the catalog.
    pub picture: u32,
    /// Place of the file among the captions files.
    pub file: u16,
    /// COCO's id.
    pub id: i64,
    /// The sentence.
    pub text: Box<str>,
}

/// An expression: a sentence about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Place of the image in the catalog.
    pub picture: u32,
    /// Place of the file among the refs files.
    pub file: u16,
    /// The record.
    pub ref_id: i64,
    /// The sentence.
    pub sent_id: i64,
    /// The object's id.
    pub object: i64,
    /// The sentence.
    pub text: Box<str>,
}

/// Everything people wrote, by image.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// By image.
    pub captions: Vec<Caption>,
    /// By image.
    pub expressions: Vec<Expression>,
    caption_starts: Vec<u32>,
    expression_starts: Vec<u32>,
    /// The captions files.
    pub caption_files: Vec<PathBuf>,
    /// The refs files.
    pub refs_files: Vec<PathBuf>,
    /// Split names that refs files give an image, by place in the catalog.
    pub splits: BTreeMap<u32, Vec<String>>,
    /// What was left out, and how often.
    pub left_out: BTreeMap<&'static str, usize>,
}

#[derive(Deserialize)]
struct StoredCaption {
    id: i64,
    image_id: i64,
    caption: Box<str>,
}

impl Texts {
    /// Reads captions and refs files.
    ///
    /// # Errors
    /// A file cannot be read or is of another layout.
    pub fn read(
        catalog: &Catalog,
        caption_files: &[PathBuf],
        refs_files: &[PathBuf],
        mut progress: impl FnMut(&Path, u64),
    ) -> Result<Self, DataError> {
        let mut texts = Self {
            caption_files: caption_files.to_vec(),
            refs_files: refs_files.to_vec(),
            ..Self::default()
        };
        for (file, path) in caption_files.iter().enumerate() {
            texts.read_captions(catalog, file as u16, path, &mut progress)?;
        }
        for (file, path) in refs_files.iter().enumerate() {
            progress(path, 0);
            texts.read_refs(catalog, file as u16, path)?;
        }
        texts.captions.sort_by_key(|c| (c.picture, c.file, c.id));
        texts.expressions.sort_by_key(|e| (e.picture, e.file, e.sent_id));
        let count = catalog.pictures().len();
        texts.caption_starts = starts(count, texts.captions.iter().map(|c| c.picture));
        texts.expression_starts = starts(count, texts.expressions.iter().map(|e| e.picture));
        Ok(texts)
    }

    fn read_captions(
        &mut self,
        catalog: &Catalog,
        file: u16,
        path: &Path,
        progress: &mut impl FnMut(&Path, u64),
    ) -> Result<(), DataError> {
        let before = self.captions.len();
        let visit = |key: &str, element: &[u8]| {
            if key != "annotations" {
                return Ok(());
            }
            let stored: StoredCaption = parse(element, "a caption (is this a captions file?)")?;
            match catalog.find(stored.image_id) {
                _ if stored.caption.trim().is_empty() => self.leave_out("empty caption"),
                Some(picture) => {
                    let picture = picture as u32;
                    self.captions.push(Caption {
                        picture,
                        file,
                        id: stored.id,
                        text: stored.caption,
                    });
                }
                None => self.leave_out("caption of an image that is not in the instances"),
            }
            Ok(())
        };
        visit_arrays(path, visit, |bytes| progress(path, bytes))?;
        if self.captions.len() == before {
            let message = "holds no caption of an image in the instances; give the captions_*.json of the same images";
            return Err(DataError::format(path, message));
        }
        Ok(())
    }

    fn read_refs(&mut self, catalog: &Catalog, file: u16, path: &Path) -> Result<(), DataError> {
        let mut used = 0usize;
        for record in load_refs(path)? {
            let Some(picture) = catalog.find(record.image_id) else {
                self.leave_out("reference to an image that is not in the instances");
                continue;
            };
            used += 1;
            let splits = self.splits.entry(picture as u32).or_default();
            if !splits.contains(&record.split) {
                splits.push(record.split.clone());
            }
            let ids = record.ann_id.to_vec();
            if record.is_zero() || ids.len() != 1 {
                self.leave_out("reference that is not one-to-one");
                continue;
            }
            match catalog.object(ids[0]) {
                Some(object) if object.picture as usize == picture => {}
                Some(_) => {
                    self.leave_out("reference to an object of another image");
                    continue;
                }
                None => {
                    self.leave_out("reference to an object that is not in the instances");
                    continue;
                }
            }
            for sentence in record.sentences {
                let raw = sentence.raw.trim();
                let text = if raw.is_empty() { sentence.sent.trim() } else { raw };
                if !has_words(text) {
                    self.leave_out("empty expression");
                    continue;
                }
                self.expressions.push(Expression {
                    picture: picture as u32,
                    file,
                    ref_id: record.ref_id,
                    sent_id: sentence.sent_id,
                    object: ids[0],
                    text: text.into(),
                });
            }
        }
        if used == 0 {
            let message = "no record is about an image of the instances; RefCOCO, RefCOCO+ and RefCOCOg need train2014's";
            return Err(DataError::format(path, message));
        }
        Ok(())
    }

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_insert(0) += 1;
    }

    #[cfg(test)]
    pub(super) fn of_expressions(pictures: usize, expressions: Vec<Expression>) -> Self {
        Self {
            expression_starts: starts(pictures, expressions.iter().map(|e| e.picture)),
            caption_starts: vec![0; pictures + 1],
            expressions,
            refs_files: vec!["refs(test).p".into()],
            ..Self::default()
        }
    }

    /// Captions of one image.
    pub fn captions_of(&self, picture: usize) -> &[Caption] {
        &self.captions[range(&self.caption_starts, picture)]
    }

    /// Expressions of one image.
    pub fn expressions_of(&self, picture: usize) -> &[Expression] {
        &self.expressions[range(&self.expression_starts, picture)]
    }
}

/// Where the texts of each image begin, and the end.
fn starts(count: usize, pictures: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut starts = vec![0u32; count + 1];
    for picture in pictures {
        starts[picture as usize + 1] += 1;
    }
    for i in 0..count {
        starts[i + 1] += starts[i];
    }
    starts
}

fn range(starts: &[u32], picture: usize) -> std::ops::Range<usize> {
    starts[picture] as usize..starts[picture + 1] as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_of_coco33_lie_with_their_images() {
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33"));
        let catalog = Catalog::read(&[dir.join("instances.json")], |_, _| {}).unwrap();
        let refs = [dir.join("refs(final).p"), dir.join("refs(human).p")];
        let texts = Texts::read(&catalog, &[dir.join("captions.json")], &refs, |_, _| {}).unwrap();
        assert_eq!(texts.captions.len(), 165);
        let picture = catalog.find(397_133).unwrap();
        assert_eq!(texts.captions_of(picture).len(), 5);
        assert!(texts.captions_of(picture)[0].text.contains("pizzas"));
        assert!(
            texts.expressions_of(picture).iter().any(|e| e.file == 1 && e.text.contains("ceramic"))
        );
        let sum: usize = (0..33).map(|p| texts.expressions_of(p).len()).sum();
        assert_eq!(sum, texts.expressions.len());
        assert_eq!(texts.left_out["reference that is not one-to-one"], 48);
        assert!(texts.splits.values().flatten().any(|split| split == "test"));
        assert!(Texts::read(&catalog, &[dir.join("instances.json")], &[], |_, _| {}).is_err());
    }
}
