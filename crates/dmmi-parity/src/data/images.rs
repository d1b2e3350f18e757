//! Pictures: decoding, resize, normalisation and nearest masks against Pillow and torchvision (golden case g6_images).
//!
//! PNG must agree in every byte, JPEG within 4 levels of 255 (progressive ones and CMYK go through another inverse cosine transform;
//! that all others agree in every byte is tested in refzom-dataset).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use refzom_dataset::{
    ImageTransform, Orientation, Resampling, RgbImage, Segmentation, load_rgb, resize_with,
};
use serde::Deserialize;
use serde_json::Value;

use super::{same, unpack};
use crate::golden::{Golden, Stored};
use crate::hash::hash_ints;
use crate::report::Report;

/// How far a JPEG's bytes may be off.
const JPEG_LEVELS: f64 = 4.0;

#[derive(Deserialize)]
struct Case {
    width: u32,
    height: u32,
    decoded_crc32: u32,
    #[serde(default)]
    mask_polygons: Vec<Vec<f64>>,
    mask_area: Option<u64>,
    /// By side of the square.
    #[serde(flatten)]
    sizes: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Size {
    resized_crc32: u32,
    mask_sum: Option<u64>,
}

/// Judges all that is recorded; the pictures lie in the folder named like the sidecar.
pub(crate) fn run(golden: &Golden, sidecar: &Path, report: &mut Report) -> Result<()> {
    let images: BTreeMap<String, Case> = golden.part("/images")?;
    let pillow: String = golden.part("/pillow")?;
    let seed: u32 = golden.part("/seed").unwrap_or(0);
    let major = pillow.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let how = match major {
        Some(13..) => Resampling::Pillow13,
        _ => Resampling::Pillow10,
    };
    let folder = sidecar.with_extension("");
    for (file, case) in &images {
        let path = folder.join(file);
        let picture = load_rgb(&path, Orientation::Ignore)
            .with_context(|| format!("case {} needs {}", golden.name, path.display()))?;
        let exact = file.to_ascii_lowercase().ends_with(".png");
        let levels = if exact { 0.0 } else { JPEG_LEVELS };
        same(report, &format!("{file} size"), picture.dimensions(), (case.width, case.height));
        if exact {
            let crc = crc32fast::hash(picture.as_raw());
            same(report, &format!("{file} decoded crc"), crc, case.decoded_crc32);
        }
        if let Some(samples) = golden.tensors.get(&format!("{file}.decoded_samples")) {
            let name = format!("g6.decode.{file}");
            let off = off_at(picture.as_raw(), samples, &name, seed);
            report.judge(&format!("{file} decoded samples, levels"), off, levels);
        }
        for (side, size) in &case.sizes {
            let Ok(side) = side.parse::<u32>() else { continue };
            let size = Size::deserialize(size).with_context(|| format!("{file} at {side}"))?;
            let resized = resize_with(&picture, side, side, how);
            let name = format!("{file} at {side}");
            if exact {
                let crc = crc32fast::hash(resized.as_raw());
                same(report, &format!("{name} resized crc"), crc, size.resized_crc32);
            }
            let stored = |what: &str| golden.tensors.get(&format!("{file}.{side}.{what}"));
            if let Some(whole) = stored("u8") {
                let off = largest(resized.as_raw().iter().map(|&b| f64::from(b)), &whole.values);
                report.judge(&format!("{name} resized, levels"), off, levels);
            }
            if let Some(samples) = stored("u8_samples") {
                let off =
                    off_at(resized.as_raw(), samples, &format!("g6.resize.{file}.{side}"), seed);
                report.judge(&format!("{name} resized samples, levels"), off, levels);
            }
            if let Some(samples) = stored("norm_samples") {
                let off = normalised(&resized, samples, &format!("g6.norm.{file}.{side}"), seed);
                // One level is 1 / 255, divided by the smallest deviation, 0.224; else the rounding of the arithmetic.
                let allowed = if exact { 1e-6 } else { 1e-6 + JPEG_LEVELS / 255.0 / 0.224 };
                report.judge(&format!("{name} normalised samples"), off, allowed);
            }
            mask(case, side, &size, stored("mask_packed"), &name, report)?;
        }
    }
    Ok(())
}

fn mask(
    case: &Case,
    side: u32,
    size: &Size,
    packed: Option<&Stored>,
    name: &str,
    report: &mut Report,
) -> Result<()> {
    if case.mask_polygons.is_empty() {
        return Ok(());
    }
    let outline = Segmentation::Polygons(case.mask_polygons.clone());
    let rle = outline.to_rle(case.height, case.width)?;
    if let Some(area) = case.mask_area {
        same(report, &format!("{name} mask area"), rle.area(), area);
    }
    let nearest = rle.decode().resize_nearest(side, side)?;
    if let Some(sum) = size.mask_sum {
        same(report, &format!("{name} nearest mask area"), nearest.area(), sum);
    }
    if let Some(packed) = packed {
        let theirs = unpack(packed.values.iter().map(|&v| v as u8), nearest.bits().len());
        let wrong = nearest.bits().iter().zip(&theirs).filter(|(a, b)| a != b).count();
        report.judge(&format!("{name} nearest mask, differing pixels"), wrong as f64, 0.0);
    }
    Ok(())
}

fn normalised(resized: &RgbImage, samples: &Stored, name: &str, seed: u32) -> f64 {
    let transform = ImageTransform::imagenet(resized.height(), resized.width());
    let mut planes = Vec::new();
    transform.normalize_onto(resized, &mut planes);
    let at = hash_ints(name, seed, 0, planes.len() as u32, samples.values.len());
    largest(at.into_iter().map(|i| f64::from(planes[i as usize])), &samples.values)
}

/// Largest difference at the recorded places.
fn off_at(bytes: &[u8], samples: &Stored, name: &str, seed: u32) -> f64 {
    let at = hash_ints(name, seed, 0, bytes.len() as u32, samples.values.len());
    largest(at.into_iter().map(|i| f64::from(bytes[i as usize])), &samples.values)
}

/// Infinite if the numbers of values differ.
fn largest(ours: impl Iterator<Item = f64>, theirs: &[f64]) -> f64 {
    let mut count = 0;
    let off = ours.zip(theirs).fold(0.0f64, |most, (a, b)| {
        count += 1;
        most.max((a - b).abs())
    });
    if count == theirs.len() { off } else { f64::INFINITY }
}
