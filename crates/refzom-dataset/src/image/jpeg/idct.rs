//! The inverse DCT of libjpeg's `jidctint.c` ("islow", Loeffler, Ligtenberg and Moschytz), with the 16-bit saturation of libjpeg-turbo's
//! SIMD code. Whole numbers throughout: both forms below give the same bytes.

const CONST_BITS: i32 = 13;
const PASS1_BITS: i32 = 2;

const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

/// Two blocks of coefficients and their steps, in natural order, to two times 8 x 8 samples. `wide`: the processor has AVX2.
#[inline(always)]
pub(super) fn inverse_dct(
    blocks: [&[i16; 64]; 2],
    steps: [&[i16; 64]; 2],
    wide: bool,
) -> [[u8; 64]; 2] {
    #[cfg(target_arch = "x86_64")]
    if wide {
        debug_assert!(std::arch::is_x86_feature_detected!("avx2"));
        // SAFETY: the caller has looked for AVX2.
        return unsafe { avx2::inverse_dct(blocks, steps) };
    }
    let _ = wide;
    [plain(blocks[0], steps[0]), plain(blocks[1], steps[1])]
}

#[inline(always)]
fn sample(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

fn plain(coefficients: &[i16; 64], steps: &[i16; 64]) -> [u8; 64] {
    let mut block = [[0i16; 8]; 8];
    let values = coefficients.as_chunks::<8>().0.iter().zip(steps.as_chunks::<8>().0);
    for (row, (values, steps)) in block.iter_mut().zip(values) {
        for ((to, value), step) in row.iter_mut().zip(values).zip(steps) {
            *to = value.wrapping_mul(*step);
        }
    }
    let columns = along_columns(&block, CONST_BITS - PASS1_BITS);
    let narrow = |v: i32| v.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    let turned = std::array::from_fn(|x| std::array::from_fn(|y| narrow(columns[y][x])));
    let rows = along_columns(&turned, CONST_BITS + PASS1_BITS + 3);
    std::array::from_fn(|i| sample(rows[i % 8][i / 8]))
}

/// The transform of eight columns side by side, rounded down by `shift` bits.
fn along_columns(x: &[[i16; 8]; 8], shift: i32) -> [[i32; 8]; 8] {
    let half = 1 << (shift - 1);
    let mut out = [[0; 8]; 8];
    for i in 0..8 {
        let [x0, x1, x2, x3, x4, x5, x6, x7] = [0, 1, 2, 3, 4, 5, 6, 7].map(|row: usize| x[row][i]);
        let wide = |v: i16| i32::from(v);
        let even0 = wide(x0.wrapping_add(x4)) << CONST_BITS;
        let even1 = wide(x0.wrapping_sub(x4)) << CONST_BITS;
        let (z3, z4) = (wide(x7.wrapping_add(x3)), wide(x5.wrapping_add(x1)));
        let [x1, x2, x3, x5, x6, x7] = [x1, x2, x3, x5, x6, x7].map(wide);
        let even2 = x2 * F_0_541 + x6 * (F_0_541 - F_1_847);
        let even3 = x2 * (F_0_541 + F_0_765) + x6 * F_0_541;
        let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
        let a = z3 * (F_1_175 - F_1_961) + z4 * F_1_175;
        let b = z3 * F_1_175 + z4 * (F_1_175 - F_0_390);
        let odd = [
            x7 * -F_0_899 + x1 * (F_1_501 - F_0_899) + b,
            x5 * -F_2_562 + x3 * (F_3_072 - F_2_562) + a,
            x5 * (F_2_053 - F_2_562) + x3 * -F_2_562 + b,
            x7 * (F_0_298 - F_0_899) + x1 * -F_0_899 + a,
        ];
        for k in 0..4 {
            out[k][i] = even[k].wrapping_add(odd[k]).wrapping_add(half) >> shift;
            out[7 - k][i] = even[k].wrapping_sub(odd[k]).wrapping_add(half) >> shift;
        }
    }
    out
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Eight columns of two blocks at once: a block in each half of a register.
    use std::arch::x86_64::*;

    use super::*;

    type Wide = (__m256i, __m256i);

    /// Pairs of factors for `pmaddwd`: of the lower and the upper one of two interleaved numbers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn factors(lower: i32, upper: i32) -> __m256i {
        _mm256_set1_epi32((upper << 16) | (lower & 0xffff))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn pairs(a: __m256i, b: __m256i) -> Wide {
        (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn times(pairs: Wide, by: __m256i) -> Wide {
        (_mm256_madd_epi16(pairs.0, by), _mm256_madd_epi16(pairs.1, by))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn plus(a: Wide, b: Wide) -> Wide {
        (_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn minus(a: Wide, b: Wide) -> Wide {
        (_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1))
    }

    /// 16 bits to 32 with 13 bits of fraction.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn widen(v: __m256i) -> Wide {
        let (low, high) = pairs(_mm256_setzero_si256(), v);
        const DOWN: i32 = 16 - CONST_BITS;
        (_mm256_srai_epi32::<DOWN>(low), _mm256_srai_epi32::<DOWN>(high))
    }

    /// Rounded down by `SHIFT` bits, to 16.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn round<const SHIFT: i32>((low, high): Wide) -> __m256i {
        let half = _mm256_set1_epi32(1 << (SHIFT - 1));
        let low = _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(low, half));
        let high = _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(high, half));
        _mm256_packs_epi32(low, high)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn along_columns<const SHIFT: i32>(x: [__m256i; 8]) -> [__m256i; 8] {
        let even0 = widen(_mm256_add_epi16(x[0], x[4]));
        let even1 = widen(_mm256_sub_epi16(x[0], x[4]));
        let z = pairs(x[2], x[6]);
        let even2 = times(z, factors(F_0_541, F_0_541 - F_1_847));
        let even3 = times(z, factors(F_0_541 + F_0_765, F_0_541));
        let z = pairs(_mm256_add_epi16(x[7], x[3]), _mm256_add_epi16(x[5], x[1]));
        let a = times(z, factors(F_1_175 - F_1_961, F_1_175));
        let b = times(z, factors(F_1_175, F_1_175 - F_0_390));
        let (outer, inner) = (pairs(x[7], x[1]), pairs(x[5], x[3]));
        let odd0 = plus(times(outer, factors(-F_0_899, F_1_501 - F_0_899)), b);
        let odd1 = plus(times(inner, factors(-F_2_562, F_3_072 - F_2_562)), a);
        let odd2 = plus(times(inner, factors(F_2_053 - F_2_562, -F_2_562)), b);
        let odd3 = plus(times(outer, factors(F_0_298 - F_0_899, -F_0_899)), a);
        let (outer0, outer3) = (plus(even0, even3), minus(even0, even3));
        let (inner1, inner2) = (plus(even1, even2), minus(even1, even2));
        [
            round::<SHIFT>(plus(outer0, odd0)),
            round::<SHIFT>(plus(inner1, odd1)),
            round::<SHIFT>(plus(inner2, odd2)),
            round::<SHIFT>(plus(outer3, odd3)),
            round::<SHIFT>(minus(outer3, odd3)),
            round::<SHIFT>(minus(inner2, odd2)),
            round::<SHIFT>(minus(inner1, odd1)),
            round::<SHIFT>(minus(outer0, odd0)),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose(x: [__m256i; 8]) -> [__m256i; 8] {
        let (a0, a1) = pairs(x[0], x[1]);
        let (a2, a3) = pairs(x[2], x[3]);
        let (a4, a5) = pairs(x[4], x[5]);
        let (a6, a7) = pairs(x[6], x[7]);
        let (b0, b1) = (_mm256_unpacklo_epi32(a0, a2), _mm256_unpackhi_epi32(a0, a2));
        let (b2, b3) = (_mm256_unpacklo_epi32(a1, a3), _mm256_unpackhi_epi32(a1, a3));
        let (b4, b5) = (_mm256_unpacklo_epi32(a4, a6), _mm256_unpackhi_epi32(a4, a6));
        let (b6, b7) = (_mm256_unpacklo_epi32(a5, a7), _mm256_unpackhi_epi32(a5, a7));
        [
            _mm256_unpacklo_epi64(b0, b4),
            _mm256_unpackhi_epi64(b0, b4),
            _mm256_unpacklo_epi64(b1, b5),
            _mm256_unpackhi_epi64(b1, b5),
            _mm256_unpacklo_epi64(b2, b6),
            _mm256_unpackhi_epi64(b2, b6),
            _mm256_unpacklo_epi64(b3, b7),
            _mm256_unpackhi_epi64(b3, b7),
        ]
    }

    /// Row `y` of both blocks.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(blocks: [&[i16; 64]; 2], y: usize) -> __m256i {
        let row = |block: &[i16; 64]| {
            let row = &block.as_chunks::<8>().0[y];
            // SAFETY: a row is as long as the register.
            unsafe { _mm_loadu_si128(row.as_ptr().cast()) }
        };
        _mm256_set_m128i(row(blocks[1]), row(blocks[0]))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn inverse_dct(blocks: [&[i16; 64]; 2], steps: [&[i16; 64]; 2]) -> [[u8; 64]; 2] {
        let row = |y| _mm256_mullo_epi16(load(blocks, y), load(steps, y));
        let x = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
        let x = transpose(along_columns::<{ CONST_BITS - PASS1_BITS }>(x));
        let x = transpose(along_columns::<{ CONST_BITS + PASS1_BITS + 3 }>(x));
        let mut out = [[0; 64]; 2];
        for (i, pair) in x.as_chunks::<2>().0.iter().enumerate() {
            let bytes = _mm256_packs_epi16(pair[0], pair[1]);
            let bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
            let [first, second] = &mut out;
            for (to, half) in [
                (first, _mm256_castsi256_si128(bytes)),
                (second, _mm256_extracti128_si256::<1>(bytes)),
            ] {
                let to = &mut to.as_chunks_mut::<16>().0[i];
                // SAFETY: two rows are as long as the register.
                unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), half) };
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_plain_numbers_agree() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as i32
        };
        #[cfg(target_arch = "x86_64")]
        let wide = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let wide = false;
        for round in 0..4000 {
            let (spread, kept) = ([2, 30, 200, 1024, 32_767][round % 5], random() % 65);
            let mut block = [0i16; 64];
            for _ in 0..kept {
                block[random() as usize % 64] = (random() % (2 * spread + 1) - spread) as i16;
            }
            let steps = std::array::from_fn(|_| (random() % 255 + 1) as i16);
            let first = std::array::from_fn(|i| if i == 0 { block[0] } else { 0 });
            let [a, b] = inverse_dct([&block, &first], [&steps, &[1; 64]], wide);
            assert_eq!(a, plain(&block, &steps), "{block:?}");
            assert_eq!(b, plain(&first, &[1; 64]), "{}", block[0]);
        }
    }
}
