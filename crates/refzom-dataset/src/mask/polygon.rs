//! Polygon to run lengths (pycocotools' `rleFrPoly`): the outline is walked on a grid five times as fine, then sampled at pixel centres.
//!
//! Bit equality needs its exact arithmetic: rounding by `(int)(x + .5)`, and a multiplication and an addition
//! that are *not* fused (pycocotools itself differs on arm64 for that reason).

use super::{Rle, check_extent};
use crate::DataError;

/// Longest outline that is drawn, in fifths of a pixel; a 10,000 x 10,000 square has 200,000.
/// Guards time and memory against coordinates like 1e300.
pub const MAX_OUTLINE: u64 = 1 << 25;

const SCALE: f64 = 5.0;

/// The mask of one polygon `[x0, y0, x1, y1, ..]` in pixels; an odd last number is ignored.
///
/// # Errors
/// The outline is longer than [`MAX_OUTLINE`], there is no point, or the extent is empty or too large.
pub fn rasterize_polygon(polygon: &[f64], height: u32, width: u32) -> Result<Rle, DataError> {
    check_extent(height, width).map_err(DataError::Mask)?;
    // Truncation towards zero as C does it; `as` saturates where C is undefined.
    let fine = |v: f64| (SCALE * v + 0.5) as i64;
    let mut points: Vec<(i64, i64)> =
        polygon.chunks_exact(2).map(|xy| (fine(xy[0]), fine(xy[1]))).collect();
    let Some(&first) = points.first() else {
        return Err(DataError::Mask("a polygon has no point".into()));
    };
    points.push(first);

    let length = points.windows(2).fold(0u64, |sum, p| {
        let step = p[0].0.abs_diff(p[1].0).max(p[0].1.abs_diff(p[1].1));
        sum.saturating_add(step).saturating_add(1)
    });
    if length > MAX_OUTLINE {
        return Err(DataError::Mask(format!(
            "an outline of about {} pixels is beyond all images; check the coordinates",
            length / 5
        )));
    }

    let mut crossings: Vec<u32> = Vec::new();
    let mut previous: Option<(i64, i64)> = None;
    let mut visit = |u: i64, v: i64| {
        if let Some((pu, pv)) = previous
            && u != pu
        {
            let left = if u < pu { u } else { u - 1 };
            // Pixel centres lie at 5k + 2 on the fine grid.
            if left.rem_euclid(5) == 2 && left >= 2 && left / 5 < i64::from(width) {
                let y = (v.min(pv) as f64 + 0.5) / SCALE - 0.5;
                let y = y.clamp(0.0, f64::from(height)).ceil() as u32;
                crossings.push((left / 5) as u32 * height + y);
            }
        }
        previous = Some((u, v));
    };
    for edge in points.windows(2) {
        walk(edge[0], edge[1], &mut visit);
    }

    crossings.push(height * width);
    crossings.sort_unstable();
    let mut runs = Vec::with_capacity(crossings.len());
    let mut before = 0;
    for &at in &crossings {
        runs.push(at - before);
        before = at;
    }
    // Two crossings at one place cancel out: an empty run joins its neighbours.
    let mut counts = vec![runs[0]];
    let mut i = 1;
    while i < runs.len() {
        if runs[i] > 0 {
            counts.push(runs[i]);
        } else {
            i += 1;
            if let (Some(last), Some(run)) = (counts.last_mut(), runs.get(i)) {
                *last += run;
            }
        }
        i += 1;
    }
    Ok(Rle::from_trusted(height, width, counts))
}

/// Visits the grid points of an edge, both ends included, stepping along its longer side.
fn walk((xs, ys): (i64, i64), (xe, ye): (i64, i64), visit: &mut impl FnMut(i64, i64)) {
    let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
    let flip = (dx >= dy && xs > xe) || (dx < dy && ys > ye);
    let ((xs, ys), (xe, ye)) = if flip { ((xe, ye), (xs, ys)) } else { ((xs, ys), (xe, ye)) };
    if dx >= dy {
        let slope = if dx == 0 { 0.0 } else { (ye - ys) as f64 / dx as f64 };
        for d in 0..=dx {
            let t = if flip { dx - d } else { d };
            visit(t + xs, (ys as f64 + slope * t as f64 + 0.5) as i64);
        }
    } else {
        let slope = (xe - xs) as f64 / dy as f64;
        for d in 0..=dy {
            let t = if flip { dy - d } else { d };
            visit((xs as f64 + slope * t as f64 + 0.5) as i64, t + ys);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_box_covers_its_pixels() {
        let rle = rasterize_polygon(&[1., 1., 4., 1., 4., 3., 1., 3.], 5, 7).unwrap();
        assert_eq!(rle.area(), 6);
        let b = rle.bounding_box().unwrap();
        assert_eq!((b.x, b.y, b.width, b.height), (1, 1, 3, 2));
    }

    #[test]
    fn hostile_coordinates_are_an_error_not_an_hour() {
        for far in [1e300, -1e300, 1e8, f64::INFINITY] {
            assert!(rasterize_polygon(&[0., 0., far, 1., 3., 3.], 10, 10).is_err(), "{far}");
        }
        let _ = rasterize_polygon(&[f64::NAN; 8], 10, 10);
        assert!(rasterize_polygon(&[], 10, 10).is_err());
        let zigzag: Vec<f64> = (0..200_000).map(|i| f64::from(i % 3) * 1e4).collect();
        assert!(rasterize_polygon(&zigzag, 10, 10).is_err());
    }

    proptest! {
        #[test]
        fn any_polygon_makes_a_whole_mask(
            points in proptest::collection::vec(-30.0f64..60.0, 2..30), h in 1u32..40, w in 1u32..40,
        ) {
            let rle = rasterize_polygon(&points, h, w).unwrap();
            prop_assert_eq!(rle.counts().iter().sum::<u32>(), h * w);
        }
    }
}
