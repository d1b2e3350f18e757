//! Products of a few rows with the rows of a large matrix: each value of it is used too seldom to pay for packing, so both
//! are read as they lie, eight values of the shared dimension at once.

use rayon::prelude::*;

use super::{Real, Scratch};

/// Rows up to which this is faster than a packed product.
const ROWS: usize = 64;
/// Values side by side.
const LANES: usize = 8;
/// Rows and rows of the matrix that go together: their sums fill 12 registers.
const TILE: (usize, usize) = (4, 3);
/// Rows of the matrix in a piece of work.
const PIECE: usize = 16 * TILE.1;

/// Whether [`few_rows`] serves: registers are wide enough, rows few and long.
pub(crate) fn is_few<T: Real>(rows: usize, inner: usize) -> bool {
    cfg!(target_arch = "x86_64")
        && T::DTYPE == candle_core::DType::F32
        && crate::simd::level() >= crate::simd::Level::Avx2
        && rows <= ROWS
        && inner >= 8 * LANES
}

/// `y = x wᵀ`, or `y += x wᵀ` when `add`: `(rows, inner)` and `(out, inner)` to `(rows, out)`. A row's result does not
/// depend on the other rows.
///
/// # Panics
/// When a slice is no whole number of rows, or `y` has another size.
pub(crate) fn few_rows<T: Real>(inner: usize, x: &[T], w: &[T], y: &mut [T], add: bool) {
    let (rows, out) = (x.len() / inner, w.len() / inner);
    assert!(rows * inner == x.len() && out * inner == w.len(), "few rows: rows are not whole");
    assert_eq!(y.len(), rows * out, "few rows: the result does not fit");
    let mut turned = Scratch::new(rows * out);
    turned.par_chunks_mut((PIECE * rows).max(1)).zip(w.par_chunks(PIECE * inner)).for_each(
        |(turned, w)| {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2<T: Real>(inner: usize, x: &[T], w: &[T], turned: &mut [T]) {
                    piece::<T, true>(inner, x, w, turned);
                }
                if crate::simd::level() >= crate::simd::Level::Avx2 {
                    // SAFETY: the processor has AVX2 and FMA: `level` never exceeds `best`.
                    return unsafe { avx2(inner, x, w, turned) };
                }
            }
            piece::<T, { cfg!(target_arch = "aarch64") }>(inner, x, w, turned);
        },
    );
    for (i, row) in y.chunks_exact_mut(out.max(1)).enumerate() {
        let found = turned[i..].iter().step_by(rows);
        if add {
            row.iter_mut().zip(found).for_each(|(y, v)| *y += *v);
        } else {
            row.iter_mut().zip(found).for_each(|(y, v)| *y = *v);
        }
    }
}

/// Some rows of the matrix: `turned` has a row for each.
#[inline(always)]
fn piece<T: Real, const FUSED: bool>(inner: usize, x: &[T], w: &[T], turned: &mut [T]) {
    let rows = x.len() / inner;
    let (wide, single) = (inner * TILE.1, inner);
    let whole = w.len() / wide;
    for (w, turned) in w.chunks_exact(wide).zip(turned.chunks_exact_mut(rows * TILE.1)) {
        strip::<T, { TILE.1 }, FUSED>(inner, x, w, turned);
    }
    let rest = w[whole * wide..].chunks_exact(single);
    for (w, turned) in rest.zip(turned[whole * TILE.1 * rows..].chunks_exact_mut(rows)) {
        strip::<T, 1, FUSED>(inner, x, w, turned);
    }
}

/// `N` rows of the matrix with all rows of `x`.
#[inline(always)]
fn strip<T: Real, const N: usize, const FUSED: bool>(
    inner: usize,
    x: &[T],
    w: &[T],
    turned: &mut [T],
) {
    let rows = x.len() / inner;
    let mut i = 0;
    while i + TILE.0 <= rows {
        tile::<T, { TILE.0 }, N, FUSED>(inner, &x[i * inner..], w, &mut turned[i..], rows);
        i += TILE.0;
    }
    while i < rows {
        tile::<T, 1, N, FUSED>(inner, &x[i * inner..], w, &mut turned[i..], rows);
        i += 1;
    }
}

/// `M` rows with `N` rows of the matrix; the sums of row `j` of it go to `to[j * step..]`.
#[inline(always)]
fn tile<T: Real, const M: usize, const N: usize, const FUSED: bool>(
    inner: usize,
    x: &[T],
    w: &[T],
    to: &mut [T],
    step: usize,
) {
    let times = |a: T, b: T, sum: T| if FUSED { a.mul_add(b, sum) } else { a * b + sum };
    let runs = inner / LANES;
    let x: [&[T]; M] = std::array::from_fn(|i| &x[i * inner..][..inner]);
    let w: [&[T]; N] = std::array::from_fn(|j| &w[j * inner..][..inner]);
    let xs: [&[[T; LANES]]; M] = std::array::from_fn(|i| &x[i].as_chunks().0[..runs]);
    let ws: [&[[T; LANES]]; N] = std::array::from_fn(|j| &w[j].as_chunks().0[..runs]);
    let mut sums = [[[T::default(); LANES]; N]; M];
    for c in 0..runs {
        let x: [[T; LANES]; M] = std::array::from_fn(|i| xs[i][c]);
        let w: [[T; LANES]; N] = std::array::from_fn(|j| ws[j][c]);
        for i in 0..M {
            for j in 0..N {
                for l in 0..LANES {
                    sums[i][j][l] = times(x[i][l], w[j][l], sums[i][j][l]);
                }
            }
        }
    }
    for i in 0..M {
        for j in 0..N {
            let s = &sums[i][j];
            let mut sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
            for c in runs * LANES..inner {
                sum = times(x[i][c], w[j][c], sum);
            }
            to[j * step + i] = sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition() {
        for (rows, out, inner) in [(1, 1, 64), (4, 3, 72), (20, 100, 131), (7, 49, 768)] {
            let value = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0 - 0.4;
            let x: Vec<f32> = (0..rows * inner).map(value).collect();
            let w: Vec<f32> = (0..out * inner).map(|i| value(i + 5)).collect();
            let mut y = vec![1f32; rows * out];
            few_rows(inner, &x, &w, &mut y, true);
            let mut alone = vec![0f32; out];
            few_rows(inner, &x[(rows - 1) * inner..], &w, &mut alone, false);
            for (i, y) in y.iter().enumerate() {
                let (x, w) = (&x[i / out * inner..][..inner], &w[i % out * inner..][..inner]);
                let want: f64 =
                    1.0 + x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                assert!(
                    (f64::from(*y) - want).abs() < 1e-4,
                    "{rows} {out} {inner} {i}: {y} {want}"
                );
            }
            for (y, alone) in y[(rows - 1) * out..].iter().zip(&alone) {
                assert_eq!(*y, *alone + 1.0);
            }
        }
    }
}
