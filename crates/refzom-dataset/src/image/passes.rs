//! The two passes of the resize: plain loops, and where the processor has AVX2, registers of 32 bytes.
//!
//! All sums are of 32-bit integers, so both give the same bytes. Rows go into the second pass while they are in the nearest cache:
//! of the picture between the passes, only what the next row needs is kept.

use super::resize::{HALF, PRECISION, Weights};

/// Bytes of a row that a column pass sums up at a time.
const LANES: usize = 32;

/// Whether the processor has AVX2.
fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Resizes `(h, w, 3)` along rows, then along columns, and hands over row by row; `None`: not along these.
pub(super) fn resize(
    pixels: &[u8],
    w: usize,
    [rows, columns]: [Option<&Weights>; 2],
    mut each: impl FnMut(&[u8]),
) {
    match (rows, columns) {
        (None, None) => pixels.chunks_exact(w * 3).for_each(each),
        (None, Some(columns)) => {
            let mut out = vec![0; w * 3];
            for (first, taps) in columns.iter() {
                column(|i| &pixels[(first + i) * w * 3..][..w * 3], taps, &mut out, is_wide());
                each(&out);
            }
        }
        (Some(rows), None) => {
            let mut narrowed = Narrowed::new(pixels, w, rows, 2);
            for y in 0..pixels.len() / (w * 3) {
                narrowed.make(y + 1);
                each(narrowed.row(y));
            }
        }
        (Some(rows), Some(columns)) => {
            let most = columns.iter().map(|(_, taps)| taps.len()).max().unwrap_or(0);
            let mut narrowed = Narrowed::new(pixels, w, rows, most + 1);
            let mut out = vec![0; rows.len() * 3];
            for (first, taps) in columns.iter() {
                narrowed.make(first + taps.len());
                column(|i| narrowed.row(first + i), taps, &mut out, is_wide());
                each(&out);
            }
        }
    }
}

/// The picture after the first pass, of which the last rows are there.
struct Narrowed<'a> {
    pixels: &'a [u8],
    w: usize,
    weights: &'a Weights,
    #[cfg(target_arch = "x86_64")]
    wide: Option<avx2::Rows>,
    /// Bytes of a row.
    to: usize,
    /// Row `y` is at `y % held`.
    ring: Vec<u8>,
    held: usize,
    /// Rows made.
    made: usize,
}

impl<'a> Narrowed<'a> {
    /// `held`: how many rows are asked for after one another at most, and one.
    fn new(pixels: &'a [u8], w: usize, weights: &'a Weights, held: usize) -> Self {
        // Rows are made by twos.
        let (to, held) = (weights.len() * 3, held.next_multiple_of(2));
        Self {
            pixels,
            w,
            weights,
            #[cfg(target_arch = "x86_64")]
            wide: is_wide().then(|| avx2::Rows::new(w, weights)),
            to,
            ring: vec![0; held * to],
            held,
            made: 0,
        }
    }

    /// Makes the rows before `end` that are not there.
    fn make(&mut self, end: usize) {
        while self.made < end {
            let from = &self.pixels[self.made * self.w * 3..];
            let to = &mut self.ring[self.made % self.held * self.to..][..2 * self.to];
            let (first, second) = to.split_at_mut(self.to);
            #[cfg(target_arch = "x86_64")]
            if let Some(wide) = &mut self.wide {
                // SAFETY: it is only there if the processor has AVX2.
                unsafe { wide.two(from, self.w, [first, second]) };
                self.made += 2;
                continue;
            }
            for (row, to) in from.chunks_exact(self.w * 3).zip([first, second]) {
                along_row(row, self.weights, to);
            }
            self.made += 2;
        }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.ring[y % self.held * self.to..][..self.to]
    }
}

/// A row of the second pass: the sum of the rows `row(0)`, `row(1)`, ... with these weights.
fn column<'a>(row: impl Fn(usize) -> &'a [u8], taps: &[i32], out: &mut [u8], wide: bool) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if wide {
        // SAFETY: the caller has looked for AVX2.
        done = unsafe { avx2::column(&row, taps, out) };
    }
    let _ = wide;
    for (x, byte) in out.iter_mut().enumerate().skip(done) {
        let taps = taps.iter().enumerate();
        *byte = clip(taps.fold(HALF, |sum, (i, tap)| sum + i32::from(row(i)[x]) * tap));
    }
}

