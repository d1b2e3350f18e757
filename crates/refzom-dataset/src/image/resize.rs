//! Antialiased bilinear resize of 8-bit RGB, equal bit for bit to Pillow (`Image.BILINEAR`, `Resample.c`):
//! one pass along rows and one along columns, each with 22-bit fixed-point weights and one rounding to 8 bits.
//!
//! Pillow up to 12 goes along rows first. Pillow 13 goes along columns first where the height shrinks by more than twice
//! what the width does, which changes about a fifth of the bytes of such a picture by 1. Both are here; the recorded
//! results of the reference are the same with both (its pictures are not that tall).

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::passes::resize;

pub(super) const PRECISION: u32 = 22;
pub(super) const HALF: i32 = 1 << (PRECISION - 1);

/// Which resize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// As Pillow up to version 12: what the published checkpoints were trained with.
    #[default]
    Pillow10,
    /// As Pillow 13.
    Pillow13,
    /// Not antialiased along the way: every destination pixel from its four neighbours only, as OpenCV's `INTER_LINEAR`.
    /// Cheaper, and other pixels: on the photos of data/coco33 at 480 x 480, 0.82 levels of 255 off on average and 62 at most.
    /// The share of the time is small, so use it where another pipeline must be met.
    FourNeighbours,
}

/// Weights of the source pixels for every destination pixel along one axis.
pub(super) struct Weights {
    /// Per destination pixel: first source pixel, number of source pixels.
    bounds: Vec<(usize, usize)>,
    /// `stride` numbers per destination pixel.
    fixed: Vec<i32>,
    stride: usize,
}

impl Weights {
    pub(super) fn triangle(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        Self::of_support(from, to, scale.max(1.0))
    }

    fn of_support(from: usize, to: usize, support: f64) -> Self {
        let scale = from as f64 / to as f64;
        let inverse = 1.0 / support;
        let stride = support.ceil() as usize * 2 + 1;
        let mut bounds = Vec::with_capacity(to);
        let mut fixed = vec![0i32; to * stride];
        let mut taps = vec![0f64; stride];
        for (i, row) in fixed.chunks_exact_mut(stride).enumerate() {
            let center = (i as f64 + 0.5) * scale;
            // Truncation towards zero, then clipping: as in C.
            let first = ((center - support + 0.5) as i64).max(0) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            let count = last - first;
            let mut sum = 0.0;
            for (x, tap) in taps[..count].iter_mut().enumerate() {
                let distance = (((x + first) as f64 - center + 0.5) * inverse).abs();
                *tap = if distance < 1.0 { 1.0 - distance } else { 0.0 };
                sum += *tap;
            }
            for (weight, tap) in row.iter_mut().zip(&taps[..count]) {
                let tap = if sum == 0.0 { *tap } else { *tap / sum };
                *weight = (0.5 + tap * f64::from(1 << PRECISION)) as i32;
            }
            bounds.push((first, count));
        }
        Self { bounds, fixed, stride }
    }

    /// Number of destination pixels.
    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// First source pixel and weights of every destination pixel.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let rows = self.fixed.chunks_exact(self.stride);
        self.bounds.iter().zip(rows).map(|(&(first, count), row)| (first, &row[..count]))
    }
}

/// Resizes to `height` x `width` pixels as Pillow 10 does; the aspect is not kept. A side of 0 becomes 1.
pub fn resize_bilinear(picture: &RgbImage, height: u32, width: u32) -> RgbImage {
    resize_with(picture, height, width, Resampling::Pillow10)
}

/// As [`resize_bilinear`], with a choice.
pub fn resize_with(picture: &RgbImage, height: u32, width: u32, how: Resampling) -> RgbImage {
    let (height, width) = (height.max(1), width.max(1));
    let mut bytes = Vec::with_capacity(height as usize * width as usize * 3);
    resize_rows(picture, height, width, how, |row| bytes.extend_from_slice(row));
    RgbImage::from_raw(width, height, bytes).expect("every destination pixel was written")
}

/// As [`resize_with`], but hands over row by row (`3 * width` bytes each). No side is 0.
pub(super) fn resize_rows(
    picture: &RgbImage,
    height: u32,
    width: u32,
    how: Resampling,
    mut each: impl FnMut(&[u8]),
) {
    let (h, w) = (picture.height() as usize, picture.width() as usize);
    let (to_h, to_w) = (height as usize, width as usize);
    if h == 0 || w == 0 {
        let row = vec![0; to_w * 3];
        (0..to_h).for_each(|_| each(&row));
        return;
    }
    let weights = |from, to| match how {
        Resampling::FourNeighbours => Weights::of_support(from, to, 1.0),
        _ => Weights::triangle(from, to),
    };
    let columns_first =
        how == Resampling::Pillow13 && to_h < h && h - to_h > 2 * w.saturating_sub(to_w);
    let rows = (w != to_w).then(|| weights(w, to_w));
    let columns = (h != to_h).then(|| weights(h, to_h));
    let source = picture.as_raw().as_slice();
    if columns_first && rows.is_some() {
        let mut between = Vec::with_capacity(to_h * w * 3);
        resize(source, w, [None, columns.as_ref()], |row| between.extend_from_slice(row));
        resize(&between, w, [rows.as_ref(), None], each);
    } else {
        resize(source, w, [rows.as_ref(), columns.as_ref()], each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_published_example_of_pillow() {
        // python-pillow/Pillow issue 5952: 3x3 to 5x5.
        let gray = [181u8, 66, 39, 114, 179, 115, 55, 178, 227];
        let mut picture = RgbImage::new(3, 3);
        for (pixel, g) in picture.pixels_mut().zip(gray) {
            *pixel = image::Rgb([g; 3]);
        }
        let resized = resize_bilinear(&picture, 5, 5);
        let first: Vec<u8> = resized.pixels().map(|p| p.0[0]).collect();
        let expected = [
            181, 135, 66, 50, 39, 154, 137, 111, 86, 69, 114, 140, 179, 141, 115, 79, 118, 178,
            181, 182, 55, 104, 178, 207, 227,
        ];
        assert_eq!(first, expected);
    }

    proptest! {
        #[test]
        fn a_constant_stays_constant(
            value in any::<[u8; 3]>(), h in 1u32..40, w in 1u32..40, to_h in 1u32..60, to_w in 1u32..60,
        ) {
            let picture = RgbImage::from_pixel(w, h, image::Rgb(value));
            for how in [Resampling::Pillow10, Resampling::Pillow13, Resampling::FourNeighbours] {
                let resized = resize_with(&picture, to_h, to_w, how);
                prop_assert_eq!(resized.dimensions(), (to_w, to_h));
                prop_assert!(resized.pixels().all(|p| p.0 == value));
            }
        }
    }
}
