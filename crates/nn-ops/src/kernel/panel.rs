//! Products of matrices that lie in panels already: no packing, and many small products with one call each.
//!
//! A left operand of `m` rows is `m / ROWS` panels of `k` columns with `ROWS` entries each, one after another; a right
//! operand of `n` columns is `n / COLUMNS` panels of `k` rows with `COLUMNS` entries each. The accumulators of one panel
//! pair fill 12 of the 16 AVX2 registers, those of a left panel with two right ones 12 of the 32 AVX-512 registers; LLVM
//! makes vector code of the plain loops (104 of 104 GFLOP/s a core with AVX2, 260 of 262 with AVX-512 where measured).

use super::Real;

/// Rows of a left panel.
pub(crate) const ROWS: usize = 6;
/// Columns of a right panel.
pub(crate) const COLUMNS: usize = 16;

/// Where right panels begin, and where the results of each do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    /// From one right panel to the next.
    pub(crate) right: usize,
    /// From the results of one right panel to those of the next.
    pub(crate) result: usize,
}

/// `c = a b`, or `c += a b` when `add`: `c` has row stride `stride` and holds `a`'s rows and `b`'s columns. Every element
/// adds its products in their order; [`Level::Baseline`](crate::simd::Level) rounds each product on x86-64, the others fuse it with its sum.
///
/// # Panics
/// When an operand is no whole number of panels or `c` is too short.
pub(crate) fn panel_product<T: Real>(
    k: usize,
    a: &[T],
    b: &[T],
    c: &mut [T],
    stride: usize,
    add: bool,
) {
    assert!(b.len().is_multiple_of(k * COLUMNS), "panels: {k} columns do not fill them");
    let fits = b.len() / k <= stride && c.len() >= a.len() / k * stride;
    assert!(fits, "panels: the result does not fit");
    let apart = Apart { right: k * COLUMNS, result: COLUMNS };
    panel_products(k, a, b, c, stride, apart, add);
}

/// The same where right panels lie apart, and so do their results; `b` ends with the last of them.
///
/// # Panics
/// When an operand is no whole number of panels, or an operand or `c` is too short.
pub(crate) fn panel_products<T: Real>(
    k: usize,
    a: &[T],
    b: &[T],
    c: &mut [T],
    stride: usize,
    apart: Apart,
    add: bool,
) {
    assert!(a.len().is_multiple_of(k * ROWS), "panels are not whole");
    assert!(apart.right.is_multiple_of(COLUMNS), "panels do not begin with a row");
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<T: Real>(
            k: usize,
            a: &[T],
            b: &[T],
            c: &mut [T],
            stride: usize,
            apart: Apart,
            add: bool,
        ) {
            all::<T, true, 1, false>(k, a, b, c, stride, apart, add);
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
        fn avx512<T: Real>(
            k: usize,
            a: &[T],
            b: &[T],
            c: &mut [T],
            stride: usize,
            apart: Apart,
            add: bool,
        ) {
            all::<T, true, 2, true>(k, a, b, c, stride, apart, add);
        }
        use crate::simd::{Level, level};
        match level() {
            // SAFETY: the processor has AVX-512 F, VL, BW, DQ and FMA: `level` never exceeds `best`.
            Level::Avx512 => return unsafe { avx512(k, a, b, c, stride, apart, add) },
            // SAFETY: the processor has AVX2 and FMA, likewise.
            Level::Avx2 => return unsafe { avx2(k, a, b, c, stride, apart, add) },
            Level::Baseline => {}
        }
    }
    // Elsewhere than on AArch64 a fused multiply-add may be a call.
    all::<T, { cfg!(target_arch = "aarch64") }, 1, false>(k, a, b, c, stride, apart, add);
}

/// Right panels go two at a time, as far as `PAIRS` allows and there are two: then every value of the left panel serves two
/// registers. `AT_ONCE` left panels go with a single one.
#[inline(always)]
fn all<T: Real, const FUSED: bool, const AT_ONCE: usize, const PAIRS: bool>(
    k: usize,
    a: &[T],
    b: &[T],
    c: &mut [T],
    stride: usize,
    apart: Apart,
    add: bool,
) {
    // Counted here: where the number came from outside, LLVM kept the sums in memory.
    let panels = b.len().div_ceil(apart.right);
    let paired = if PAIRS { panels / 2 } else { 0 };
    // Right panels stay in the first-level cache, the left panels go by.
    for j in 0..paired {
        let b = &b[2 * j * apart.right..];
        for (i, a) in a.chunks_exact(k * ROWS).enumerate() {
            let c = &mut c[i * ROWS * stride + 2 * j * apart.result..];
            block::<T, FUSED, 1, 2>(k, a, b, c, stride, apart, add);
        }
    }
    let step = AT_ONCE * ROWS;
    for j in 2 * paired..panels {
        let (b, at) = (&b[j * apart.right..], j * apart.result);
        let several = a.chunks_exact(k * step);
        let first = (a.len() - several.remainder().len()) / k;
        let singles = several.remainder().chunks_exact(k * ROWS);
        for (i, a) in several.enumerate() {
            let c = &mut c[i * step * stride + at..];
            block::<T, FUSED, AT_ONCE, 1>(k, a, b, c, stride, apart, add);
        }
        for (i, a) in singles.enumerate() {
            let c = &mut c[(first + i * ROWS) * stride + at..];
            block::<T, FUSED, 1, 1>(k, a, b, c, stride, apart, add);
        }
    }
}

