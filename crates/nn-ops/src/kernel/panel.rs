//! Products of matrices that lie in panels already: no packing, and many small products with one call each.
//!
//! A left operand of `m` rows is `m / ROWS` panels of `k` columns with `ROWS` entries each, one after another; a right
//! operand of `n` columns is `n / COLUMNS` panels of `k` rows with `COLUMNS` entries each. The accumulators of one panel
//! pair fill 12 of the 16 AVX2 registers; LLVM makes vector code of the plain loops (104 of 104 GFLOP/s a core where measured).

use super::Real;

/// Rows of a left panel.
pub(crate) const ROWS: usize = 6;
/// Columns of a right panel.
pub(crate) const COLUMNS: usize = 16;

/// `c = a b`, or `c += a b` when `add`: `c` has row stride `stride` and holds `a`'s rows and `b`'s columns.
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
    let (rows, columns) = (a.len() / k, b.len() / k);
    assert!(rows * k == a.len() && columns * k == b.len(), "panels: {k} columns do not fill them");
    assert!(rows.is_multiple_of(ROWS) && columns.is_multiple_of(COLUMNS), "panels are not whole");
    assert!(columns <= stride && c.len() >= rows * stride, "panels: the result does not fit");
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<T: Real>(k: usize, a: &[T], b: &[T], c: &mut [T], stride: usize, add: bool) {
            all_pairs::<T, true>(k, a, b, c, stride, add);
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the processor was just found to have AVX2 and FMA.
            unsafe { avx2(k, a, b, c, stride, add) };
            return;
        }
    }
    // Elsewhere than on AArch64 a fused multiply-add may be a call.
    all_pairs::<T, { cfg!(target_arch = "aarch64") }>(k, a, b, c, stride, add);
}

#[inline(always)]
fn all_pairs<T: Real, const FUSED: bool>(
    k: usize,
    a: &[T],
    b: &[T],
    c: &mut [T],
    stride: usize,
    add: bool,
) {
    // One right panel stays in the first-level cache, the left panels go by.
    for (j, b) in b.chunks_exact(k * COLUMNS).enumerate() {
        for (i, a) in a.chunks_exact(k * ROWS).enumerate() {
            let c = &mut c[i * ROWS * stride + j * COLUMNS..];
            pair::<T, FUSED>(a, b, c, stride, add);
        }
    }
}

#[inline(always)]
fn pair<T: Real, const FUSED: bool>(a: &[T], b: &[T], c: &mut [T], stride: usize, add: bool) {
    let mut sums = [[T::default(); COLUMNS]; ROWS];
    for (a, b) in a.chunks_exact(ROWS).zip(b.chunks_exact(COLUMNS)) {
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                sums[i][j] =
                    if FUSED { a[i].mul_add(b[j], sums[i][j]) } else { a[i] * b[j] + sums[i][j] };
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let row = &mut c[i * stride..i * stride + COLUMNS];
        if add {
            for (c, s) in row.iter_mut().zip(sums) {
                *c += *s;
            }
        } else {
            row.copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers: every order of adding them is exact.
    fn numbers(n: usize, step: usize) -> Vec<f32> {
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
            all_pairs::<f32, false>(k, &a, &b, &mut plain, stride, false);
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
}
