//! Polygon to run lengths (pycocotools' `rleFrPoly`): the outline runs on a grid five times as fine, and is sampled at pixel centres.
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
    for edge in points.windows(2) {
        cross(edge[0], edge[1], i64::from(width), |column, v| {
            let y = (v as f64 + 0.5) / SCALE - 0.5;
            let y = y.clamp(0.0, f64::from(height)).ceil() as u32;
            crossings.push(column as u32 * height + y);
        });
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

/// Says where an edge crosses the centres of columns 0 to `width`: column, and the upper one of the two grid points.
///
/// pycocotools walks all grid points, stepping along the longer side, and keeps the pairs whose columns are 5k + 2 and 5k + 3.
/// Those pairs are looked up here: an edge of a million pixels costs no more than the columns it crosses.
fn cross((xs, ys): (i64, i64), (xe, ye): (i64, i64), width: i64, mut found: impl FnMut(i64, i64)) {
    let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
    let flip = (dx >= dy && xs > xe) || (dx < dy && ys > ye);
    let ((xs, ys), (xe, ye)) = if flip { ((xe, ye), (xs, ys)) } else { ((xs, ys), (xe, ye)) };
    // Columns whose pair lies between two grid columns.
    let between = |from: i64, to: i64| {
        // Far coordinates are as good as those just outside, and do not overflow.
        let (from, to) = (from.clamp(2, 5 * width + 2), to.clamp(2, 5 * width + 2));
        let first = (from + 2) / 5;
        let last = (to - 3).div_euclid(5).min(width - 1);
        first..last + 1
    };
    if dx >= dy {
        let slope = if dx == 0 { 0.0 } else { (ye - ys) as f64 / dx as f64 };
        let v = |t: i64| (ys as f64 + slope * t as f64 + 0.5) as i64;
        for column in between(xs, xe) {
            let t = column * 5 + 2 - xs;
            found(column, v(t).min(v(t + 1)));
        }
    } else {
        let slope = (xe - xs) as f64 / dy as f64;
        let u = |t: i64| (xs as f64 + slope * t as f64 + 0.5) as i64;
        for column in between(u(0).min(u(dy)), u(0).max(u(dy))) {
            // The last point on the side of the first one; its columns never turn back.
            let is_before = |t: i64| (u(t) <= column * 5 + 2) == (slope > 0.0);
            let (mut before, mut behind) = (0, dy);
            while behind - before > 1 {
                let middle = (before + behind) / 2;
                if is_before(middle) { before = middle } else { behind = middle }
            }
            found(column, ys + before);
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
        for far in [f64::INFINITY, f64::NEG_INFINITY, 1.8e18, -1.8e18] {
            for polygon in [
                [far, far, far, far, far, far],
                [far, 1., far, 7., far, 3.],
                [1., far, 8., far, 3., far],
            ] {
                let rle = rasterize_polygon(&polygon, 10, 10).unwrap();
                assert!(
                    rle.area() <= 100 && rle.counts().iter().sum::<u32>() == 100,
                    "{polygon:?}"
                );
            }
        }
        assert!(rasterize_polygon(&[], 10, 10).is_err());
        let zigzag: Vec<f64> = (0..200_000).map(|i| f64::from(i % 3) * 1e4).collect();
        assert!(rasterize_polygon(&zigzag, 10, 10).is_err());
    }

    /// pycocotools' way: all grid points, one after the other.
    fn walk((xs, ys): (i64, i64), (xe, ye): (i64, i64), width: i64) -> Vec<(i64, i64)> {
        let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
        let flip = (dx >= dy && xs > xe) || (dx < dy && ys > ye);
        let ((xs, ys), (xe, ye)) = if flip { ((xe, ye), (xs, ys)) } else { ((xs, ys), (xe, ye)) };
        let point = |t: i64| {
            if dx >= dy {
                let slope = if dx == 0 { 0.0 } else { (ye - ys) as f64 / dx as f64 };
                (t + xs, (ys as f64 + slope * t as f64 + 0.5) as i64)
            } else {
                let slope = (xe - xs) as f64 / dy as f64;
                ((xs as f64 + slope * t as f64 + 0.5) as i64, t + ys)
            }
        };
        let mut found = Vec::new();
        for t in 0..dx.max(dy) {
            let ((pu, pv), (u, v)) = (point(t), point(t + 1));
            let left = u.min(pu);
            if u != pu && left >= 2 && left % 5 == 2 && left / 5 < width {
                found.push((left / 5, v.min(pv)));
            }
        }
        found
    }

    #[test]
    fn crossings_are_those_of_a_walk() {
        let mut state = 7u64;
        let mut random = move |below: i64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as i64 % below
        };
        for round in 0..40_000 {
            let reach = [3, 12, 60, 400, 3000][round % 5];
            let mut point = || (random(2 * reach) - reach / 3, random(2 * reach) - reach / 3);
            let (from, to) = (point(), point());
            let width = 1 + random(reach);
            let (mut ours, mut walked) = (Vec::new(), walk(from, to, width));
            cross(from, to, width, |column, v| ours.push((column, v)));
            ours.sort_unstable();
            walked.sort_unstable();
            assert_eq!(ours, walked, "{from:?} to {to:?}, {width} columns");
        }
    }

    /// Found by fuzzing: outlines just below the limit took a tenth of a second each.
    #[test]
    fn long_outlines_cost_what_they_cross() {
        let far = 1e6;
        let start = std::time::Instant::now();
        for _ in 0..2000 {
            rasterize_polygon(&[0., 0., far, 1., 9., -far, 1., far], 40, 60).unwrap();
            rasterize_polygon(&[3., far, 3., 1. - far, 9., 4.], 40, 60).unwrap();
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
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
