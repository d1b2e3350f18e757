//! From annotation files to the samples of one split: parse or take from the cache, then look for the image files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::images::ImageFinder;
use super::join::{Joined, Region, join};
use super::{
    Annotations, Dataset, DatasetConfig, RejectReason, Rejected, Sample, TargetKind, cache,
    count_reasons,
};
use crate::DataError;

impl Dataset {
    /// Reads a split. Records that cannot be used are returned beside the data set, with their reasons.
    ///
    /// # Errors
    /// A file is missing or unreadable, the split does not exist, or no sample remains.
    pub fn load(cfg: &DatasetConfig) -> Result<(Dataset, Vec<Rejected>), DataError> {
        let (joined, file, images) = cache::joined(cfg)?;
        assemble(joined, cfg, &file, images)
    }

    /// The samples of the split that `cfg` asks for, from annotations read or made elsewhere.
    ///
    /// # Errors
    /// The split does not exist, or no sample remains.
    pub fn from_annotations(
        annotations: Annotations,
        cfg: &DatasetConfig,
    ) -> Result<(Dataset, Vec<Rejected>), DataError> {
        let (file, images) = (annotations.file().to_path_buf(), annotations.images.clone());
        assemble(join(annotations), cfg, &file, images)
    }
}

fn assemble(
    joined: Vec<Joined>,
    cfg: &DatasetConfig,
    file: &Path,
    images: PathBuf,
) -> Result<(Dataset, Vec<Rejected>), DataError> {
    let (mut samples, mut rejected) = (Vec::new(), Vec::new());
    let mut finder = ImageFinder::new(images);
    let mut found: HashMap<i64, Result<PathBuf, RejectReason>> = HashMap::new();
    let mut splits: BTreeMap<String, usize> = BTreeMap::new();
    for one in joined {
        match splits.get_mut(one.split()) {
            Some(count) => *count += 1,
            None => drop(splits.insert(one.split().to_owned(), 1)),
        }
        match one {
            // A line that cannot be read is everybody's.
            Joined::Rejected(one) if one.split.is_empty() || cfg.wants(&one.split) => {
                rejected.push(one);
            }
            Joined::Region(region) if cfg.wants(&region.split) => {
                let path = found
                    .entry(region.image_id)
                    .or_insert_with(|| finder.find(&region.listed, &region.recorded));
                add(region, path.clone(), &mut samples, &mut rejected);
            }
            _ => {}
        }
    }
    let unread = splits.remove("").is_some() && splits.is_empty();
    if !unread && !splits.keys().any(|split| cfg.wants(split)) {
        let has: Vec<String> = splits.iter().map(|(s, n)| format!("{s} ({n})")).collect();
        return Err(DataError::Empty(format!(
            "{} has no split {:?}; it has {}",
            file.display(),
            cfg.split,
            if has.is_empty() { "no record at all".into() } else { has.join(", ") }
        )));
    }
    if samples.is_empty() {
        let faults: Vec<String> = count_reasons(&rejected)
            .iter()
            .map(|(reason, count)| format!("{reason} ({count})"))
            .collect();
        let first = rejected.first().map(|r| format!("; first: {r}")).unwrap_or_default();
        return Err(DataError::Empty(format!(
            "every record of split {:?} in {} was rejected: {}{first}",
            cfg.split,
            file.display(),
            faults.join(", ")
        )));
    }
    Ok((Dataset { samples }, rejected))
}

/// One sample a sentence.
fn add(
    region: Region,
    path: Result<PathBuf, RejectReason>,
    samples: &mut Vec<Sample>,
    rejected: &mut Vec<Rejected>,
) {
    let (ref_id, image_id) = (region.ref_id, region.image_id);
    let split = region.split;
    let reject = |sentence_id, reason| Rejected {
        ref_id,
        sentence_id,
        image_id,
        split: split.clone(),
        reason,
    };
    let image_path = match path {
        Ok(path) => path,
        Err(reason) => return rejected.push(reject(None, reason)),
    };
    rejected.extend(region.faults.into_iter().map(|(id, reason)| reject(Some(id), reason)));
    let kind = match region.annotation_ids.len() {
        0 => TargetKind::Zero,
        1 => TargetKind::One,
        _ => TargetKind::Many,
    };
    for (sentence_id, expression) in region.sentences {
        samples.push(Sample {
            ref_id,
            sentence_id,
            image_id,
            image_path: image_path.clone(),
            height: region.height,
            width: region.width,
            expression,
            kind,
            annotation_ids: region.annotation_ids.clone(),
            segmentations: region.outlines.clone(),
            split: split.clone(),
            source: region.source.clone(),
        });
    }
}
