//! Bytes to normalised floats, `(byte / 255 - mean) / std` in torchvision's arithmetic (float32, two divisions), and interleaved
//! channels to planes.
//!
//! A table of 256 numbers says it; where there are AVX2 and FMA, a division by a known number is a product, and two fused steps that
//! make it exact (Markstein). Whether that gives the table's bits is looked at for every mean and deviation.

use std::mem::MaybeUninit;

/// Mean and deviation of three channels, in tables.
pub(super) struct Normalizer {
    #[cfg(target_arch = "x86_64")]
    how: [(f32, f32); 3],
    tables: [[f32; 256]; 3],
    /// Whether registers give the same.
    #[cfg(target_arch = "x86_64")]
    wide: bool,
}

impl Normalizer {
    pub(super) fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let how = [0, 1, 2].map(|channel: usize| (mean[channel], std[channel]));
        let tables = how.map(|(mean, std)| {
            std::array::from_fn(|byte: usize| (byte as f32 / 255.0 - mean) / std)
        });
        #[cfg(target_arch = "x86_64")]
        let wide = {
            use std::arch::is_x86_feature_detected as has;
            // SAFETY: the processor has AVX2 and FMA.
            has!("avx2") && has!("fma") && unsafe { avx2::are_exact(how, &tables) }
        };
        Self {
            #[cfg(target_arch = "x86_64")]
            how,
            tables,
            #[cfg(target_arch = "x86_64")]
            wide,
        }
    }

    /// Appends a picture as three planes. `rows` hands over its rows, `height` of `width` pixels, to what it is given.
    pub(super) fn append(
        &self,
        (height, width): (usize, usize),
        out: &mut Vec<f32>,
        rows: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) {
        let plane = height * width;
        let from = out.len();
        out.reserve(3 * plane);
        let (red, rest) = out.spare_capacity_mut()[..3 * plane].split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let mut done = 0;
        rows(&mut |row| {
            let (pixels, to) = (row.as_chunks::<3>().0, done..done + width);
            assert_eq!(pixels.len(), width);
            let planes = [&mut red[to.clone()], &mut green[to.clone()], &mut blue[to]];
            self.row(pixels, planes);
            done += width;
        });
        assert_eq!(done, plane);
        // SAFETY: `row` writes all places of its planes, and the rows fill them.
        unsafe { out.set_len(from + 3 * plane) };
    }

    /// Writes all places of `planes`, each as long as `pixels`.
    fn row(&self, pixels: &[[u8; 3]], planes: [&mut [MaybeUninit<f32>]; 3]) {
        let mut done = 0;
        let [red, green, blue] = planes;
        #[cfg(target_arch = "x86_64")]
        if self.wide {
            // SAFETY: `new` has asked for AVX2 and FMA.
            done = unsafe { avx2::row(pixels, &self.how, [red, green, blue]) };
        }
        for (channel, plane) in [red, green, blue].into_iter().enumerate() {
            for (to, pixel) in plane[done..].iter_mut().zip(&pixels[done..]) {
                to.write(self.tables[channel][usize::from(pixel[channel])]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

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

    /// Whether all bytes come out as in the tables.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn are_exact(how: [(f32, f32); 3], tables: &[[f32; 256]; 3]) -> bool {
        let mut same = -1;
        for (how, table) in how.into_iter().zip(tables) {
            let mut x = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            for expected in table.as_chunks::<STEP>().0 {
                // SAFETY: the array is as long as the register.
                let expected = unsafe { _mm256_loadu_si256(expected.as_ptr().cast()) };
                let ours = _mm256_castps_si256(eight(x, how));
                same &= _mm256_movemask_epi8(_mm256_cmpeq_epi32(ours, expected));
                x = _mm256_add_epi32(x, _mm256_set1_epi32(STEP as i32));
            }
        }
        same == -1
    }

    /// The byte of `channel` of four pixels, each widened to 32 bits.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn pick(channel: usize) -> __m128i {
        let mut pick = [-1i8; 16];
        for pixel in 0..4 {
            pick[pixel * 4] = (pixel * 3 + channel) as i8;
        }
        // SAFETY: the array is as long as the register.
        unsafe { _mm_loadu_si128(pick.as_ptr().cast()) }
    }

    /// Writes the first pixels, and says how many.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn row(
        pixels: &[[u8; 3]],
        how: &[(f32, f32); 3],
        planes: [&mut [MaybeUninit<f32>]; 3],
    ) -> usize {
        let picks = [pick(0), pick(1), pick(2)];
        // Sixteen bytes are read for twelve: the last pixels are left to the tables.
        let steps = pixels.len().saturating_sub(2) / STEP;
        let [red, green, blue] = planes.map(|plane| plane.as_chunks_mut::<STEP>().0.iter_mut());
        for (step, ((red, green), blue)) in (0..steps).zip(red.zip(green).zip(blue)) {
            let ten: &[[u8; 3]; STEP + 2] =
                pixels[step * STEP..].first_chunk().expect("two pixels more were left");
            let bytes = ten.as_flattened();
            // SAFETY: bytes 0 to 16 and 12 to 28 are among 30.
            let (low, high) = unsafe {
                let low = _mm_loadu_si128(bytes.as_ptr().cast());
                (low, _mm_loadu_si128(bytes.as_ptr().add(12).cast()))
            };
            for ((to, &pick), &how) in [red, green, blue].into_iter().zip(&picks).zip(how) {
                let both =
                    _mm256_set_m128i(_mm_shuffle_epi8(high, pick), _mm_shuffle_epi8(low, pick));
                // SAFETY: the array is as long as the register.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr().cast(), eight(both, how)) };
            }
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
        for (mean, std) in
            [([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ([0.5, 0.0, -3.0], [0.5, 1e-30, 1e30])]
        {
            let normalizer = Normalizer::new(mean, std);
            for (height, width) in [
                (0, 0),
                (1, 1),
                (7, 1),
                (1, 8),
                (2, 9),
                (3, 10),
                (1, 11),
                (4, 18),
                (1, pixels.len()),
            ] {
                let pixels = &pixels[..height * width];
                let mut out = vec![1.0];
                normalizer.append((height, width), &mut out, |each| {
                    pixels.as_flattened().chunks_exact(3 * width.max(1)).for_each(each)
                });
                let expected = (0..3).flat_map(|channel| {
                    pixels.iter().map(move |pixel| {
                        (f32::from(pixel[channel]) / 255.0 - mean[channel]) / std[channel]
                    })
                });
                assert!(out[1..].iter().map(|v| v.to_bits()).eq(expected.map(f32::to_bits)));
            }
        }
    }
}
