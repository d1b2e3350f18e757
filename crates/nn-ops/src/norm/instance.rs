//! Instance normalisation of tokens: each channel over the cells of its own sample, no affine, no running statistics.

use candle_core::{Result, Tensor};

use crate::kernel::{self, Plan, Real, dispatch};

/// `(B, N, C)` normalised over `N`, biased variance (PyTorch's `InstanceNorm1d` on the transposed layout).
pub fn instance_norm(xs: &Tensor, eps: f64) -> Result<Tensor> {
    xs.dims3()?;
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, eps),
        Plan::ThroughF32 => {
            instance_norm(&xs.to_dtype(candle_core::DType::F32)?, eps)?.to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::instance_norm(xs, eps),
        Plan::Composed => composed(xs, eps),
    }
}

/// From mean and variance, in f32 at least: oracle of the kernel, and the path of other devices.
pub(crate) fn composed(xs: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = xs.dtype();
    let wide = if dtype == candle_core::DType::F64 { dtype } else { candle_core::DType::F32 };
    let xs = xs.to_dtype(wide)?;
    let centred = xs.broadcast_sub(&xs.mean_keepdim(1)?)?;
    let var = centred.sqr()?.mean_keepdim(1)?;
    centred.broadcast_div(&(var + eps)?.sqrt()?)?.to_dtype(dtype)
}

/// Rows whose sum is taken at once: keeps rounding small, and is the piece of work of a thread.
const BLOCK: usize = 64;

/// Column means of an (n, c) matrix: `add(row, sums)` adds what stands in a row.
fn column_means<T: Real>(n: usize, c: usize, add: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    let blocks = n.div_ceil(BLOCK);
    let mut sums = vec![T::default(); blocks * c];
    kernel::par_chunks(&mut sums, c, |block, sums| {
        for r in block * BLOCK..((block + 1) * BLOCK).min(n) {
            add(r, sums);
        }
    });
    let mut total = vec![T::default(); c];
    for block in sums.chunks_exact(c.max(1)) {
        total.iter_mut().zip(block).for_each(|(t, b)| *t += *b);
    }
    let rows = T::of(n as f64);
    total.iter_mut().for_each(|t| *t /= rows);
    total
}

/// Mean and 1 / sqrt(variance + eps) of each column. The mean of the differences from the rounded mean corrects both: where
/// all rows are equal (one real word) its error, times 1 / sqrt(eps), would be all there is.
fn statistics<T: Real>(x: &[T], n: usize, c: usize, eps: f64) -> (Vec<T>, Vec<T>) {
    let mut mean = column_means(n, c, |r, sums: &mut [T]| {
        sums.iter_mut().zip(&x[r * c..]).for_each(|(s, x)| *s += *x);
    });
    let moments = column_means(n, 2 * c, |r, sums: &mut [T]| {
        let (first, second) = sums.split_at_mut(c);
        let row = x[r * c..].iter().zip(&mean);
        for ((d1, d2), (x, m)) in first.iter_mut().zip(second).zip(row) {
            let d = *x - *m;
            *d1 += d;
            *d2 += d * d;
        }
    });
    let (off, squares) = moments.split_at(c);
    let rstd = off
        .iter()
        .zip(squares)
        .map(|(d, s)| T::of(1.0) / ((*s - *d * *d).larger(T::default()) + T::of(eps)).sqrt());
    let rstd = rstd.collect();
    mean.iter_mut().zip(off).for_each(|(m, d)| *m += *d);
    (mean, rstd)
}

fn fused(xs: &Tensor, eps: f64) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (b, n, c) = xs.dims3()?;
    let size = n * c;
    dispatch!(xs.dtype(), T => {
        let mut ys = kernel::zeros::<T>(b * size);
        let mut rstds: Vec<Vec<T>> = Vec::with_capacity(b);
        {
            let x = kernel::read(&xs)?;
            let x = x.slice::<T>()?;
            for s in 0..b {
                let (x, y) = (&x[s * size..(s + 1) * size], &mut ys[s * size..(s + 1) * size]);
                let (mean, rstd) = statistics::<T>(x, n, c, eps);
                kernel::par_chunks(y, c, |r, y: &mut [T]| {
                    let x = x[r * c..].iter().zip(&mean).zip(&rstd);
                    y.iter_mut().zip(x).for_each(|(y, ((x, m), d))| *y = (*x - *m) * *d);
                });
                rstds.push(rstd);
            }
        }
        let backward = move |res: &Tensor, grad: &Tensor| {
            let (g, y) = (kernel::read(grad)?, kernel::read(res)?);
            let (g, y) = (g.slice::<T>()?, y.slice::<T>()?);
            let mut dx = kernel::zeros::<T>(b * size);
            for (s, rstd) in rstds.iter().enumerate() {
                let at = s * size..(s + 1) * size;
                let (g, y, d) = (&g[at.clone()], &y[at.clone()], &mut dx[at]);
                let m1: Vec<T> = column_means(n, c, |r, sums: &mut [T]| {
                    sums.iter_mut().zip(&g[r * c..]).for_each(|(s, g)| *s += *g);
                });
                let m2: Vec<T> = column_means(n, c, |r, sums: &mut [T]| {
                    let row = g[r * c..].iter().zip(&y[r * c..]);
                    sums.iter_mut().zip(row).for_each(|(s, (g, y))| *s += *g * *y);
                });
                kernel::par_chunks(d, c, |r, d: &mut [T]| {
                    let (g, y) = (&g[r * c..(r + 1) * c], &y[r * c..(r + 1) * c]);
                    let means = m1.iter().zip(&m2).zip(rstd);
                    for ((d, (g, y)), ((m1, m2), rstd)) in
                        d.iter_mut().zip(g.iter().zip(y)).zip(means)
                    {
                        *d = *rstd * (*g - *m1 - *y * *m2);
                    }
                });
            }
            Ok(vec![kernel::from_vec(dx, (b, n, c))?])
        };
        let ys = kernel::stored(ys);
        kernel::attach_with_result("instance-norm", &[&xs], ys, (b, n, c), backward)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};

    #[test]
    fn instance_norm_passes_the_audit() -> Result<()> {
        let (small, large) = (several(&[&[2, 5, 3]])?, several(&[&[2, 333, 21]])?);
        audit("instance_norm", &small, &large, &|x| instance_norm(&x[0], 1e-5), &|x| {
            composed(&x[0], 1e-5)
        })
    }

    #[test]
    fn equal_rows_are_zero_exactly() -> Result<()> {
        let row = (several(&[&[1, 1, 37]])?[0].to_dtype(candle_core::DType::F32)? * 7.3)?;
        let ys = instance_norm(&row.broadcast_as((2, 1001, 37))?, 1e-5)?;
        assert_eq!(ys.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);
        Ok(())
    }
}
