//! Bytes of one channel to normalised floats, `(byte / 255 - mean) / std` in torchvision's arithmetic (float32, two divisions).
//!
//! A table of 256 numbers says it; where there are AVX2 and FMA, a division by a known number is a product, and two fused steps that
//! make it exact (Markstein). Whether that gives the table's bits is looked at for every mean and deviation.

/// Appends channel `channel` of `pixels`.
pub(super) fn append_channel(
    pixels: &[[u8; 3]],
    channel: usize,
    (mean, std): (f32, f32),
    out: &mut Vec<f32>,
) {
    let table: [f32; 256] = std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has AVX2 and FMA.
        done = unsafe { avx2::append(pixels, channel, (mean, std), &table, out) };
    }
    out.extend(pixels[done..].iter().map(|pixel| table[usize::from(pixel[channel])]));
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    /// Pixels of a step.
    const STEP: usize = 8;

    /// `(x / 255 - mean) / std` of eight whole numbers.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn eight(x: __m256i, (mean, std): (f32, f32)) -> __m256 {
        let x = _mm256_cvtepi32_ps(x);
        let centered = _mm256_sub_ps(divide(x, 255.0), _mm256_set1_ps(mean));
        divide(centered, std)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn divide(x: __m256, by: f32) -> __m256 {
        let (by, inverse) = (_mm256_set1_ps(by), _mm256_set1_ps(1.0 / by));
        let guess = _mm256_mul_ps(x, inverse);
        _mm256_fmadd_ps(_mm256_fnmadd_ps(guess, by, x), inverse, guess)
    }

    /// Whether all bytes come out as in the table.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn is_exact(how: (f32, f32), table: &[f32; 256]) -> bool {
        let (mut x, mut same) = (_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), -1);
        for expected in table.as_chunks::<STEP>().0 {
            // SAFETY: the array is as long as the register.
            let expected = unsafe { _mm256_loadu_si256(expected.as_ptr().cast()) };
            let ours = _mm256_castps_si256(eight(x, how));
            same &= _mm256_movemask_epi8(_mm256_cmpeq_epi32(ours, expected));
            x = _mm256_add_epi32(x, _mm256_set1_epi32(STEP as i32));
        }
        same == -1
    }

    /// Appends the first pixels, and says how many.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn append(
        pixels: &[[u8; 3]],
        channel: usize,
        how: (f32, f32),
        table: &[f32; 256],
        out: &mut Vec<f32>,
    ) -> usize {
        if !is_exact(how, table) {
            return 0;
        }
        // The channel's byte of four pixels, each widened to 32 bits.
        let mut pick = [-1i8; 16];
        for pixel in 0..4 {
            pick[pixel * 4] = (pixel * 3 + channel) as i8;
        }
        // SAFETY: the array is as long as the register.
        let pick = unsafe { _mm_loadu_si128(pick.as_ptr().cast()) };
        out.reserve(pixels.len());
        // Sixteen bytes are read for twelve: the last pixels are left to the table.
        let steps = pixels.len().saturating_sub(2) / STEP;
        for step in 0..steps {
            let ten: &[[u8; 3]; STEP + 2] =
                pixels[step * STEP..].first_chunk().expect("two pixels more were left");
            let bytes = ten.as_flattened();
            let mut eight_floats = [0f32; STEP];
            // SAFETY: bytes 0 to 16 and 12 to 28 are among 30, and the array is as long as the register.
            unsafe {
                let low = _mm_loadu_si128(bytes.as_ptr().cast());
                let high = _mm_loadu_si128(bytes.as_ptr().add(12).cast());
                let both =
                    _mm256_set_m128i(_mm_shuffle_epi8(high, pick), _mm_shuffle_epi8(low, pick));
                _mm256_storeu_ps(eight_floats.as_mut_ptr(), eight(both, how));
            }
            out.extend_from_slice(&eight_floats);
        }
        steps * STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_out_as_two_divisions_make_it() {
        let pixels: Vec<[u8; 3]> =
            (0..=255u8).chain(0..7).map(|b| [b, b.wrapping_mul(3), 255 - b]).collect();
        for how in
            [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225), (0.5, 0.5), (0.0, 1e-30), (-3.0, 1e30)]
        {
            for count in [0, 1, 7, 8, 9, 10, 11, 18, pixels.len()] {
                for channel in 0..3 {
                    let mut out = vec![1.0];
                    append_channel(&pixels[..count], channel, how, &mut out);
                    let expected = pixels[..count]
                        .iter()
                        .map(|pixel| (f32::from(pixel[channel]) / 255.0 - how.0) / how.1);
                    assert!(out[1..].iter().map(|v| v.to_bits()).eq(expected.map(f32::to_bits)));
                }
            }
        }
    }
}
