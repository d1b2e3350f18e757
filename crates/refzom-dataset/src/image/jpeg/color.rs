//! YCbCr to RGB as libjpeg (`jdcolor.c`): 16-bit fixed-point factors, one rounding.

const R_CR: i32 = 91881; // 1.40200
const B_CB: i32 = 116130; // 1.77200
const G_CR: i32 = -46802; // -0.71414
const G_CB: i32 = -22554; // -0.34414
const HALF: i32 = 1 << 15;

/// Appends the pixels of three rows of one length. `wide`: the processor has AVX2.
#[inline(always)]
pub(super) fn append(luma: &[u8], cb: &[u8], cr: &[u8], wide: bool, rgb: &mut Vec<u8>) {
    let from = rgb.len();
    rgb.resize(from + luma.len() * 3, 0);
    let out = &mut rgb[from..];
    #[cfg(target_arch = "x86_64")]
    if wide {
        debug_assert!(std::arch::is_x86_feature_detected!("avx2"));
        // SAFETY: the caller has looked for AVX2.
        return unsafe { avx2::convert(luma, cb, cr, out) };
    }
    let _ = wide;
    plain(luma, cb, cr, out);
}

#[inline(always)]
fn plain(luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    for (((to, &y), &cb), &cr) in out.as_chunks_mut::<3>().0.iter_mut().zip(luma).zip(cb).zip(cr) {
        *to = pixel(y, cb, cr);
    }
}

#[inline(always)]
fn pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let byte = |v: i32| v.clamp(0, 255) as u8;
    [
        byte(y + ((cr * R_CR + HALF) >> 16)),
        byte(y + ((cb * G_CB + cr * G_CR + HALF) >> 16)),
        byte(y + ((cb * B_CB + HALF) >> 16)),
    ]
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Sixteen pixels at once in 16-bit numbers, with the arithmetic of libjpeg-turbo's `jdcolext`: factors are brought below one half,
    //! and what was taken off is added as whole numbers.
    use std::arch::x86_64::*;

    use super::{HALF, plain};

    const STEP: usize = 16;

    const F_0_228: i16 = 14942;
    const F_0_285: i32 = 18734;
    const F_0_344: i32 = 22554;
    const F_0_402: i16 = 26345;

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn convert(luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
        let (lumas, luma_rest) = luma.as_chunks::<STEP>();
        let (cbs, cb_rest) = cb.as_chunks::<STEP>();
        let (crs, cr_rest) = cr.as_chunks::<STEP>();
        let (steps, _) = out.as_chunks_mut::<{ 3 * STEP }>();
        for (((to, y), cb), cr) in steps.iter_mut().zip(lumas).zip(cbs).zip(crs) {
            let [r, g, b] = sixteen(y, cb, cr);
            for (part, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let pick =
                    |bytes, channel: usize| _mm_shuffle_epi8(bytes, load(&PICKS[part][channel]));
                let bytes = _mm_or_si128(_mm_or_si128(pick(r, 0), pick(g, 1)), pick(b, 2));
                // SAFETY: the array is as long as the register.
                unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) };
            }
        }
        let rest = lumas.len() * STEP * 3;
        plain(luma_rest, cb_rest, cr_rest, &mut out[rest..]);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: the array is as long as the register.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sixteen(y: &[u8; 16], cb: &[u8; 16], cr: &[u8; 16]) -> [__m128i; 3] {
        let middle = _mm256_set1_epi16(128);
        let y = _mm256_cvtepu8_epi16(load(y));
        let cb = _mm256_sub_epi16(_mm256_cvtepu8_epi16(load(cb)), middle);
        let cr = _mm256_sub_epi16(_mm256_cvtepu8_epi16(load(cr)), middle);
        // Twice the product, then half of it rounded.
        let one = _mm256_set1_epi16(1);
        let part = |c, factor| {
            let twice = _mm256_mulhi_epi16(_mm256_add_epi16(c, c), _mm256_set1_epi16(factor));
            _mm256_srai_epi16::<1>(_mm256_add_epi16(twice, one))
        };
        let red = _mm256_add_epi16(part(cr, F_0_402), cr);
        let blue = _mm256_add_epi16(part(cb, -F_0_228), _mm256_add_epi16(cb, cb));
        let factors = _mm256_set1_epi32((F_0_285 << 16) | (-F_0_344 & 0xffff));
        let part = |pairs| {
            let sum = _mm256_madd_epi16(pairs, factors);
            _mm256_srai_epi32::<16>(_mm256_add_epi32(sum, _mm256_set1_epi32(HALF)))
        };
        let green = _mm256_packs_epi32(
            part(_mm256_unpacklo_epi16(cb, cr)),
            part(_mm256_unpackhi_epi16(cb, cr)),
        );
        let green = _mm256_sub_epi16(green, cr);
        let bytes = |difference| {
            let words = _mm256_add_epi16(y, difference);
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_packus_epi16(low, high)
        };
        [bytes(red), bytes(green), bytes(blue)]
    }

    /// For each third of 48 bytes and each channel, which of its 16 bytes stands where; 128: none.
    const PICKS: [[[u8; 16]; 3]; 3] = {
        let mut picks = [[[128; 16]; 3]; 3];
        let mut at = 0;
        while at < 48 {
            picks[at / 16][at % 3][at % 16] = (at / 3) as u8;
            at += 1;
        }
        picks
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_plain_numbers_agree_on_all_colours() {
        #[cfg(target_arch = "x86_64")]
        let wide = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let wide = false;
        for cb in 0..=255u8 {
            let crs: Vec<u8> = (0..=255).chain(0..7).collect();
            let (cbs, lumas) = (vec![cb; crs.len()], vec![cb.wrapping_mul(77); crs.len()]);
            let (mut quick, mut slow) = (Vec::new(), vec![0; crs.len() * 3]);
            append(&lumas, &cbs, &crs, wide, &mut quick);
            plain(&lumas, &cbs, &crs, &mut slow);
            assert_eq!(quick, slow, "{cb}");
        }
    }
}
