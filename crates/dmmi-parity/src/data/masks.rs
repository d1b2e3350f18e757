//! Outlines of all kinds against pycocotools: run lengths, areas, boxes, unions (golden cases g6_masks and masks_pycocotools).

use std::collections::HashMap;

use anyhow::Result;
use refzom_dataset::{Counts, Rle, Segmentation, SizedCounts, rasterize_polygon};
use serde::Deserialize;

use super::{same, unpack};
use crate::golden::Golden;
use crate::report::Report;

#[derive(Deserialize)]
struct Outline {
    id: i64,
    kind: String,
    width: u32,
    height: u32,
    segmentation: Segmentation,
    #[serde(default)]
    part_counts: Vec<String>,
    #[serde(default)]
    part_areas: Vec<u64>,
    #[serde(default)]
    part_bboxes: Vec<[f64; 4]>,
    union_area: Option<u64>,
    union_crc32: Option<u32>,
    merged_area: Option<u64>,
    merged_bbox: Option<[f64; 4]>,
    merged_counts: Option<String>,
    official_error: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    ref_id: i64,
    width: u32,
    height: u32,
    ann_ids: Vec<i64>,
    mask_area: Option<u64>,
    mask_crc32: Option<u32>,
    official_error: Option<String>,
}

fn box_of(rle: &Rle) -> [f64; 4] {
    rle.bounding_box().map_or([0.0; 4], |b| [b.x, b.y, b.width, b.height].map(f64::from))
}

/// The polygons or run lengths of an outline, each for itself.
fn parts(outline: &Segmentation, height: u32, width: u32) -> Result<Vec<Rle>> {
    let alone = |part: Segmentation| part.to_rle(height, width).map_err(anyhow::Error::from);
    match outline {
        Segmentation::Polygons(polygons) => {
            polygons.iter().map(|p| Ok(rasterize_polygon(p, height, width)?)).collect()
        }
        Segmentation::Rle { .. } => Ok(vec![alone(outline.clone())?]),
        Segmentation::Rles(many) => {
            let one =
                |p: &SizedCounts| Segmentation::Rle { size: p.size, counts: p.counts.clone() };
            many.iter().map(|part| alone(one(part))).collect()
        }
    }
}

/// Judges outlines and the union masks of references.
pub(crate) fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    let outlines: Vec<Outline> = golden.part("/annotations")?;
    let mut drawn: HashMap<i64, Option<Rle>> = HashMap::new();
    for one in &outlines {
        let name = format!("annotation {} ({})", one.id, one.kind);
        let (h, w) = (one.height, one.width);
        let union = one.segmentation.to_rle(h, w);
        if one.official_error.is_none() {
            judge_parts(one, &name, report)?;
            match &union {
                Ok(union) => judge_union(one, union, &name, golden, report),
                Err(error) => report.miss(&format!("{name} union"), error.to_string()),
            }
        }
        drawn.insert(one.id, union.ok());
    }
    let references: Vec<Reference> = golden.part("/refs").unwrap_or_default();
    for one in references.iter().filter(|one| one.official_error.is_none()) {
        let name = format!("reference {}", one.ref_id);
        let parts: Option<Vec<Rle>> =
            one.ann_ids.iter().map(|id| drawn.get(id).cloned().flatten()).collect();
        let Some(parts) = parts else {
            report.miss(&name, "one of its outlines cannot be drawn");
            continue;
        };
        let mask = match Rle::union(&parts) {
            Some(union) => union.decode(),
            None => refzom_dataset::Mask::zeros(one.height, one.width)?,
        };
        if let Some(area) = one.mask_area {
            same(report, &format!("{name} area"), mask.area(), area);
        }
        if let Some(crc) = one.mask_crc32 {
            same(report, &format!("{name} crc"), crc32fast::hash(mask.bits()), crc);
        }
        judge_packed(mask.bits(), &format!("ref{}.mask_packed", one.ref_id), &name, golden, report);
    }
    Ok(())
}