/// `LEFT` left panels with `RIGHT` right panels.
#[inline(always)]
fn block<T: Real, const FUSED: bool, const LEFT: usize, const RIGHT: usize>(
    k: usize,
    a: &[T],
    b: &[T],
    c: &mut [T],
    stride: usize,
    apart: Apart,
    add: bool,
) {
    let mut sums = [[[[T::default(); COLUMNS]; RIGHT]; ROWS]; LEFT];
    let (a, b) = (a.as_chunks::<ROWS>().0, b.as_chunks::<COLUMNS>().0);
    let a: [&[[T; ROWS]]; LEFT] = std::array::from_fn(|p| &a[p * k..][..k]);
    let b: [&[[T; COLUMNS]]; RIGHT] =
        std::array::from_fn(|p| &b[p * (apart.right / COLUMNS)..][..k]);
    for l in 0..k {
        for (a, sums) in a.iter().zip(&mut sums) {
            for (a, sums) in a[l].iter().zip(sums) {
                for (b, sums) in b.iter().zip(sums) {
                    for (sum, b) in sums.iter_mut().zip(&b[l]) {
                        *sum = if FUSED { a.mul_add(*b, *sum) } else { *a * *b + *sum };
                    }
                }
            }
        }
    }
    for (i, sums) in sums.as_flattened().iter().enumerate() {
        for (r, sums) in sums.iter().enumerate() {
            let row = &mut c[i * stride + r * apart.result..][..COLUMNS];
            if add {
                for (c, s) in row.iter_mut().zip(sums) {
                    *c += *s;
                }
            } else {
                row.copy_from_slice(sums);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::simd::{Level, level};

    /// Small whole numbers: every order of adding them is exact.
    pub(in crate::kernel) fn numbers(n: usize, step: usize) -> Vec<f32> {
        (0..n).map(|i| (i * step % 17) as f32 - 8.0).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (rows, columns, k) in [(6, 16, 1), (12, 48, 7), (18, 16, 130)] {
            let stride = columns + 3;
            let (a, b) = (numbers(rows * k, 5), numbers(k * columns, 7));
            let at_a = |i: usize, l: usize| a[(i / ROWS * k + l) * ROWS + i % ROWS];
            let at_b = |l: usize, j: usize| b[(j / COLUMNS * k + l) * COLUMNS + j % COLUMNS];
            let mut once = vec![f32::NAN; rows * stride];
            panel_product(k, &a, &b, &mut once, stride, false);
            let mut twice = once.clone();
            panel_product(k, &a, &b, &mut twice, stride, true);
            let mut plain = once.clone();
            let apart = Apart { right: k * COLUMNS, result: COLUMNS };
            all::<f32, false, 1, true>(k, &a, &b, &mut plain, stride, apart, false);
            for i in 0..rows {
                for j in 0..columns {
                    let want: f32 = (0..k).map(|l| at_a(i, l) * at_b(l, j)).sum();
                    let at = i * stride + j;
                    assert_eq!((once[at], twice[at], plain[at]), (want, 2.0 * want, want));
                }
                assert!(once[i * stride + columns..(i + 1) * stride].iter().all(|v| v.is_nan()));
            }
        }
    }

    type Product<T> = fn(usize, &[T], &[T], &mut [T], usize, Apart, bool);

    /// The loops of every copy, here in the instructions that all processors have, against the copy in use.
    #[test]
    fn copies_give_the_same_bits() {
        fn check<T: Real>() {
            for (rows, columns, k) in [(6, 32, 5), (12, 16, 33), (30, 48, 17)] {
                let value = |i: usize| T::of((i * 7919 % 4001) as f64 / 1234.5 - 1.6);
                let a: Vec<T> = (0..rows * k).map(value).collect();
                let b: Vec<T> = (0..k * columns).map(|i| value(i + 77)).collect();
                let run = |product: Product<T>| {
                    let mut c: Vec<T> = (0..rows * columns).map(value).collect();
                    let apart = Apart { right: k * COLUMNS, result: COLUMNS };
                    product(k, &a, &b, &mut c, columns, apart, true);
                    c
                };
                let one = run(all::<T, true, 1, false>);
                assert!(one == run(all::<T, true, 2, false>), "two left panels at once");
                assert!(one == run(all::<T, true, 2, true>), "two right panels at once");
                if level() > Level::Baseline || cfg!(target_arch = "aarch64") {
                    assert!(one == run(panel_products), "{:?}", level());
                }
                for (fused, rounded) in one.iter().zip(run(all::<T, false, 1, false>)) {
                    let (fused, rounded) = (fused.to_f64(), rounded.to_f64());
                    let off = (fused - rounded).abs();
                    assert!(off < 1e-5 * fused.abs().max(10.0), "{fused} and {rounded}");
                }
            }
        }
        check::<f32>();
        check::<f64>();
    }
}
