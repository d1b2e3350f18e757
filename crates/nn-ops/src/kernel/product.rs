//! Products with AVX-512, in f32, and with factors rounded to bf16 (AVX512-BF16) and sums in f32.
//!
//! Eight rows of the left matrix, read as they lie, go with a panel of 32 columns of the right one, which the thread that
//! uses it packs: 16 of the 32 registers hold sums. 440 to 500 of 512 GFLOP/s on two cores of a Zen 5, where the `gemm`
//! crate reaches 210 to 500 by shape; twice that with bf16 (docs/results.md).

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::gemm::{Mat, Product, Threads};
use super::{Scratch, par_chunks};
use crate::simd::{Level, has_bf16, level};

/// Rows of a tile.
const ROWS: usize = 8;
/// Columns of a register, and of a panel.
const LANES: usize = 16;
const COLUMNS: usize = 2 * LANES;
/// Units of the shared dimension in a panel, which then stays in the second-level cache.
const DEPTH: usize = 1024;
/// Rows of a job, at least and at most.
const JOB: (usize, usize) = (64, 1024);

/// Carries out a product where tiles are filled and one of the right matrix's strides is 1; whether it did. Every element
/// adds its products in their order, whatever the number of threads.
///
/// # Safety
/// Every index of the three matrices must lie inside its slice.
pub(super) unsafe fn product(product: Product<'_, f32>) -> bool {
    let Product { size: (m, n, k), dst, dst_rs, add, a, b, threads } = product;
    let filled = m >= ROWS && n >= LANES && k >= LANES;
    if level() < Level::Avx512 || !filled || (b.rs != 1 && b.cs != 1) {
        return false;
    }
    let left = Left { at: a.data.as_ptr(), rs: a.rs, cs: a.cs };
    let jobs = Jobs { size: (m, n, k), left, right: b, dst: dst.as_mut_ptr(), dst_rs, add };
    // SAFETY: the caller's promise; the processor has AVX-512, as asked above.
    unsafe { jobs.run::<false>(threads) };
    true
}

/// `y = x wᵀ`, or `y += x wᵀ` when `add`, with factors rounded to bf16 and sums in f32, for rows of `inner` values to rows of `out`.
///
/// # Panics
/// When the processor [has no such products](crate::simd::has_bf16), or a slice is no whole number of rows.
pub(crate) fn rounded_product(
    (out, inner): (usize, usize),
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    add: bool,
) {
    assert!(has_bf16(), "this processor multiplies no bf16");
    let rows = y.len() / out.max(1);
    assert!(rows * out == y.len() && rows * inner == x.len() && out * inner == w.len());
    if y.is_empty() || inner == 0 {
        if !add {
            y.fill(0.0);
        }
        return;
    }
    let pairs = inner.div_ceil(2);
    let mut rounded = Scratch::new(rows * pairs);
    par_chunks(&mut rounded, ROWS * pairs, |i, to| {
        let x = &x[i * ROWS * inner..];
        // SAFETY: the processor has AVX512-BF16, as asserted above.
        to.chunks_exact_mut(pairs)
            .zip(x.chunks_exact(inner))
            .for_each(|(to, x)| unsafe { round(x, to) });
    });
    let left = Left { at: rounded.as_ptr(), rs: pairs, cs: 1 };
    let right = Mat::rows(w, inner).t();
    let jobs =
        Jobs { size: (rows, out, inner), left, right, dst: y.as_mut_ptr(), dst_rs: out, add };
    // SAFETY: sizes were asserted above.
    unsafe { jobs.run::<true>(Threads::All) };
}

/// The left matrix in units: values, or pairs of bf16 in their place.
#[derive(Clone, Copy)]
struct Left {
    at: *const f32,
    rs: usize,
    cs: usize,
}

struct Jobs<'a> {
    size: (usize, usize, usize),
    left: Left,
    right: Mat<'a, f32>,
    dst: *mut f32,
    dst_rs: usize,
    add: bool,
}

// SAFETY: the pointers come from slices that outlive the jobs, and no two jobs write the same element.
unsafe impl Sync for Jobs<'_> {}

