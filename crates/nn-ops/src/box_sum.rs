//! Sums over windows of neighbours, zeros beyond the ends. The cost does not depend on the window: a running sum takes one
//! element in and one out a step.

use candle_core::{Result, Tensor, bail};

use crate::kernel::{self, Plan, Real, dispatch};

/// Sums over `k x k` cells around each cell of a map of `(h, w)` cells: tokens `(B, N, C)` to `(B, N, C)`, `k` odd.
///
/// # Errors
/// When `k` is even or the tokens do not fill the map.
pub fn box_sum2d(xs: &Tensor, (h, w): (usize, usize), k: usize) -> Result<Tensor> {
    let (b, n, c) = xs.dims3()?;
    if k.is_multiple_of(2) || n != h * w {
        bail!("box_sum2d: a {k}x{k} window (odd sides only) over {n} tokens as a {h}x{w} map");
    }
    if k == 1 {
        return Ok(xs.clone());
    }
    let half = k / 2;
    let rows = window_sum(&xs.reshape((b * h, w, c))?, half, half)?;
    window_sum(&rows.reshape((b, h, w * c))?, half, half)?.reshape((b, n, c))
}

/// Sums over the `k` consecutive tokens that start at each token: `(B, L, C)` to `(B, L, C)`. Windows at the end are shorter.
///
/// # Errors
/// When `k` is zero.
pub fn run_sum(xs: &Tensor, k: usize) -> Result<Tensor> {
    if k == 0 {
        bail!("run_sum: windows of no token");
    }
    if k == 1 { Ok(xs.clone()) } else { window_sum(xs, 0, k - 1) }
}

/// `y[i] = Σ x[i - before ..= i + after]` along the middle of `(outer, n, inner)`.
fn window_sum(xs: &Tensor, before: usize, after: usize) -> Result<Tensor> {
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, before, after),
        Plan::ThroughF32 => {
            fused(&xs.to_dtype(candle_core::DType::F32)?, before, after)?.to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::window_sum(xs, before, after),
        Plan::Composed => composed(xs, before, after),
    }
}

/// From Candle operations: oracle of the kernel, and the path of other devices.
fn composed(xs: &Tensor, before: usize, after: usize) -> Result<Tensor> {
    let n = xs.dim(1)?;
    let padded = xs.pad_with_zeros(1, before, after)?;
    let mut total = padded.narrow(1, 0, n)?;
    for offset in 1..=before + after {
        total = (total + padded.narrow(1, offset, n)?)?;
    }
    Ok(total)
}

fn fused(xs: &Tensor, before: usize, after: usize) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (outer, n, inner) = xs.dims3()?;
    dispatch!(xs.dtype(), T => {
        let ys = {
            let x = kernel::read(&xs)?;
            slide::<T>(x.slice::<T>()?, n, inner, before, after)
        };
        // A cell is in the windows of those that look the other way.
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let dx = slide::<T>(g.slice::<T>()?, n, inner, after, before);
            Ok(vec![kernel::from_vec(dx, (outer, n, inner))?])
        };
        kernel::attach("window_sum", &[&xs], ys, (outer, n, inner), backward)
    })
}

/// Running sums in f64, so that what goes in comes out again without a trace.
fn slide<T: Real>(xs: &[T], n: usize, inner: usize, before: usize, after: usize) -> Vec<T> {
    let block = n * inner;
    let mut ys = kernel::zeros::<T>(xs.len());
    kernel::par_chunks(&mut ys, block, |o, ys| {
        let x = &xs[o * block..(o + 1) * block];
        let row = |i: usize| &x[i * inner..(i + 1) * inner];
        let mut sums = vec![0f64; inner];
        let add = |sums: &mut [f64], row: &[T], sign: f64| {
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += sign * v.to_f64());
        };
        (0..after.min(n)).for_each(|i| add(&mut sums, row(i), 1.0));
        for (i, y) in ys.chunks_exact_mut(inner.max(1)).enumerate() {
            if i + after < n {
                add(&mut sums, row(i + after), 1.0);
            }
            if i > before {
                add(&mut sums, row(i - before - 1), -1.0);
            }
            y.iter_mut().zip(&sums).for_each(|(y, s)| *y = T::of(*s));
        }
    });
    ys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};
    use candle_core::Device;

    #[test]
    fn box_sums_pass_the_audit() -> Result<()> {
        for k in [1, 3, 5, 11] {
            let (small, large) = (several(&[&[2, 12, 3]])?, several(&[&[3, 7 * 31, 17]])?);
            let extent = |x: &Tensor| if x.dims()[1] == 12 { (3, 4) } else { (7, 31) };
            let by_hand = |x: &[Tensor]| {
                let ((h, w), (b, n, c)) = (extent(&x[0]), x[0].dims3()?);
                let rows = composed(&x[0].reshape((b * h, w, c))?, k / 2, k / 2)?;
                composed(&rows.reshape((b, h, w * c))?, k / 2, k / 2)?.reshape((b, n, c))
            };
            let f = |x: &[Tensor]| box_sum2d(&x[0], extent(&x[0]), k);
            audit("box_sum2d", &small, &large, &f, &by_hand)?;
        }
        Ok(())
    }

    #[test]
    fn run_sums_pass_the_audit() -> Result<()> {
        for k in [1, 2, 3, 30] {
            let (small, large) = (several(&[&[2, 4, 3]])?, several(&[&[3, 20, 301]])?);
            let by_hand = |x: &[Tensor]| composed(&x[0], 0, k - 1);
            audit("run_sum", &small, &large, &|x| run_sum(&x[0], k), &by_hand)?;
        }
        Ok(())
    }

    #[test]
    fn windows_end_at_the_border() -> Result<()> {
        let ones = Tensor::ones((1, 12, 1), candle_core::DType::F32, &Device::Cpu)?;
        let counts = box_sum2d(&ones, (3, 4), 3)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(counts, [4., 6., 6., 4., 6., 9., 9., 6., 4., 6., 6., 4.]);
        let runs = run_sum(&ones, 3)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(runs[8..], [3., 3., 2., 1.]);
        assert!(box_sum2d(&ones, (3, 4), 2).is_err() && box_sum2d(&ones, (3, 5), 3).is_err());
        assert!(run_sum(&ones, 0).is_err());
        Ok(())
    }
}
