//! From the network's logits to an answer at the picture's own size.
//!
//! With two classes, `argmax` is the sign of the difference of the logits, and bilinear resizing is
//! linear: resizing the difference gives the same mask as resizing both. It is done row by row, so that
//! a picture of 100 megapixels costs one byte a pixel and no tensor.

use anyhow::{Result, ensure};
use refzom_dataset::Mask;

use crate::exit::bad_input;

/// The answer to one expression.
pub(crate) struct Found {
    /// At the picture's own size.
    pub(crate) mask: Mask,
    /// Mean foreground probability over the mask; without a foreground pixel the highest foreground
    /// probability anywhere. 0-1.
    pub(crate) score: f64,
}

/// `difference` is foreground minus background logit, `(height, width)` row-major; `size` the picture's
/// `(height, width)`. Pixel centres are at half coordinates and edges are repeated, the geometry in which
/// the picture was resized for the network.
///
/// # Errors
/// If the logits do not fill `extent`, or hold a value that is not finite.
pub(crate) fn at_size(
    difference: &[f32],
    extent: (usize, usize),
    size: (u32, u32),
) -> Result<Found> {
    let (h, w) = extent;
    ensure!(
        h > 0 && w > 0 && difference.len() == h * w,
        "{} logits do not fill {w}x{h}",
        difference.len()
    );
    if !difference.iter().all(|value| value.is_finite()) {
        return Err(bad_input!(
            "the network's output is not finite: its weights are damaged or training diverged; use another checkpoint"
        ));
    }
    let (height, width) = size;
    let columns: Vec<Tap> = (0..width).map(|x| Tap::of(x, width, w)).collect();
    let mut bits = vec![0u8; height as usize * width as usize];
    let mut row = vec![0f32; w];
    let (mut sum, mut count, mut highest) = (0f64, 0u64, f32::NEG_INFINITY);
    for (y, out) in bits.chunks_exact_mut((width as usize).max(1)).enumerate() {
        let tap = Tap::of(y as u32, height, h);
        let (upper, lower) = (&difference[tap.low * w..][..w], &difference[tap.high * w..][..w]);
        for ((value, &a), &b) in row.iter_mut().zip(upper).zip(lower) {
            *value = a + (b - a) * tap.weight;
        }
        for (bit, tap) in out.iter_mut().zip(&columns) {
            let (a, b) = (row[tap.low], row[tap.high]);
            let value = a + (b - a) * tap.weight;
            highest = highest.max(value);
            if value > 0.0 {
                *bit = 1;
                sum += sigmoid(value);
                count += 1;
            }
        }
    }
    let score = if count > 0 { sum / count as f64 } else { sigmoid(highest) };
    Ok(Found { mask: Mask::from_bits(height, width, bits)?, score })
}

/// The two source cells of a target pixel and the weight of the second.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

impl Tap {
    fn of(target: u32, targets: u32, cells: usize) -> Self {
        let position = (f64::from(target) + 0.5) * cells as f64 / f64::from(targets) - 0.5;
        let position = position.clamp(0.0, (cells - 1) as f64);
        let low = position.floor() as usize;
        Self { low, high: (low + 1).min(cells - 1), weight: (position - low as f64) as f32 }
    }
}

fn sigmoid(value: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(value)).exp())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn same_size_is_the_sign() {
        let found = at_size(&[1.0, -1.0, 0.0, 2.0, -3.0, 4.0], (2, 3), (2, 3)).unwrap();
        assert_eq!(found.mask.bits(), [1, 0, 0, 1, 0, 1]);
        let expected = (sigmoid(1.0) + sigmoid(2.0) + sigmoid(4.0)) / 3.0;
        assert!((found.score - expected).abs() < 1e-12);
    }

    /// torch 2: `F.interpolate([[-1., 1.]], size=4, mode="bilinear", align_corners=False)` = -1, -0.5, 0.5, 1.
    #[test]
    fn geometry_is_half_pixel() {
        let found = at_size(&[-1.0, 1.0], (1, 2), (1, 4)).unwrap();
        assert_eq!(found.mask.bits(), [0, 0, 1, 1]);
        let expected = (sigmoid(0.5) + sigmoid(1.0)) / 2.0;
        assert!((found.score - expected).abs() < 1e-12);
    }

    #[test]
    fn nothing_found_scores_the_highest_probability() {
        let found = at_size(&[-1.0, -2.0, -3.0, -4.0], (2, 2), (5, 7)).unwrap();
        assert_eq!(found.mask.area(), 0);
        assert!((found.score - sigmoid(-1.0)).abs() < 1e-12);
    }

    #[test]
    fn any_size_works_and_damage_is_named() {
        for size in [(1, 1), (1, 4000), (3, 2)] {
            assert_eq!(
                at_size(&[1.0; 6], (2, 3), size).unwrap().mask.area(),
                u64::from(size.0 * size.1)
            );
        }
        let message = at_size(&[f32::NAN], (1, 1), (1, 1)).err().unwrap().to_string();
        assert!(message.contains("not finite"), "{message}");
        assert!(at_size(&[1.0], (2, 1), (1, 1)).is_err());
    }
}