impl Jobs<'_> {
    /// # Safety
    /// Every index must lie inside its matrix, and the processor must have AVX-512 (with bf16 for `PAIRS`).
    unsafe fn run<const PAIRS: bool>(&self, threads: Threads) {
        let (m, n, k) = self.size;
        let panels = n.div_ceil(COLUMNS);
        let alone = matches!(threads, Threads::One) || m * n * k < 1 << 16;
        let wanted = if alone { 1 } else { (4 * rayon::current_num_threads()).div_ceil(panels) };
        let groups = wanted.min(m / JOB.0).max(m.div_ceil(JOB.1)).max(1);
        let each = m.div_ceil(groups).next_multiple_of(ROWS);
        let groups = m.div_ceil(each);
        let job = |i: usize| {
            let (first, column) = (i / panels * each, i % panels * COLUMNS);
            let rows = first..(first + each).min(m);
            // SAFETY: the caller's promise; `rows` and `column` lie inside the result.
            unsafe {
                match (n - column <= LANES, PAIRS) {
                    (true, false) => values::<1>(self, rows, column),
                    (false, false) => values::<2>(self, rows, column),
                    (true, true) => pairs::<1>(self, rows, column),
                    (false, true) => pairs::<2>(self, rows, column),
                }
            }
        };
        if alone {
            (0..groups * panels).for_each(job);
        } else {
            (0..groups * panels).into_par_iter().for_each(job);
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn values<const R: usize>(jobs: &Jobs<'_>, rows: std::ops::Range<usize>, column: usize) {
    // SAFETY: the caller's promise.
    unsafe { block::<R, false>(jobs, rows, column) }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,avx512bf16")]
unsafe fn pairs<const R: usize>(jobs: &Jobs<'_>, rows: std::ops::Range<usize>, column: usize) {
    // SAFETY: the caller's promise.
    unsafe { block::<R, true>(jobs, rows, column) }
}

/// Room on the stack for a panel, whose registers are read from a cache line each.
#[repr(align(64))]
struct Panel {
    _values: [f32; DEPTH * COLUMNS],
}

/// Some rows of the result, from `column` on `R` registers wide.
#[inline(always)]
unsafe fn block<const R: usize, const PAIRS: bool>(
    jobs: &Jobs<'_>,
    rows: std::ops::Range<usize>,
    column: usize,
) {
    let (_, n, k) = jobs.size;
    let columns = (n - column).min(R * LANES);
    let masks: [__mmask16; R] = std::array::from_fn(|r| mask(columns, r * LANES));
    let units = if PAIRS { k.div_ceil(2) } else { k };
    let mut panel = MaybeUninit::<Panel>::uninit();
    for first in (0..units).step_by(DEPTH) {
        let depth = (units - first).min(DEPTH);
        // SAFETY: rows and columns lie inside their matrices (the caller's promise), masks leave out what does not, and the
        // panel has room for `depth` units.
        unsafe {
            let to = panel.as_mut_ptr().cast::<f32>();
            if PAIRS || jobs.right.rs == 1 {
                pack_turned::<R, PAIRS>(&jobs.right, k, (first, depth), (column, columns), to);
            } else {
                pack::<R>(&jobs.right, (first, depth), column, &masks, to);
            }
            let tile = Tile {
                depth,
                rs: jobs.left.rs,
                cs: jobs.left.cs,
                panel: to,
                dst_rs: jobs.dst_rs,
                add: jobs.add || first > 0,
                masks,
            };
            let mut i = rows.start;
            while i < rows.end {
                let a = jobs.left.at.add(i * tile.rs + first * tile.cs);
                let c = jobs.dst.add(i * tile.dst_rs + column);
                i += match rows.end - i {
                    ROWS.. => tile.run::<ROWS, PAIRS>(a, c),
                    4.. => tile.run::<4, PAIRS>(a, c),
                    2.. => tile.run::<2, PAIRS>(a, c),
                    _ => tile.run::<1, PAIRS>(a, c),
                };
            }
        }
    }
}

/// Which of 16 lanes from `from` on lie below `count`.
#[inline(always)]
fn mask(count: usize, from: usize) -> __mmask16 {
    match count.saturating_sub(from) {
        LANES.. => !0,
        some => (1 << some) - 1,
    }
}

struct Tile<const R: usize> {
    depth: usize,
    rs: usize,
    cs: usize,
    panel: *const f32,
    dst_rs: usize,
    add: bool,
    masks: [__mmask16; R],
}

impl<const R: usize> Tile<R> {
    /// `M` rows; their number.
    #[inline(always)]
    unsafe fn run<const M: usize, const PAIRS: bool>(&self, a: *const f32, c: *mut f32) -> usize {
        // SAFETY: the caller's promise: `a` has `M` rows of `depth` units, the panel `depth` of `R` registers, `c` has `M` rows
        // of as many values as the masks have bits.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); R]; M];
            if self.add {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_maskz_loadu_ps(
                            self.masks[r],
                            c.add(i * self.dst_rs + r * LANES),
                        );
                    }
                }
            }
            let (mut a, mut b) = (a, self.panel);
            for _ in 0..self.depth {
                let b_now: [__m512; R] = std::array::from_fn(|r| _mm512_loadu_ps(b.add(r * LANES)));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let unit = _mm512_set1_ps(*a.add(i * self.rs));
                    for (sum, b) in sums.iter_mut().zip(b_now) {
                        *sum = if PAIRS {
                            _mm512_dpbf16_ps(*sum, bf16(unit), bf16(b))
                        } else {
                            _mm512_fmadd_ps(unit, b, *sum)
                        };
                    }
                }
                (a, b) = (a.add(self.cs), b.add(R * LANES));
            }
            for (i, sums) in sums.iter().enumerate() {
                for (r, sum) in sums.iter().enumerate() {
                    _mm512_mask_storeu_ps(c.add(i * self.dst_rs + r * LANES), self.masks[r], *sum);
                }
            }
        }
        M
    }
}

