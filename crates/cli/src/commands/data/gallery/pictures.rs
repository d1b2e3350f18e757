//! Photos and masks, made small and put into text.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use refzom_dataset::{
    Dataset, Orientation, RgbImage, Sample, TargetKind, load_rgb, resize_bilinear,
};
use serde::Serialize;

use crate::progress::bar;
use crate::viz::overlay::{Layer, Look, transparent};
use crate::viz::palette::series;

/// What the page shows; every photo and every mask occurs once.
#[derive(Debug, Default, Serialize)]
pub(super) struct Shown {
    pub(super) images: Vec<Photo>,
    /// `data:` addresses of transparent pictures of the photo's shape.
    pub(super) masks: Vec<String>,
    pub(super) samples: Vec<Entry>,
    /// Photos that cannot be shown, and why.
    #[serde(skip)]
    pub(super) faults: Vec<String>,
}

/// A photo.
#[derive(Debug, Serialize)]
pub(super) struct Photo {
    name: String,
    id: i64,
    width: u32,
    height: u32,
    src: String,
}

/// An expression.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    text: String,
    kind: TargetKind,
    split: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    reference: i64,
    sentence: i64,
    /// Place in `images`.
    image: usize,
    /// Place in `masks`; none where nothing is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<usize>,
    targets: usize,
    /// Per cent of the photo.
    share: f64,
}

/// Reads and draws everything; photos become `longest` pixels wide or high, smaller ones stay as they are.
///
/// # Errors
/// A picture cannot be written as JPEG or PNG, or none can be read.
pub(super) fn show(dataset: &Dataset, longest: u32) -> Result<Shown> {
    let bar = bar(dataset.len() as u64);
    bar.set_prefix("pictures");
    let mut shown = Shown::default();
    let mut photos: HashMap<&Path, Option<usize>> = HashMap::new();
    let mut masks: HashMap<(i64, &[i64]), (usize, f64)> = HashMap::new();
    for sample in dataset.samples() {
        bar.inc(1);
        let size = fit((sample.width, sample.height), longest);
        let image = match photos.get(sample.image_path.as_path()) {
            Some(known) => *known,
            None => {
                let read = load_rgb(&sample.image_path, Orientation::Ignore);
                let place = match read {
                    Ok(photo) => {
                        shown.images.push(self::photo(sample, &photo, size)?);
                        Some(shown.images.len() - 1)
                    }
                    Err(error) => {
                        shown.faults.push(error.to_string());
                        None
                    }
                };
                photos.insert(&sample.image_path, place);
                place
            }
        };
        let Some(image) = image else { continue };
        let mask = match (
            sample.kind,
            masks.get(&(sample.image_id, sample.annotation_ids.as_slice())).copied(),
        ) {
            (TargetKind::Zero, _) => None,
            (_, Some(known)) => Some(known),
            (_, None) => {
                let made = draw(sample, size)?;
                shown.masks.push(made.0);
                let place = (shown.masks.len() - 1, made.1);
                masks.insert((sample.image_id, &sample.annotation_ids), place);
                Some(place)
            }
        };
        shown.samples.push(Entry {
            text: sample.expression.clone(),
            kind: sample.kind,
            split: sample.split.clone(),
            source: sample.source.clone(),
            reference: sample.ref_id,
            sentence: sample.sentence_id,
            image,
            mask: mask.map(|(place, _)| place),
            targets: sample.annotation_ids.len(),
            share: mask.map_or(0.0, |(_, share)| share),
        });
    }
    bar.finish_and_clear();
    if shown.samples.is_empty()
        && let Some(first) = shown.faults.first()
    {
        return Err(crate::exit::bad_input!("no picture can be shown; first: {first}"));
    }
    Ok(shown)
}

fn photo(sample: &Sample, picture: &RgbImage, (width, height): (u32, u32)) -> Result<Photo> {
    let small = resize_bilinear(picture, height, width);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 82)
        .encode_image(&small)
        .with_context(|| format!("cannot shrink {}", sample.image_path.display()))?;
    let name = sample.image_path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let src = format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes));
    Ok(Photo { name, id: sample.image_id, width, height, src })
}

/// The objects as a transparent PNG, a colour each, and the per cent of the image they cover.
fn draw(sample: &Sample, (width, height): (u32, u32)) -> Result<(String, f64)> {
    let pixels = f64::from(sample.width) * f64::from(sample.height);
    let share = 100.0 * sample.rle()?.area() as f64 / pixels;
    let mut parts = Vec::new();
    for outline in &sample.segmentations {
        let whole = outline.to_rle(sample.height, sample.width)?.decode();
        parts.push(whole.resize_nearest(height, width)?);
    }
    let layers: Vec<Layer<'_>> = parts
        .iter()
        .enumerate()
        .map(|(i, part)| Layer { mask: part.bits(), colour: series(i) })
        .collect();
    let picture = transparent((width, height), &layers, Look { opacity: 0.5, outline: Some(1) })?;
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).context("cannot write a mask as PNG")?;
    Ok((format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())), share))
}

/// The size within a square of `longest`, shape kept, never larger than before.
fn fit((width, height): (u32, u32), longest: u32) -> (u32, u32) {
    let scale = (f64::from(longest) / f64::from(width.max(height).max(1))).min(1.0);
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn shapes_are_kept_and_nothing_grows() {
        assert_eq!(fit((640, 480), 320), (320, 240));
        assert_eq!(fit((100, 50), 320), (100, 50));
        assert_eq!(fit((4000, 1), 320), (320, 1));
        assert_eq!(fit((0, 0), 320), (1, 1));
    }
}
