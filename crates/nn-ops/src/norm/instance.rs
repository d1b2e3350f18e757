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

/// Column means of an (n, c) matrix after `f(row, column)`, added in blocks of rows to keep rounding small.
fn column_means<T: Real>(n: usize, c: usize, f: impl Fn(usize, usize) -> T) -> Vec<T> {
    let mut total = vec![T::default(); c];
    for start in (0..n).step_by(64) {
        let mut block = vec![T::default(); c];
        for r in start..(start + 64).min(n) {
            for (i, b) in block.iter_mut().enumerate() {
                *b += f(r, i);
            }
        }
        for (t, b) in total.iter_mut().zip(block) {
            *t += b;
        }
    }
    let inv = T::of(n as f64);
    total.iter_mut().for_each(|t| *t = *t / inv);
    total
}

fn statistics<T: Real>(x: &[T], n: usize, c: usize, eps: f64) -> (Vec<T>, Vec<T>) {
    let mean = column_means(n, c, |r, i| x[r * c + i]);
    let mut rstd = column_means(n, c, |r, i| (x[r * c + i] - mean[i]) * (x[r * c + i] - mean[i]));
    rstd.iter_mut().for_each(|v| *v = T::of(1.0) / (*v + T::of(eps)).sqrt());
    (mean, rstd)
}

fn fused(xs: &Tensor, eps: f64) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (b, n, c) = xs.dims3()?;
    dispatch!(xs.dtype(), T => {
        let mut ys = vec![T::default(); b * n * c];
        {
            let x = kernel::read(&xs)?;
            let x = x.slice::<T>()?;
            kernel::par_chunks(&mut ys, n * c, |s, y| {
                let x = &x[s * n * c..(s + 1) * n * c];
                let (mean, rstd) = statistics(x, n, c, eps);
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    for i in 0..c {
                        y[i] = (x[i] - mean[i]) * rstd[i];
                    }
                }
            });
        }
        let xd = xs.detach();
        let backward = move |res: &Tensor, grad: &Tensor| {
            let (g, x, y) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(res)?);
            let (g, x, y) = (g.slice::<T>()?, x.slice::<T>()?, y.slice::<T>()?);
            let mut dx = vec![T::default(); x.len()];
            kernel::par_chunks(&mut dx, n * c, |s, d| {
                let at = s * n * c..(s + 1) * n * c;
                let (x, g, y) = (&x[at.clone()], &g[at.clone()], &y[at]);
                let (_, rstd) = statistics(x, n, c, eps);
                let m1 = column_means(n, c, |r, i| g[r * c + i]);
                let m2 = column_means(n, c, |r, i| g[r * c + i] * y[r * c + i]);
                for (r, d) in d.chunks_exact_mut(c).enumerate() {
                    for i in 0..c {
                        d[i] = rstd[i] * (g[r * c + i] - m1[i] - y[r * c + i] * m2[i]);
                    }
                }
            });
            Ok(vec![kernel::from_vec(dx, (b, n, c))?])
        };
        kernel::attach("instance-norm", &[&xs], ys, (b, n, c), backward)
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
}
