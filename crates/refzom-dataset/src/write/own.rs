//! One's own set: a json object a line, or a table.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::MaskForm;
use super::loss::{Loss, Losses};
use super::refer::cleaned;
use crate::dataset::{Format, ImageFinder};
use crate::{
    Annotation, Annotations, Counts, DataError, ImageEntry, OwnMask, OwnRecord, RefRecord, Rle,
    Segmentation, Sentence, SizedCounts,
};

/// The lines, and the mask files they name.
pub(super) struct Lines {
    /// One record each.
    pub(super) records: Vec<OwnRecord>,
    /// Name and content of every mask file.
    pub(super) masks: Vec<(String, Rle)>,
}

/// The records in the terms of one's own set.
pub(super) fn lines(
    annotations: &Annotations,
    format: Format,
    form: MaskForm,
    losses: &mut Losses,
) -> Lines {
    let instances = &annotations.instances;
    let images: HashMap<i64, &ImageEntry> = instances.images.iter().map(|i| (i.id, i)).collect();
    let outlines: HashMap<i64, &Annotation> =
        instances.annotations.iter().map(|a| (a.id, a)).collect();
    let categories: HashMap<i64, &str> =
        instances.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let mut out =
        Lines { records: Vec::with_capacity(annotations.records.len()), masks: Vec::new() };
    let (mut used, mut seen) = (HashSet::<i64>::new(), HashSet::<i64>::new());
    let mut written = BTreeSet::new();
    let mut finder = ImageFinder::new(annotations.images.clone());
    for record in &annotations.records {
        let zero = record.is_zero();
        let ids = if zero { Vec::new() } else { record.ann_id.to_vec() };
        let objects: Option<Vec<&Annotation>> =
            ids.iter().map(|id| outlines.get(id).copied()).collect();
        let sound = (images.get(&record.image_id), objects, record.sentences.is_empty());
        let (Some(image), Some(objects), false) = sound else {
            losses.add(Loss::FaultyRecord, 1);
            continue;
        };
        let in_runs = form == MaskForm::Rle || (format == Format::Csv && objects.len() > 1);
        let masks = objects.iter().map(|object| match (form, &object.segmentation) {
            (MaskForm::Keep, Segmentation::Rle { size, counts }) => {
                Some((OwnMask::Rle(SizedCounts { size: *size, counts: counts.clone() }), None))
            }
            (MaskForm::Keep, Segmentation::Polygons(polygons)) if !in_runs => {
                Some((OwnMask::Polygons(polygons.clone()), None))
            }
            (_, outline) => {
                let rle = outline.to_rle(image.height, image.width).ok()?;
                if form == MaskForm::Png {
                    return Some((OwnMask::File(format!("masks/{}.png", object.id)), Some(rle)));
                }
                let counts = Counts::Compressed(rle.to_compressed());
                let size = [image.height, image.width];
                Some((OwnMask::Rle(SizedCounts { size, counts }), None))
            }
        });
        let Some(mut masks) = masks.collect::<Option<Vec<(OwnMask, Option<Rle>)>>>() else {
            losses.add(Loss::FaultyRecord, 1);
            continue;
        };
        count_losses(record, annotations.format, losses);
        seen.insert(image.id);
        used.extend(&ids);
        for ((mask, drawn), object) in masks.iter_mut().zip(&objects) {
            let were_runs = matches!(object.segmentation, Segmentation::Rle { .. });
            let are_runs = matches!(mask, OwnMask::Rle(_));
            losses.add(Loss::OutlineForm, usize::from(are_runs && !were_runs));
            if let (OwnMask::File(name), Some(rle)) = (mask, drawn.take())
                && written.insert(object.id)
            {
                out.masks.push((name.clone(), rle));
            }
        }
        let mut masks: Vec<OwnMask> = masks.into_iter().map(|(mask, _)| mask).collect();
        let kinds: BTreeSet<i64> = objects.iter().map(|object| object.category_id).collect();
        losses.add(Loss::Categories, usize::from(kinds.len() > 1));
        let category = objects.first().map(|object| object.category_id);
        let category = category.or_else(|| record.category_id.to_vec().first().copied());
        let name = finder.name(&image.file_name, &record.file_name);
        let name = name.unwrap_or(&image.file_name);
        let line = OwnRecord {
            image: name.to_owned(),
            split: Some(record.split.clone()),
            category: category.and_then(|id| categories.get(&id)).map(|name| (*name).to_owned()),
            ..OwnRecord::default()
        };
        let line = match masks.len() {
            0 | 1 => OwnRecord { mask: Some(masks.pop()), ..line },
            _ => OwnRecord { masks: Some(masks), ..line },
        };
        let texts: Vec<String> = record.sentences.iter().map(expression).collect();
        match texts.as_slice() {
            [text] => out.records.push(OwnRecord { expression: Some(text.clone()), ..line }),
            _ if format == Format::Csv => {
                losses.add(Loss::Grouping, 1);
                let rows = texts.into_iter();
                out.records
                    .extend(rows.map(|text| OwnRecord { expression: Some(text), ..line.clone() }));
            }
            _ => out.records.push(OwnRecord { expressions: texts, ..line }),
        }
    }
    let unused = |annotation: &&Annotation| !used.contains(&annotation.id);
    losses.add(Loss::UnusedAnnotation, instances.annotations.iter().filter(unused).count());
    losses
        .add(Loss::UnusedImage, instances.images.iter().filter(|i| !seen.contains(&i.id)).count());
    out
}

