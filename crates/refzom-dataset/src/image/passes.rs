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
    use std::arch::x86_64::*;

    use super::{HALF, PRECISION, Weights};

    /// Source pixels of a step: their 12 bytes lie in one half of a register.
    const TAPS: usize = 4;

    /// Bits of the lower part of a weight: both parts fit into 16 bits, of which `pmaddwd` multiplies and adds pairs.
    const LOWER: i32 = 11;

    /// Weights of [`TAPS`] pixels: upper parts of the first and the second pair, lower parts likewise.
    type Step = [[i16; 2]; 4];

    /// First source byte and the steps from there on, for every destination pixel.
    fn steps(weights: &Weights) -> (Vec<usize>, Vec<Step>, usize) {
        let most = weights.iter().map(|(_, taps)| taps.len().div_ceil(TAPS)).max().unwrap_or(0);
        let mut steps = Vec::with_capacity(weights.len() * most);
        for (_, taps) in weights.iter() {
            for step in 0..most {
                let tap = |i: usize| taps.get(step * TAPS + i).copied().unwrap_or(0);
                let upper = |i| (tap(i) >> LOWER) as i16;
                let lower = |i| (tap(i) & ((1 << LOWER) - 1)) as i16;
                steps.push([
                    [upper(0), upper(1)],
                    [upper(2), upper(3)],
                    [lower(0), lower(1)],
                    [lower(2), lower(3)],
                ]);
            }
        }
        (weights.iter().map(|(first, _)| first * 3).collect(), steps, most)
    }

    /// Two rows at once, one in each half of a register.
    #[target_feature(enable = "avx2")]
    pub(super) fn along_rows(pixels: &[u8], w: usize, weights: &Weights) -> Vec<u8> {
        let (firsts, steps, most) = steps(weights);
        let to = weights.len() * 3;
        let mut out = Vec::with_capacity(pixels.len() / (w * 3) * to);
        // Reading goes beyond the last pixel (with weights of 0), writing one byte beyond.
        let mut ends =
            [vec![0u8; w * 3 + TAPS * 3 * most + 4], vec![0u8; w * 3 + TAPS * 3 * most + 4]];
        let mut lines = [vec![0u8; to + 1], vec![0u8; to + 1]];
        for pair in pixels.chunks(w * 3 * 2) {
            let (first, second) = pair.split_at(w * 3);
            let second = if second.is_empty() { first } else { second };
            for (end, row) in ends.iter_mut().zip([first, second]) {
                end[..w * 3].copy_from_slice(row);
            }
            let [a, b] = &mut lines;
            for (i, (&from, steps)) in firsts.iter().zip(steps.chunks_exact(most)).enumerate() {
                let [low, high] = pixel_of_two([&ends[0][from..], &ends[1][from..]], steps);
                a[i * 3..i * 3 + 4].copy_from_slice(&low);
                b[i * 3..i * 3 + 4].copy_from_slice(&high);
            }
            out.extend_from_slice(&a[..to]);
            if pair.len() > w * 3 {
                out.extend_from_slice(&b[..to]);
            }
        }
        out
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn pixel_of_two(rows: [&[u8]; 2], steps: &[Step]) -> [[u8; 4]; 2] {
        // Red, green, blue of two neighbours side by side as 16-bit numbers.
        const FIRST: [i8; 16] = [0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1];
        const SECOND: [i8; 16] = [6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1];
        let first = _mm256_broadcastsi128_si256(load(&FIRST));
        let second = _mm256_broadcastsi128_si256(load(&SECOND));
        let (mut upper, mut lower) = (_mm256_setzero_si256(), _mm256_set1_epi32(HALF));
        for (i, step) in steps.iter().enumerate() {
            let bytes = _mm256_set_m128i(window(rows[1], i), window(rows[0], i));
            let (x, y) = (_mm256_shuffle_epi8(bytes, first), _mm256_shuffle_epi8(bytes, second));
            upper = _mm256_add_epi32(upper, _mm256_madd_epi16(x, everywhere(step[0])));
            upper = _mm256_add_epi32(upper, _mm256_madd_epi16(y, everywhere(step[1])));
            lower = _mm256_add_epi32(lower, _mm256_madd_epi16(x, everywhere(step[2])));
            lower = _mm256_add_epi32(lower, _mm256_madd_epi16(y, everywhere(step[3])));
        }
        let sums = _mm256_add_epi32(_mm256_slli_epi32::<LOWER>(upper), lower);
        let sums = _mm256_srai_epi32::<{ PRECISION as i32 }>(sums);
        let words = _mm256_packs_epi32(sums, sums);
        let bytes = _mm256_packus_epi16(words, words);
        let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
        [_mm_cvtsi128_si32(low).to_le_bytes(), _mm_cvtsi128_si32(high).to_le_bytes()]
    }

    // Closures and `map` would not be inlined: they lack the feature.

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[i8; 16]) -> __m128i {
        // SAFETY: the array is as long as the register.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    /// The bytes of a step.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn window(row: &[u8], step: usize) -> __m128i {
        let bytes: &[u8; 16] = row[step * TAPS * 3..].first_chunk().expect("rows end with padding");
        // SAFETY: the array is as long as the register.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn everywhere(pair: [i16; 2]) -> __m256i {
        _mm256_set1_epi32(i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16)
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