fn along_row(row: &[u8], weights: &Weights, to: &mut [u8]) {
    for ((first, taps), to) in weights.iter().zip(to.as_chunks_mut::<3>().0) {
        let mut sums = [HALF; 3];
        let window = row[first * 3..(first + taps.len()) * 3].as_chunks::<3>().0;
        for (pixel, &tap) in window.iter().zip(taps) {
            for (sum, &byte) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(byte) * tap;
            }
        }
        *to = sums.map(clip);
    }
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{HALF, LANES, PRECISION, Weights};

    /// Source pixels of a step: their 12 bytes lie in one half of a register.
    const TAPS: usize = 4;

    /// Pixels that are packed to bytes at once.
    const GROUP: usize = 4;

    /// Bits of the lower part of a weight: both parts fit into 16 bits, of which `pmaddwd` multiplies and adds pairs.
    const LOWER: i32 = 11;

    /// Weights of [`TAPS`] pixels: upper parts of the first and the second pair, lower parts likewise.
    type Step = [[i16; 2]; 4];

    /// Two rows, and the upper and the lower parts of their weights.
    type Pair<'a> = (&'a [u8], &'a [u8], [[i16; 2]; 2]);

    fn halves(a: i32, b: i32) -> [[i16; 2]; 2] {
        let lower = |tap: i32| (tap & ((1 << LOWER) - 1)) as i16;
        [[(a >> LOWER) as i16, (b >> LOWER) as i16], [lower(a), lower(b)]]
    }

    /// Weights and memory of the first pass.
    pub(super) struct Rows {
        /// First source byte of every destination pixel; whole groups.
        firsts: Vec<usize>,
        /// `most` for each.
        steps: Vec<Step>,
        most: usize,
        /// The last two rows, with room to read on.
        ends: [Vec<u8>; 2],
        /// Two rows of whole groups.
        lines: [Vec<u8>; 2],
    }

    impl Rows {
        pub(super) fn new(w: usize, weights: &Weights) -> Self {
            let most = weights.iter().map(|(_, taps)| taps.len().div_ceil(TAPS)).max().unwrap_or(0);
            let count = weights.len().next_multiple_of(GROUP);
            let mut steps = Vec::with_capacity(count * most);
            for (_, taps) in weights.iter() {
                for step in 0..most {
                    let tap = |i: usize| taps.get(step * TAPS + i).copied().unwrap_or(0);
                    let (near, far) = (halves(tap(0), tap(1)), halves(tap(2), tap(3)));
                    steps.push([near[0], far[0], near[1], far[1]]);
                }
            }
            steps.resize(count * most, Step::default());
            let mut firsts: Vec<usize> = weights.iter().map(|(first, _)| first * 3).collect();
            firsts.resize(count, 0);
            let room = w * 3 + most * TAPS * 3 + 4;
            let ends = [vec![0; room], vec![0; room]];
            Self {
                firsts,
                steps,
                most,
                ends,
                lines: [vec![0; count * 3 + 4], vec![0; count * 3 + 4]],
            }
        }

        /// The first two rows of `pixels`, or the first one twice.
        #[target_feature(enable = "avx2")]
        pub(super) fn two(&mut self, pixels: &[u8], w: usize, to: [&mut [u8]; 2]) {
            let second = if pixels.len() < 2 * w * 3 { 0 } else { w * 3 };
            let mut rows = [pixels, &pixels[second..]];
            // Reading goes beyond the last pixel of a row, with weights of 0.
            if rows[1].len() < self.ends[1].len() {
                for (end, row) in self.ends.iter_mut().zip(rows) {
                    end[..w * 3].copy_from_slice(&row[..w * 3]);
                }
                rows = [&self.ends[0], &self.ends[1]];
            }
            let groups = self.firsts.as_chunks::<GROUP>().0;
            let [low, high] = &mut self.lines;
            // The usual numbers of steps as constants.
            match self.most {
                1 => narrow::<1>(rows, groups, &self.steps, 1, [low, high]),
                2 => narrow::<2>(rows, groups, &self.steps, 2, [low, high]),
                most => narrow::<0>(rows, groups, &self.steps, most, [low, high]),
            }
            for (to, line) in to.into_iter().zip(&self.lines) {
                to.copy_from_slice(&line[..to.len()]);
            }
        }
    }

    /// Group by group of destination pixels, given by their first bytes and `most` steps each; `MOST` is `most` or 0.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn narrow<const MOST: usize>(
        rows: [&[u8]; 2],
        groups: &[[usize; GROUP]],
        steps: &[Step],
        most: usize,
        [low, high]: [&mut [u8]; 2],
    ) {
        // Red, green, blue of two neighbours side by side as 16-bit numbers; and without the fourth number.
        const FIRST: [i8; 16] = [0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1];
        const SECOND: [i8; 16] = [6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1];
        const THREE: [i8; 16] = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1];
        let first = _mm256_broadcastsi128_si256(load(&FIRST));
        let second = _mm256_broadcastsi128_si256(load(&SECOND));
        let three = _mm256_broadcastsi128_si256(load(&THREE));
        let most = if MOST > 0 { MOST } else { most };
        for (i, (firsts, steps)) in groups.iter().zip(steps.chunks_exact(GROUP * most)).enumerate()
        {
            // Of the first row in the lower half, of the second one in the upper.
            let mut sums = [_mm256_setzero_si256(); GROUP];
            for ((sum, &from), steps) in sums.iter_mut().zip(firsts).zip(steps.chunks_exact(most)) {
                let (mut upper, mut lower) = (_mm256_setzero_si256(), _mm256_set1_epi32(HALF));
                for (k, step) in steps.iter().enumerate() {
                    let at = from + k * TAPS * 3;
                    let bytes = _mm256_set_m128i(window(rows[1], at), window(rows[0], at));
                    let x = _mm256_shuffle_epi8(bytes, first);
                    let y = _mm256_shuffle_epi8(bytes, second);
                    upper = _mm256_add_epi32(upper, _mm256_madd_epi16(x, everywhere(step[0])));
                    upper = _mm256_add_epi32(upper, _mm256_madd_epi16(y, everywhere(step[1])));
                    lower = _mm256_add_epi32(lower, _mm256_madd_epi16(x, everywhere(step[2])));
                    lower = _mm256_add_epi32(lower, _mm256_madd_epi16(y, everywhere(step[3])));
                }
                *sum = joined(upper, lower);
            }
            let bytes = _mm256_packus_epi16(
                _mm256_packs_epi32(sums[0], sums[1]),
                _mm256_packs_epi32(sums[2], sums[3]),
            );
            let bytes = _mm256_shuffle_epi8(bytes, three);
            // Four bytes more than there are: the next group overwrites them.
            for (line, half) in [
                (&mut *low, _mm256_castsi256_si128(bytes)),
                (&mut *high, _mm256_extracti128_si256::<1>(bytes)),
            ] {
                let to = &mut line[i * GROUP * 3..][..16];
                // SAFETY: the slice is as long as the register.
                unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), half) };
            }
        }
    }

    /// Sums of upper and lower parts of weights to whole numbers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn joined(upper: __m256i, lower: __m256i) -> __m256i {
        let sums = _mm256_add_epi32(_mm256_slli_epi32::<LOWER>(upper), lower);
        _mm256_srai_epi32::<{ PRECISION as i32 }>(sums)
    }

    // Closures and `map` would not be inlined: they lack the feature.

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[i8; 16]) -> __m128i {
        // SAFETY: the array is as long as the register.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn window(row: &[u8], at: usize) -> __m128i {
        let bytes: &[u8; 16] = row[at..].first_chunk().expect("there is room to read on");
        // SAFETY: the array is as long as the register.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn everywhere(pair: [i16; 2]) -> __m256i {
        _mm256_set1_epi32(i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes(row: &[u8], at: usize) -> __m256i {
        let bytes: &[u8; LANES] = row[at..].first_chunk().expect("rows are of one length");
        // SAFETY: the array is as long as the register.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    /// The first bytes of a row of the second pass, and how many; rows by twos.
    #[target_feature(enable = "avx2")]
    pub(super) fn column<'a>(
        row: &impl Fn(usize) -> &'a [u8],
        taps: &[i32],
        out: &mut [u8],
    ) -> usize {
        // A last row without partner is its own, with a weight of 0.
        let pairs = taps.chunks(2).enumerate().map(|(i, pair)| {
            let (far, tap) = pair.get(1).map_or((0, 0), |&tap| (1, tap));
            (row(2 * i), row(2 * i + far), halves(pair[0], tap))
        });
        let pairs: Vec<Pair> = pairs.collect();
        let zero = _mm256_setzero_si256();
        let blocks = out.as_chunks_mut::<LANES>().0;
        let done = blocks.len() * LANES;
        for (block, to) in blocks.iter_mut().enumerate() {
            let (mut upper, mut lower) = ([zero; 4], [_mm256_set1_epi32(HALF); 4]);
            for &(a, b, [up, low]) in &pairs {
                let (up, low) = (everywhere(up), everywhere(low));
                let (a, b) = (lanes(a, block * LANES), lanes(b, block * LANES));
                let pairs = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
                for k in 0..4 {
                    let words = if k % 2 == 0 {
                        _mm256_unpacklo_epi8(pairs[k / 2], zero)
                    } else {
                        _mm256_unpackhi_epi8(pairs[k / 2], zero)
                    };
                    upper[k] = _mm256_add_epi32(upper[k], _mm256_madd_epi16(words, up));
                    lower[k] = _mm256_add_epi32(lower[k], _mm256_madd_epi16(words, low));
                }
            }
            let words = [
                _mm256_packs_epi32(joined(upper[0], lower[0]), joined(upper[1], lower[1])),
                _mm256_packs_epi32(joined(upper[2], lower[2]), joined(upper[3], lower[3])),
            ];
            let bytes = _mm256_packus_epi16(words[0], words[1]);
            // SAFETY: the array is as long as the register.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes) };
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sum by sum.
    fn plain(pixels: &[u8], w: usize, [rows, columns]: [&Weights; 2]) -> Vec<u8> {
        let mut narrowed = Vec::new();
        for row in pixels.chunks_exact(w * 3) {
            let mut to = vec![0; rows.len() * 3];
            along_row(row, rows, &mut to);
            narrowed.push(to);
        }
        let mut out = Vec::new();
        for (first, taps) in columns.iter() {
            let mut to = vec![0; rows.len() * 3];
            column(|i| &narrowed[first + i], taps, &mut to, false);
            out.extend(to);
        }
        out
    }

    proptest! {
        #[test]
        fn wide_registers_and_rows_in_turn_change_nothing(
            h in 1usize..30, w in 1usize..90, to_h in 1usize..60, to_w in 1usize..120, seed in any::<u32>(),
        ) {
            let byte = |i: usize| (seed.wrapping_mul(i as u32 * 2 + 1) >> 24) as u8;
            let pixels: Vec<u8> = (0..h * w * 3).map(byte).collect();
            let (rows, columns) = (Weights::triangle(w, to_w), Weights::triangle(h, to_h));
            let (all_rows, all_columns) = (Weights::triangle(w, w), Weights::triangle(h, h));
            for (how, weights) in [
                ([None, None], [&all_rows, &all_columns]),
                ([Some(&rows), None], [&rows, &all_columns]),
                ([None, Some(&columns)], [&all_rows, &columns]),
                ([Some(&rows), Some(&columns)], [&rows, &columns]),
            ] {
                let mut out = Vec::new();
                resize(&pixels, w, how, |row| out.extend_from_slice(row));
                prop_assert_eq!(out, plain(&pixels, w, weights));
            }
        }
    }
}
