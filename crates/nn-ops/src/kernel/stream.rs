//! Writing results that no cache can hold: whole lines go to memory, which a usual store would read first.

use super::Real;

/// `to = from`, past the caches where the processor can. Between the last of these copies and the next access to `to`, by
/// whatever thread, its writer calls [`settle`].
///
/// # Panics
/// When the lengths differ.
pub(crate) fn copy_past_caches<T: Real>(to: &mut [T], from: &[T]) {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::level() >= crate::simd::Level::Avx2 {
        // SAFETY: the processor has AVX2: `level` never exceeds `best`.
        return unsafe { avx2(to, from) };
    }
    to.copy_from_slice(from);
}

/// Makes what this thread wrote by [`copy_past_caches`] visible before anything that follows.
pub(crate) fn settle() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<T: Real>(to: &mut [T], from: &[T]) {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_stream_si256};
    assert_eq!(to.len(), from.len(), "a copy between slices of different lengths");
    let lanes = size_of::<__m256i>() / size_of::<T>();
    // SAFETY: `T` is f32 or f64: any 32 bytes are valid values of both types.
    let (first, middle, last) = unsafe { to.align_to_mut::<__m256i>() };
    let (from_first, from) = from.split_at(first.len());
    let (from_middle, from_last) = from.split_at(middle.len() * lanes);
    first.copy_from_slice(from_first);
    last.copy_from_slice(from_last);
    for (to, from) in middle.iter_mut().zip(from_middle.chunks_exact(lanes)) {
        // SAFETY: `from` holds 32 bytes, `to` is an aligned place for them.
        unsafe { _mm256_stream_si256(to, _mm256_loadu_si256(from.as_ptr().cast())) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_copies() {
        for (start, len) in [(0, 0), (0, 5), (1, 7), (3, 40), (5, 96), (8, 64)] {
            let from: Vec<f64> = (0..len).map(|i| i as f64 + 0.5).collect();
            let (mut a, mut b) = (vec![0.0; start + len + 3], vec![0f32; start + len + 3]);
            copy_past_caches(&mut a[start..start + len], &from);
            let from_b: Vec<f32> = from.iter().map(|v| *v as f32).collect();
            copy_past_caches(&mut b[start..start + len], &from_b);
            settle();
            assert_eq!((&a[start..start + len], &b[start..start + len]), (&from[..], &from_b[..]));
            assert!(a[start + len..].iter().chain(&a[..start]).all(|v| *v == 0.0));
        }
    }
}
