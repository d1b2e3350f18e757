//! Cards of a report: chosen test samples, answered once more by the checkpoint, truth against prediction.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dmmi_train::{Evaluation, Record};
use image::{ExtendedColorType, RgbImage};
use refzom_dataset::{Dataset, Mask, Orientation, load_rgb};

use super::select::{Scored, choose};
use crate::commands::predict::engine::Engine;
use crate::commands::predict::output::png;
use crate::report::data::{Card, Section};
use crate::viz::overlay::comparison;

/// Pictures a section.
const COUNT: usize = 6;

/// Least side of an overlay in pixels, about.
const DRAWN: u32 = 256;

/// All sections.
///
/// # Errors
/// If a picture of the test split cannot be read any more.
pub(super) fn sections(
    engine: &Engine,
    dataset: &Dataset,
    evaluation: &Evaluation,
) -> Result<Vec<Section>> {
    let scored: Vec<Scored> = evaluation.records.iter().map(scored).collect();
    let section = |chosen: super::select::Chosen| {
        let cards = chosen.samples.iter().map(|i| card(engine, dataset, &evaluation.records[*i]));
        Ok(Section {
            title: chosen.title.to_owned(),
            note: chosen.note,
            cards: cards.collect::<Result<_>>()?,
        })
    };
    choose(&scored, COUNT).into_iter().map(section).collect()
}

fn scored(record: &Record) -> Scored {
    let counts = record.original.unwrap_or(record.model);
    Scored {
        image: record.image.clone(),
        iou: (record.kind != "zero").then(|| counts.iou()),
        predicted: counts.predicted,
    }
}

fn card(engine: &Engine, dataset: &Dataset, record: &Record) -> Result<Card> {
    let sample = dataset.get(record.index).context("the test split changed during the run")?;
    let picture = load_rgb(&sample.image_path, Orientation::Ignore)?;
    let truth = dataset.mask(record.index)?;
    let sentence = std::slice::from_ref(&record.expression);
    let answers = engine.answers(&engine.prepare(&picture)?, sentence, |_| ())?;
    let answer = answers.first().context("no answer to the sentence")?;
    let predicted = &answer.found.mask;
    // Small pictures are drawn enlarged, or the outline would hide what it surrounds.
    let scale = (DRAWN / picture.width().min(picture.height())).max(1);
    let overlay = comparison(
        &enlarged(&picture, scale),
        &enlarged_mask(predicted, scale),
        &enlarged_mask(&truth, scale),
    )?;
    let Scored { iou, predicted: pixels, .. } = scored(record);
    let (width, height) = picture.dimensions();
    let name = sample.image_path.file_name().map_or_else(String::new, |n| n.display().to_string());
    Ok(Card {
        sentence: record.expression.clone(),
        kind: record.kind.clone(),
        iou,
        right: iou.map_or(pixels == 0, |iou| iou >= 0.5),
        predicted_share: pixels as f64 / (f64::from(width) * f64::from(height)),
        source: name,
        size: (width, height),
        picture: encoded(&picture)?,
        overlay: encoded(&overlay)?,
    })
}

/// Each pixel as `scale` x `scale` pixels.
fn enlarged(picture: &RgbImage, scale: u32) -> RgbImage {
    let (width, height) = (picture.width() * scale, picture.height() * scale);
    RgbImage::from_fn(width, height, |x, y| *picture.get_pixel(x / scale, y / scale))
}

fn enlarged_mask(mask: &Mask, scale: u32) -> Vec<u8> {
    let rows = (0..mask.height() * scale).map(|y| y / scale);
    let row = |y: u32| (0..mask.width() * scale).map(move |x| u8::from(mask.get(x / scale, y)));
    rows.flat_map(row).collect()
}

fn encoded(image: &RgbImage) -> Result<String> {
    let bytes = png(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_repeats_pixels() {
        let mask = Mask::from_bits(1, 2, vec![0, 1]).unwrap();
        assert_eq!(enlarged_mask(&mask, 2), [0, 0, 1, 1, 0, 0, 1, 1]);
        let picture = RgbImage::from_raw(2, 1, vec![1, 1, 1, 9, 9, 9]).unwrap();
        let large = enlarged(&picture, 3);
        assert_eq!(large.dimensions(), (6, 3));
        assert_eq!((large.get_pixel(2, 2).0[0], large.get_pixel(3, 0).0[0]), (1, 9));
    }
}
