//! Products of matrices with their bounds checked: by [`product`](super::product) where it is faster, else by the `gemm` crate.

use super::Real;

/// A matrix inside a slice: element (i, j) at `i * rs + j * cs`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rs: usize,
    pub(crate) cs: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows stored one after another, `cols` wide.
    pub(crate) fn rows(data: &'a [T], cols: usize) -> Self {
        Self { data, rs: cols, cs: 1 }
    }
    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { data: self.data, rs: self.cs, cs: self.rs }
    }
}

/// Threads a GEMM may use.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    One,
    All,
}

/// A product as [`gemm`] takes it.
pub(crate) struct Product<'a, T> {
    /// `(m, n, k)`.
    pub(crate) size: (usize, usize, usize),
    pub(crate) dst: &'a mut [T],
    pub(crate) dst_rs: usize,
    /// Whether the product is added to `dst`.
    pub(crate) add: bool,
    pub(crate) a: Mat<'a, T>,
    pub(crate) b: Mat<'a, T>,
    pub(crate) threads: Threads,
}

/// `dst = beta * dst + a b` for `a` (m, k) and `b` (k, n); `dst` has row stride `dst_rs`.
///
/// # Panics
/// When a matrix reaches past its slice (checked always: the call below is unsafe).
#[allow(clippy::too_many_arguments)]
pub(crate) fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    dst: &mut [T],
    dst_rs: usize,
    accumulate: bool,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    threads: Threads,
) {
    if m == 0 || n == 0 {
        return;
    }
    let fits = |len: usize, r: usize, c: usize, rs: usize, cs: usize| {
        r == 0 || c == 0 || (r - 1) * rs + (c - 1) * cs < len
    };
    assert!(fits(dst.len(), m, n, dst_rs, 1) && dst_rs >= n, "gemm: the result does not fit");
    assert!(fits(a.data.len(), m, k, a.rs, a.cs), "gemm: the left matrix reaches past its slice");
    assert!(fits(b.data.len(), k, n, b.rs, b.cs), "gemm: the right matrix reaches past its slice");
    // SAFETY: every (row, column) index of the three matrices was shown above to lie inside its slice.
    if unsafe {
        T::product(Product { size: (m, n, k), dst, dst_rs, add: accumulate, a, b, threads })
    } {
        return;
    }
    let parallelism = match threads {
        Threads::One => ::gemm::Parallelism::None,
        Threads::All => ::gemm::Parallelism::Rayon(0),
    };
    // SAFETY: the same; `dst` is exclusively borrowed and its rows do not overlap (dst_rs >= n).
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_rs as isize,
            accumulate,
            a.data.as_ptr(),
            a.cs as isize,
            a.rs as isize,
            b.data.as_ptr(),
            b.cs as isize,
            b.rs as isize,
            T::of(1.0),
            T::of(1.0),
            false,
            false,
            false,
            parallelism,
        );
    }
}
