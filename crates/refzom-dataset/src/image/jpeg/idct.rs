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

/// Dequantised coefficients in natural order to 8 x 8 samples at `out`, whose rows are `stride` apart.
#[inline(always)]
pub(super) fn inverse_dct(coefficients: &[i16; 64], out: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    sse2::inverse_dct(coefficients, out, stride);
    #[cfg(not(target_arch = "x86_64"))]
    plain(coefficients, out, stride);
}

/// The same for a block of which only the first coefficient is not 0.
#[inline(always)]
pub(super) fn inverse_dct_of_constant(first: i16, out: &mut [u8], stride: usize) {
    let first = i32::from(first) << PASS1_BITS;
    let first = first.clamp(i16::MIN.into(), i16::MAX.into());
    let sample = sample((first + (1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3));
    for row in out.chunks_mut(stride).take(8) {
        row[..8].fill(sample);
    }
}

#[inline(always)]
fn sample(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// One dimension, rounded down by `shift` bits.
#[cfg_attr(target_arch = "x86_64", allow(dead_code))] // there, the oracle of the test
fn one_dimension(x: [i16; 8], shift: i32) -> [i32; 8] {
    let [x0, x1, x2, x3, x4, x5, x6, x7] = x;
    let wide = |v: i16| i32::from(v);
    let (even0, even1) = (wide(x0.wrapping_add(x4)) << CONST_BITS, wide(x0.wrapping_sub(x4)) << CONST_BITS);
    let (x2, x6) = (wide(x2), wide(x6));
    let even2 = x2 * F_0_541 + x6 * (F_0_541 - F_1_847);
    let even3 = x2 * (F_0_541 + F_0_765) + x6 * F_0_541;
    let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
    let (z3, z4) = (wide(x7.wrapping_add(x3)), wide(x5.wrapping_add(x1)));
    let [x1, x3, x5, x7] = [x1, x3, x5, x7].map(wide);
    let (z3, z4) = (z3 * (F_1_175 - F_1_961) + z4 * F_1_175, z3 * F_1_175 + z4 * (F_1_175 - F_0_390));
    let odd = [
        x7 * -F_0_899 + x1 * (F_1_501 - F_0_899) + z4,
        x5 * -F_2_562 + x3 * (F_3_072 - F_2_562) + z3,
        x5 * (F_2_053 - F_2_562) + x3 * -F_2_562 + z4,
        x7 * (F_0_298 - F_0_899) + x1 * -F_0_899 + z3,
    ];
    let half = 1 << (shift - 1);
    std::array::from_fn(|i| {
        let sum = if i < 4 { even[i].wrapping_add(odd[i]) } else { even[7 - i].wrapping_sub(odd[7 - i]) };
        sum.wrapping_add(half) >> shift
    })
}

#[cfg_attr(target_arch = "x86_64", allow(dead_code))] // there, the oracle of the test
fn plain(coefficients: &[i16; 64], out: &mut [u8], stride: usize) {
    let mut between = [[0i16; 8]; 8];
    for x in 0..8 {
        let column = std::array::from_fn(|y| coefficients[y * 8 + x]);
        for (y, value) in one_dimension(column, CONST_BITS - PASS1_BITS).into_iter().enumerate() {
            between[y][x] = value.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }
    for (row, to) in between.into_iter().zip(out.chunks_mut(stride)) {
        for (value, byte) in one_dimension(row, CONST_BITS + PASS1_BITS + 3).into_iter().zip(to) {
            *byte = sample(value);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    //! Eight columns at once, in the registers that every such processor has.
    use std::arch::x86_64::*;

    use super::*;

    /// Pairs of factors for `pmaddwd`: of the lower and the upper one of two interleaved numbers.
    #[inline(always)]
    fn factors(lower: i32, upper: i32) -> __m128i {
        unsafe { _mm_set1_epi32((upper << 16) | (lower & 0xffff)) }
    }

    /// `shift` and rounding, then 16 bits.
    #[inline(always)]
    fn round<const SHIFT: i32>(low: __m128i, high: __m128i) -> __m128i {
        unsafe {
            let half = _mm_set1_epi32(1 << (SHIFT - 1));
            let low = _mm_srai_epi32::<SHIFT>(_mm_add_epi32(low, half));
            let high = _mm_srai_epi32::<SHIFT>(_mm_add_epi32(high, half));
            _mm_packs_epi32(low, high)
        }
    }

    #[inline(always)]
    fn one_dimension<const SHIFT: i32>(x: [__m128i; 8]) -> [__m128i; 8] {
        unsafe {
            let pairs = |a, b| (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
            let times = |(low, high): (__m128i, __m128i), by| (_mm_madd_epi16(low, by), _mm_madd_epi16(high, by));
            let plus = |a: (__m128i, __m128i), b: (__m128i, __m128i)| (_mm_add_epi32(a.0, b.0), _mm_add_epi32(a.1, b.1));
            let minus = |a: (__m128i, __m128i), b: (__m128i, __m128i)| (_mm_sub_epi32(a.0, b.0), _mm_sub_epi32(a.1, b.1));
            // 16 bits to the upper half of 32, then down to 13 bits of fraction.
            let widen = |v| {
                let zero = _mm_setzero_si128();
                let down = |v| _mm_srai_epi32::<{ 16 - CONST_BITS }>(v);
                (down(_mm_unpacklo_epi16(zero, v)), down(_mm_unpackhi_epi16(zero, v)))
            };
            let even0 = widen(_mm_add_epi16(x[0], x[4]));
            let even1 = widen(_mm_sub_epi16(x[0], x[4]));
            let z = pairs(x[2], x[6]);
            let even2 = times(z, factors(F_0_541, F_0_541 - F_1_847));
            let even3 = times(z, factors(F_0_541 + F_0_765, F_0_541));
            let even = [plus(even0, even3), plus(even1, even2), minus(even1, even2), minus(even0, even3)];
            let z = pairs(_mm_add_epi16(x[7], x[3]), _mm_add_epi16(x[5], x[1]));
            let z3 = times(z, factors(F_1_175 - F_1_961, F_1_175));
            let z4 = times(z, factors(F_1_175, F_1_175 - F_0_390));
            let (outer, inner) = (pairs(x[7], x[1]), pairs(x[5], x[3]));
            let odd = [
                plus(times(outer, factors(-F_0_899, F_1_501 - F_0_899)), z4),
                plus(times(inner, factors(-F_2_562, F_3_072 - F_2_562)), z3),
                plus(times(inner, factors(F_2_053 - F_2_562, -F_2_562)), z4),
                plus(times(outer, factors(F_0_298 - F_0_899, -F_0_899)), z3),
            ];
            let sum = |i: usize| { let s = plus(even[i], odd[i]); round::<SHIFT>(s.0, s.1) };
            let difference = |i: usize| { let s = minus(even[i], odd[i]); round::<SHIFT>(s.0, s.1) };
            [sum(0), sum(1), sum(2), sum(3), difference(3), difference(2), difference(1), difference(0)]
        }
    }

    #[inline(always)]
    fn transpose(x: [__m128i; 8]) -> [__m128i; 8] {
        unsafe {
            let a = [
                _mm_unpacklo_epi16(x[0], x[1]), _mm_unpackhi_epi16(x[0], x[1]),
                _mm_unpacklo_epi16(x[2], x[3]), _mm_unpackhi_epi16(x[2], x[3]),
                _mm_unpacklo_epi16(x[4], x[5]), _mm_unpackhi_epi16(x[4], x[5]),
                _mm_unpacklo_epi16(x[6], x[7]), _mm_unpackhi_epi16(x[6], x[7]),
            ];
            let b = [
                _mm_unpacklo_epi32(a[0], a[2]), _mm_unpackhi_epi32(a[0], a[2]),
                _mm_unpacklo_epi32(a[1], a[3]), _mm_unpackhi_epi32(a[1], a[3]),
                _mm_unpacklo_epi32(a[4], a[6]), _mm_unpackhi_epi32(a[4], a[6]),
                _mm_unpacklo_epi32(a[5], a[7]), _mm_unpackhi_epi32(a[5], a[7]),
            ];
            [
                _mm_unpacklo_epi64(b[0], b[4]), _mm_unpackhi_epi64(b[0], b[4]),
                _mm_unpacklo_epi64(b[1], b[5]), _mm_unpackhi_epi64(b[1], b[5]),
                _mm_unpacklo_epi64(b[2], b[6]), _mm_unpackhi_epi64(b[2], b[6]),
                _mm_unpacklo_epi64(b[3], b[7]), _mm_unpackhi_epi64(b[3], b[7]),
            ]
        }
    }

    #[inline(always)]
    pub(super) fn inverse_dct(coefficients: &[i16; 64], out: &mut [u8], stride: usize) {
        let rows = coefficients.as_chunks::<8>().0;
        // SAFETY: every such processor has SSE2, and a row is as wide as a register.
        let x = std::array::from_fn(|y| unsafe { _mm_loadu_si128(rows[y].as_ptr().cast()) });
        let x = transpose(one_dimension::<{ CONST_BITS - PASS1_BITS }>(x));
        let x = transpose(one_dimension::<{ CONST_BITS + PASS1_BITS + 3 }>(x));
        for (pair, to) in x.as_chunks::<2>().0.iter().zip(out.chunks_mut(2 * stride)) {
            // SAFETY: every such processor has SSE2.
            let (upper, lower) = unsafe {
                let bytes = _mm_packs_epi16(pair[0], pair[1]);
                let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(-128));
                (_mm_cvtsi128_si64(bytes), _mm_cvtsi128_si64(_mm_unpackhi_epi64(bytes, bytes)))
            };
            to[..8].copy_from_slice(&upper.to_le_bytes());
            to[stride..stride + 8].copy_from_slice(&lower.to_le_bytes());
        }
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
        for round in 0..2000 {
            let (spread, kept) = ([2, 30, 200, 1024, 40_000][round % 5], random() % 65);
            let mut block = [0i16; 64];
            for _ in 0..kept {
                block[random() as usize % 64] = (random() % (2 * spread + 1) - spread) as i16;
            }
            let (mut a, mut b) = ([0u8; 8 * 11], [0u8; 8 * 11]);
            inverse_dct(&block, &mut a, 11);
            plain(&block, &mut b, 11);
            assert_eq!(a, b, "{block:?}");
            let first = block[0];
            block = [0; 64];
            block[0] = first;
            inverse_dct_of_constant(first, &mut a, 11);
            plain(&block, &mut b, 11);
            assert_eq!(a, b, "{first}");
        }
    }
}