/// A register of 16 pairs.
#[inline(always)]
fn bf16(x: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes, any of which are valid.
    unsafe { std::mem::transmute(x) }
}

/// 32 values as 16 pairs.
#[inline(always)]
unsafe fn rounded(low: __m512, high: __m512) -> __m512 {
    // SAFETY: the caller looked for AVX512-BF16; both types are 64 bytes, any of which are valid.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// A row of values as pairs, the last filled up with zero.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")]
unsafe fn round(x: &[f32], to: &mut [f32]) {
    for (x, to) in x.chunks(COLUMNS).zip(to.chunks_mut(LANES)) {
        let low = mask(x.len(), 0);
        let high = mask(x.len(), LANES);
        // SAFETY: masks leave out what lies behind the slices' ends.
        unsafe {
            let p = x.as_ptr();
            let pairs = rounded(
                _mm512_maskz_loadu_ps(low, p),
                _mm512_maskz_loadu_ps(high, p.wrapping_add(LANES)),
            );
            _mm512_mask_storeu_ps(to.as_mut_ptr(), mask(to.len(), 0), pairs);
        }
    }
}

/// The panel of a matrix whose rows lie in order.
#[inline(always)]
unsafe fn pack<const R: usize>(
    b: &Mat<'_, f32>,
    (first, depth): (usize, usize),
    column: usize,
    masks: &[__mmask16; R],
    to: *mut f32,
) {
    for l in 0..depth {
        for (r, mask) in masks.iter().enumerate() {
            // SAFETY: the mask leaves out columns that are not there; the panel has `depth` times `R` registers.
            unsafe {
                let from = b.data.as_ptr().wrapping_add((first + l) * b.rs + column + r * LANES);
                _mm512_storeu_ps(to.add((l * R + r) * LANES), _mm512_maskz_loadu_ps(*mask, from));
            }
        }
    }
}

/// The panel of a matrix whose columns lie in order, `k` values each.
#[inline(always)]
unsafe fn pack_turned<const R: usize, const PAIRS: bool>(
    b: &Mat<'_, f32>,
    k: usize,
    (first, depth): (usize, usize),
    (column, columns): (usize, usize),
    to: *mut f32,
) {
    let width = if PAIRS { 2 } else { 1 };
    for l in (0..depth).step_by(LANES) {
        let at = (first + l) * width;
        for r in 0..R {
            let here = columns.saturating_sub(r * LANES).min(LANES);
            // SAFETY: columns beyond the last are not read, masks leave out values beyond a column's end, and the panel has
            // `depth` times `R` registers.
            unsafe {
                let mut lines = [_mm512_setzero_ps(); LANES];
                for (j, line) in lines.iter_mut().take(here).enumerate() {
                    let from = b.data.as_ptr().wrapping_add((column + r * LANES + j) * b.cs + at);
                    let low = _mm512_maskz_loadu_ps(mask(k, at), from);
                    *line = if PAIRS {
                        let high = mask(k, at + LANES);
                        rounded(low, _mm512_maskz_loadu_ps(high, from.wrapping_add(LANES)))
                    } else {
                        low
                    };
                }
                turn(&mut lines);
                for (i, line) in lines.iter().take(depth - l).enumerate() {
                    _mm512_storeu_ps(to.add(((l + i) * R + r) * LANES), *line);
                }
            }
        }
    }
}

/// The transpose of 16 x 16 values.
#[inline(always)]
unsafe fn turn(x: &mut [__m512; LANES]) {
    // SAFETY: the caller looked for AVX-512.
    unsafe {
        let double = |x| _mm512_castps_pd(x);
        let single = |x| _mm512_castpd_ps(x);
        let mut y = *x;
        for i in 0..8 {
            y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
        }
        for i in 0..4 {
            for j in 0..2 {
                let (low, high) = (double(y[4 * i + j]), double(y[4 * i + j + 2]));
                x[4 * i + 2 * j] = single(_mm512_unpacklo_pd(low, high));
                x[4 * i + 2 * j + 1] = single(_mm512_unpackhi_pd(low, high));
            }
        }
        for i in 0..4 {
            for j in [0, 8] {
                y[i + j] = _mm512_shuffle_f32x4::<0x88>(x[i + j], x[i + j + 4]);
                y[i + j + 4] = _mm512_shuffle_f32x4::<0xdd>(x[i + j], x[i + j + 4]);
            }
        }
        for i in 0..8 {
            x[i] = _mm512_shuffle_f32x4::<0x88>(y[i], y[i + 8]);
            x[i + 8] = _mm512_shuffle_f32x4::<0xdd>(y[i], y[i + 8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm;
    use crate::kernel::panel::tests::numbers;
    use candle_core::{DType, Device, Result, Tensor};

    /// Small whole numbers: every order of adding them is exact, in bf16 too.
    #[test]
    fn products_are_those_of_the_definition() {
        let sizes = [
            (8, 16, 16),
            (8, 32, 17),
            (15, 33, 40),
            (225, 70, 1030),
            (1100, 49, 31),
            (64, 64, 2100),
        ];
        for (m, n, k) in sizes {
            let (a, b) = (numbers(m * k, 5), numbers(k * n, 7));
            let stride = n + 3;
            for (turn_a, turn_b, add) in [
                (false, false, false),
                (false, true, true),
                (true, false, true),
                (true, true, false),
            ] {
                let left = if turn_a { Mat::rows(&a, m).t() } else { Mat::rows(&a, k) };
                let right = if turn_b { Mat::rows(&b, k).t() } else { Mat::rows(&b, n) };
                for threads in [Threads::One, Threads::All] {
                    let mut c = vec![0.5; m * stride];
                    gemm((m, n, k), &mut c, stride, add, left, right, threads);
                    for i in 0..m {
                        for j in 0..stride {
                            let products = (0..k).map(|l| {
                                left.data[i * left.rs + l * left.cs]
                                    * right.data[l * right.rs + j.min(n - 1) * right.cs]
                            });
                            let want = if add { 0.5 } else { 0.0 } + products.sum::<f32>();
                            assert_eq!(
                                c[i * stride + j],
                                if j < n { want } else { 0.5 },
                                "{m} {n} {k} {i} {j}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rounded_products_are_those_of_rounded_factors() -> Result<()> {
        if !has_bf16() {
            return Ok(());
        }
        let round = |x: &[f32]| {
            let x = Tensor::new(x, &Device::Cpu)?.to_dtype(DType::BF16)?;
            x.to_dtype(DType::F32)?.to_vec1::<f32>()
        };
        for (rows, out, inner) in [(1, 1, 1), (3, 40, 33), (130, 70, 64), (20, 17, 2111)] {
            let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0 - 0.4;
            let x: Vec<f32> = (0..rows * inner).map(value).collect();
            let w: Vec<f32> = (0..out * inner).map(|i| value(i + 5)).collect();
            let mut y = vec![1.0; rows * out];
            rounded_product((out, inner), &x, &w, &mut y, true);
            let (x, w) = (round(&x)?, round(&w)?);
            for (i, y) in y.iter().enumerate() {
                let (x, w) = (&x[i / out * inner..][..inner], &w[i % out * inner..][..inner]);
                let want =
                    1.0 + x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                assert!(
                    (f64::from(*y) - want).abs() < 1e-4 * want.abs().max(1.0),
                    "{rows} {out} {inner} {i}: {y} {want}"
                );
            }
        }
        Ok(())
    }
}
