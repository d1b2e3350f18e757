//! The two passes of the resize, on plain loops and, where the processor has AVX2, on the same loops in wider registers.
//!
//! All sums are of 32-bit integers, so both give the same bytes.

use super::resize::{HALF, PRECISION, Weights};

/// Bytes of a row that a column pass sums up at a time: few enough to stay in registers.
const LANES: usize = 32;

/// `(h, w, 3)` to `(h, weights.len(), 3)`.
pub(super) fn along_rows(pixels: &[u8], w: usize, weights: &Weights) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::along_rows(pixels, w, weights) };
    }
    rows(pixels, w, weights)
}

/// `(h, row_bytes)` to `(weights.len(), row_bytes)`.
pub(super) fn along_columns(pixels: &[u8], row_bytes: usize, weights: &Weights) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::along_columns(pixels, row_bytes, weights) };
    }
    columns(pixels, row_bytes, weights)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Weights;

    #[target_feature(enable = "avx2")]
    pub(super) fn along_rows(pixels: &[u8], w: usize, weights: &Weights) -> Vec<u8> {
        super::rows(pixels, w, weights)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn along_columns(pixels: &[u8], row_bytes: usize, weights: &Weights) -> Vec<u8> {
        super::columns(pixels, row_bytes, weights)
    }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[inline(always)]
fn rows(pixels: &[u8], w: usize, weights: &Weights) -> Vec<u8> {
    let to = weights.len();
    let mut out = Vec::with_capacity(pixels.len() / w * to);
    // Pixels of four bytes: one register each. The fourth lane is never looked at.
    let mut wide = vec![0u8; w * 4];
    let mut narrow = vec![0u8; to * 4];
    for row in pixels.chunks_exact(w * 3) {
        for (four, three) in wide.as_chunks_mut::<4>().0.iter_mut().zip(row.as_chunks::<3>().0) {
            four[..3].copy_from_slice(three);
        }
        let source = wide.as_chunks::<4>().0;
        for ((first, taps), to) in weights.iter().zip(narrow.as_chunks_mut::<4>().0) {
            let mut sums = [HALF; 4];
            for (pixel, &tap) in source[first..first + taps.len()].iter().zip(taps) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(byte) * tap;
                }
            }
            *to = sums.map(clip);
        }
        for four in narrow.as_chunks::<4>().0 {
            out.extend_from_slice(&four[..3]);
        }
    }
    out
}

#[inline(always)]
fn columns(pixels: &[u8], row_bytes: usize, weights: &Weights) -> Vec<u8> {
    let mut out = vec![0; row_bytes * weights.len()];
    for ((first, taps), to) in weights.iter().zip(out.chunks_exact_mut(row_bytes)) {
        let window = &pixels[first * row_bytes..(first + taps.len()) * row_bytes];
        let (blocks, rest) = to.as_chunks_mut::<LANES>();
        for (i, block) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; LANES];
            for (row, &tap) in window.chunks_exact(row_bytes).zip(taps) {
                let bytes = &row[i * LANES..(i + 1) * LANES];
                for (sum, &byte) in sums.iter_mut().zip(bytes) {
                    *sum += i32::from(byte) * tap;
                }
            }
            *block = sums.map(clip);
        }
        let from = row_bytes - rest.len();
        for (x, byte) in rest.iter_mut().enumerate() {
            let column = window.chunks_exact(row_bytes).map(|row| i32::from(row[from + x]));
            *byte = clip(column.zip(taps).fold(HALF, |sum, (byte, tap)| sum + byte * tap));
        }
    }
    out
}
