//! The outlines of what the records mean: can they be drawn, is there a pixel, do they lie inside the image?

use std::collections::HashMap;

use super::Fault;
use super::records::{State, name, targets};
use super::report::Chart;
use crate::mask::check_extent;
use crate::{Annotations, ImageEntry, Segmentation};

/// Outlines may run this many pixels outside: COCO's annotators drew along the border.
const MARGIN: f64 = 1.5;

/// Pixels of an annotation; `None` if it cannot be drawn.
type Area = Option<u64>;

pub(super) fn check(
    annotations: &Annotations,
    state: &mut State<'_>,
    chart: &mut Chart,
    progress: &mut impl FnMut(&'static str, usize, usize),
) {
    let total = annotations.records.len();
    let mut areas: HashMap<i64, Area> = HashMap::new();
    for (at, record) in annotations.records.iter().enumerate() {
        progress("outlines", at, total);
        let Some(image) = state.images.get(&record.image_id).copied() else { continue };
        if check_extent(image.height, image.width).is_err() {
            continue;
        }
        let ids = targets(record);
        let mut drawn = Vec::with_capacity(ids.len());
        for id in &ids {
            let Some(annotation) = state.outlines.get(id) else { continue };
            if annotation.image_id != record.image_id {
                continue;
            }
            let outline = &annotation.segmentation;
            drawn.push(*areas.entry(*id).or_insert_with(|| area(*id, outline, image, chart)));
        }
        let empty = drawn.iter().filter(|area| **area == Some(0)).count();
        if drawn.contains(&None) {
            state.usable[at] = false;
        } else if empty == drawn.len() && empty > 0 && empty == ids.len() {
            chart.add(Fault::EmptyMask, || format!("annotation {} of {}", ids[0], name(record)));
            state.usable[at] = false;
        } else if empty > 0 {
            chart.add(Fault::EmptyPart, || {
                format!("{empty} of {} annotations of {}", ids.len(), name(record))
            });
        }
    }
    progress("outlines", total, total);
}

fn area(id: i64, outline: &Segmentation, image: &ImageEntry, chart: &mut Chart) -> Area {
    if let Some(numbers) = odd(outline) {
        chart.add(Fault::OddPolygon, || {
            format!("annotation {id} (image {}): {numbers} coordinates", image.id)
        });
    }
    if let Some((x, y)) = outside(outline, image) {
        chart.add(Fault::MaskOutside, || {
            let ImageEntry { id: image_id, width, height, .. } = image;
            format!("annotation {id} reaches ({x:.0}, {y:.0}), image {image_id} has {width} x {height} pixels")
        });
    }
    match outline.to_rle(image.height, image.width) {
        Ok(rle) => Some(rle.area()),
        Err(error) => {
            chart.add(Fault::BadOutline, || {
                format!("annotation {id} (image {}): {error}", image.id)
            });
            None
        }
    }
}

/// How many coordinates the first polygon with an odd number of them has.
fn odd(outline: &Segmentation) -> Option<usize> {
    let Segmentation::Polygons(polygons) = outline else { return None };
    polygons.iter().map(Vec::len).find(|numbers| numbers % 2 == 1)
}

/// The first point of a polygon that lies clearly outside the image.
fn outside(outline: &Segmentation, image: &ImageEntry) -> Option<(f64, f64)> {
    let Segmentation::Polygons(polygons) = outline else { return None };
    let within = |v: f64, side: u32| (-MARGIN..=f64::from(side) + MARGIN).contains(&v);
    let points = polygons.iter().flat_map(|polygon| polygon.chunks_exact(2));
    points
        .map(|point| (point[0], point[1]))
        .find(|&(x, y)| !within(x, image.width) || !within(y, image.height))
}