fn judge_parts(one: &Outline, name: &str, report: &mut Report) -> Result<()> {
    let (h, w) = (one.height, one.width);
    let parts = parts(&one.segmentation, h, w)?;
    same(report, &format!("{name} parts"), parts.len(), one.part_counts.len());
    for (i, (part, counts)) in parts.iter().zip(&one.part_counts).enumerate() {
        same(report, &format!("{name} part {i} encoded"), &part.to_compressed(), counts);
        let decoded = Rle::from_compressed(h, w, counts);
        same(report, &format!("{name} part {i} decoded"), decoded.ok().as_ref(), Some(part));
    }
    let areas: Vec<u64> = parts.iter().map(Rle::area).collect();
    same(report, &format!("{name} part areas"), &areas, &one.part_areas);
    let boxes: Vec<[f64; 4]> = parts.iter().map(box_of).collect();
    same(report, &format!("{name} part boxes"), &boxes, &one.part_bboxes);
    Ok(())
}

fn judge_union(one: &Outline, union: &Rle, name: &str, golden: &Golden, report: &mut Report) {
    for area in [one.union_area, one.merged_area].into_iter().flatten() {
        same(report, &format!("{name} area"), union.area(), area);
    }
    if let Some(merged) = one.merged_bbox {
        same(report, &format!("{name} box"), box_of(union), merged);
    }
    if let Some(counts) = &one.merged_counts {
        same(report, &format!("{name} union encoded"), &union.to_compressed(), counts);
    }
    let mask = union.decode();
    if let Some(crc) = one.union_crc32 {
        same(report, &format!("{name} crc"), crc32fast::hash(mask.bits()), crc);
    }
    same(report, &format!("{name} encoded again"), Rle::encode(&mask).decode(), mask.clone());
    judge_packed(mask.bits(), &format!("ann{}.union_packed", one.id), name, golden, report);
}

fn judge_packed(bits: &[u8], tensor: &str, name: &str, golden: &Golden, report: &mut Report) {
    let Some(packed) = golden.tensors.get(tensor) else { return };
    let theirs = unpack(packed.values.iter().map(|&v| v as u8), bits.len());
    let wrong = bits.iter().zip(&theirs).filter(|(a, b)| a != b).count();
    report.judge(&format!("{name} differing pixels"), wrong as f64, 0.0);
}

#[derive(Deserialize)]
struct Polygons {
    kind: String,
    h: u32,
    w: u32,
    polys: Vec<Vec<f64>>,
    rles: Vec<String>,
    merged: String,
    area: u64,
    bbox: [f64; 4],
}

#[derive(Deserialize)]
struct Crowd {
    #[serde(flatten)]
    runs: SizedCounts,
    rle: String,
    area: u64,
}

/// Judges the file of polygons and crowds, a line for each kind of polygon.
pub(crate) fn run_polygons(golden: &Golden, report: &mut Report) -> Result<()> {
    let mut wrong: HashMap<String, (usize, usize)> = HashMap::new();
    for case in golden.part::<Vec<Polygons>>("/polys")? {
        let drawn = case.polys.iter().map(|p| rasterize_polygon(p, case.h, case.w));
        let drawn: Vec<Rle> = drawn.collect::<Result<_, _>>()?;
        let union = Rle::union(&drawn);
        let encoded: Vec<String> = drawn.iter().map(Rle::to_compressed).collect();
        let read = case.rles.iter().map(|text| Rle::from_compressed(case.h, case.w, text).ok());
        let agrees = encoded == case.rles
            && read.eq(drawn.iter().cloned().map(Some))
            && union.is_some_and(|union| {
                union.to_compressed() == case.merged
                    && union.area() == case.area
                    && box_of(&union) == case.bbox
            });
        let (all, bad) = wrong.entry(case.kind).or_default();
        *all += 1;
        *bad += usize::from(!agrees);
    }
    let mut kinds: Vec<_> = wrong.into_iter().collect();
    kinds.sort();
    for (kind, (all, bad)) in kinds {
        report.judge(&format!("{all} polygon sets of kind {kind}, wrong"), bad as f64, 0.0);
    }
    for (i, case) in golden.part::<Vec<Crowd>>("/crowd")?.into_iter().enumerate() {
        let [h, w] = case.runs.size;
        let rle = match case.runs.counts {
            Counts::Plain(counts) => Rle::new(h, w, counts)?,
            Counts::Compressed(text) => Rle::from_compressed(h, w, &text)?,
        };
        same(report, &format!("crowd {i} encoded"), rle.to_compressed(), case.rle);
        same(report, &format!("crowd {i} area"), rle.area(), case.area);
        same(report, &format!("crowd {i} encoded again"), Rle::encode(&rle.decode()), rle);
    }
    Ok(())
}