/// What a person reads: the raw sentence, or the cleaned one where there is no raw.
fn expression(sentence: &Sentence) -> String {
    let raw = sentence.raw.trim();
    if raw.is_empty() { sentence.sent.trim().to_owned() } else { raw.to_owned() }
}

fn count_losses(record: &RefRecord, from: Format, losses: &mut Losses) {
    let ids = record.ann_id.to_vec();
    let derived = match (record.is_zero(), ids.len()) {
        (true, _) => "zero",
        (false, 1) => "one",
        (false, _) => "many",
    };
    losses.add(Loss::Source, usize::from(record.source.as_deref().is_some_and(|s| s != derived)));
    losses.add(Loss::ZeroAnnotation, usize::from(record.is_zero() && !ids.is_empty()));
    losses.add(Loss::Numbers, usize::from(from.has_instances()));
    let differs =
        |s: &&Sentence| !s.sent.is_empty() && !s.raw.is_empty() && s.sent != cleaned(&s.raw);
    losses.add(Loss::CleanedSentence, record.sentences.iter().filter(differs).count());
}

/// The lines as bytes of a json-lines file.
pub(super) fn to_jsonl(records: &[OwnRecord]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The lines as bytes of a table.
pub(super) fn to_csv(records: &[OwnRecord]) -> Result<Vec<u8>, String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut row = |cells: [&str; 5]| table.write_record(cells).map_err(|e| e.to_string());
    row(["image", "expression", "mask", "split", "category"])?;
    for record in records {
        row([
            &record.image,
            record.expression.as_deref().unwrap_or_default(),
            &mask_cell(record)?,
            record.split.as_deref().unwrap_or_default(),
            record.category.as_deref().unwrap_or_default(),
        ])?;
    }
    table.into_inner().map_err(|e| e.to_string())
}

/// Nothing, file names, or json.
fn mask_cell(record: &OwnRecord) -> Result<String, String> {
    match (&record.mask, &record.masks) {
        (Some(Some(OwnMask::File(name))), _) => Ok(name.clone()),
        (Some(Some(mask)), _) => serde_json::to_string(mask).map_err(|e| e.to_string()),
        (_, Some(masks)) => {
            let names: Option<Vec<&str>> = masks
                .iter()
                .map(|mask| match mask {
                    OwnMask::File(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect();
            match names {
                Some(names) => Ok(names.join(";")),
                None => serde_json::to_string(masks).map_err(|e| e.to_string()),
            }
        }
        _ => Ok(String::new()),
    }
}

/// Mask files beside the annotation file.
pub(super) fn write_masks(
    folder: &Path,
    masks: &[(String, Rle)],
    mut progress: impl FnMut(&'static str, usize, usize),
) -> Result<(), DataError> {
    for (at, (name, rle)) in masks.iter().enumerate() {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| DataError::write(parent, e))?;
        }
        let bits = rle.decode().into_bits().into_iter().map(|bit| bit * 255).collect();
        let picture = image::GrayImage::from_raw(rle.width(), rle.height(), bits)
            .ok_or_else(|| DataError::format(&path, "has another size than its mask"))?;
        picture
            .save_with_format(&path, image::ImageFormat::Png)
            .map_err(|e| DataError::write(&path, std::io::Error::other(e)))?;
        progress("masks", at + 1, masks.len());
    }
    Ok(())
}
