//! The two passes of the resize: plain loops, and where the processor has AVX2 a pixel a register (rows) or the same loops in
//! wider registers (columns).
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
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_cvtepu8_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_mullo_epi32,
        _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi32, _mm_srai_epi32,
    };

    use super::{HALF, PRECISION, Weights};

    #[target_feature(enable = "avx2")]
    pub(super) fn along_rows(pixels: &[u8], w: usize, weights: &Weights) -> Vec<u8> {
        let to = weights.len();
        let mut out = Vec::with_capacity(pixels.len() / w * to);
        // A pixel is read and written with the byte after it: one byte more at the ends.
        let mut source = vec![0u8; w * 3 + 1];
        let mut line = vec![0u8; to * 3 + 1];
        for row in pixels.chunks_exact(w * 3) {
            source[..w * 3].copy_from_slice(row);
            for (i, (first, taps)) in weights.iter().enumerate() {
                let window = &source[first * 3..(first + taps.len()) * 3 + 1];
                let mut sums = _mm_set1_epi32(HALF);
                for (bytes, &tap) in window.windows(4).step_by(3).zip(taps) {
                    let bytes = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    let four = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
                    sums = _mm_add_epi32(sums, _mm_mullo_epi32(four, _mm_set1_epi32(tap)));
                }
                let sums = _mm_srai_epi32::<{ PRECISION as i32 }>(sums);
                let words = _mm_packs_epi32(sums, sums);
                let bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
                line[i * 3..i * 3 + 4].copy_from_slice(&bytes.to_le_bytes());
            }
            out.extend_from_slice(&line[..to * 3]);
        }
        out
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

fn rows(pixels: &[u8], w: usize, weights: &Weights) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / w * weights.len());
    for row in pixels.chunks_exact(w * 3) {
        for (first, taps) in weights.iter() {
            let mut sums = [HALF; 3];
            let window = row[first * 3..(first + taps.len()) * 3].as_chunks::<3>().0;
            for (pixel, &tap) in window.iter().zip(taps) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(byte) * tap;
                }
            }
            out.extend(sums.map(clip));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wide_registers_change_nothing(
            h in 1usize..20, w in 1usize..90, to in 1usize..120, seed in any::<u32>(),
        ) {
            let byte = |i: usize| (seed.wrapping_mul(i as u32 * 2 + 1) >> 24) as u8;
            let pixels: Vec<u8> = (0..h * w * 3).map(byte).collect();
            let weights = Weights::triangle(w, to);
            prop_assert_eq!(along_rows(&pixels, w, &weights), rows(&pixels, w, &weights));
            let weights = Weights::triangle(h, to);
            prop_assert_eq!(
                along_columns(&pixels, w * 3, &weights),
                columns(&pixels, w * 3, &weights)
            );
        }
    }
}
