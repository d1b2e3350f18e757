//! Batched matrix products. Candle's loop over small products splits each over all threads and is wrong for some views.

use candle_core::{Result, Tensor, bail};

use crate::kernel::{self, Mat, Plan, Threads, dispatch};

/// `a b` for equal leading dimensions: `(.., m, k)` and `(.., k, n)` to `(.., m, n)`.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    product(a, b, false)
}

/// `a bᵀ` for equal leading dimensions: `(.., m, k)` and `(.., n, k)` to `(.., m, n)`.
pub fn matmul_nt(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    product(a, b, true)
}

fn product(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
    let (da, db) = (a.dims(), b.dims());
    let rank = da.len();
    let inner_b = if transpose_b { rank.wrapping_sub(1) } else { rank.wrapping_sub(2) };
    if rank < 2
        || db.len() != rank
        || da[..rank - 2] != db[..rank - 2]
        || da[rank - 1] != db[inner_b]
    {
        bail!("matmul: {da:?} and {db:?} (second transposed: {transpose_b}) do not fit");
    }
    match kernel::plan(a) {
        Plan::Fused => fused(a, b, transpose_b),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            product(&a.to_dtype(f32)?, &b.to_dtype(f32)?, transpose_b)?.to_dtype(a.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda if b.elem_count() > 0 => crate::cuda::matmul(a, b, transpose_b),
        #[cfg(feature = "cuda")]
        Plan::Cuda => composed(a, b, transpose_b),
        Plan::Composed => composed(a, b, transpose_b),
    }
}

/// Candle's matmul on contiguous operands: oracle of the kernel, and the path of other devices.
pub(crate) fn composed(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
    let b = if transpose_b { b.t()? } else { b.clone() };
    a.contiguous()?.matmul(&b.contiguous()?)
}

fn fused(a: &Tensor, b: &Tensor, transpose_b: bool) -> Result<Tensor> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let rank = a.rank();
    let (m, k) = (a.dim(rank - 2)?, a.dim(rank - 1)?);
    let n = b.dim(if transpose_b { rank - 2 } else { rank - 1 })?;
    let count: usize = a.dims()[..rank - 2].iter().product();
    let mut shape = a.dims().to_vec();
    shape[rank - 1] = n;
    dispatch!(a.dtype(), T => {
        let ys = {
            let (ra, rb) = (kernel::read(&a)?, kernel::read(&b)?);
            let (sa, sb) = (ra.slice::<T>()?, rb.slice::<T>()?);
            each_product(count, (m, n, k), &|i| Mat::rows(&sa[i * m * k..(i + 1) * m * k], k), &|i| {
                let s = &sb[i * k * n..(i + 1) * k * n];
                if transpose_b { Mat::rows(s, k).t() } else { Mat::rows(s, n) }
            })
        };
        let (ad, bd) = (a.detach(), b.detach());
        let (need_a, need_b) = (a.track_op(), b.track_op());
        let backward = move |grad: &Tensor| {
            let (g, ra, rb) = (kernel::read(grad)?, kernel::read(&ad)?, kernel::read(&bd)?);
            let (g, sa, sb) = (g.slice::<T>()?, ra.slice::<T>()?, rb.slice::<T>()?);
            let at_g = |i: usize| Mat::rows(&g[i * m * n..(i + 1) * m * n], n);
            let at_a = |i: usize| Mat::rows(&sa[i * m * k..(i + 1) * m * k], k);
            let da = if need_a {
                let v = each_product(count, (m, k, n), &at_g, &|i| {
                    let s = &sb[i * k * n..(i + 1) * k * n];
                    if transpose_b { Mat::rows(s, k) } else { Mat::rows(s, n).t() }
                });
                kernel::from_vec(v, ad.shape())?
            } else { ad.clone() };
            let db = if need_b {
                let v = if transpose_b {
                    each_product(count, (n, k, m), &|i| at_g(i).t(), &at_a)
                } else {
                    each_product(count, (k, n, m), &|i| at_a(i).t(), &at_g)
                };
                kernel::from_vec(v, bd.shape())?
            } else { bd.clone() };
            Ok(vec![da, db])
        };
        kernel::attach("matmul", &[&a, &b], ys, shape, backward)
    })
}

/// `count` products of size (m, n, k), one after another in the result. Few large ones use all threads each; many small
/// ones are spread over the threads.
fn each_product<'a, T: kernel::Real>(
    count: usize,
    (m, n, k): (usize, usize, usize),
    a: &(dyn Fn(usize) -> Mat<'a, T> + Sync),
    b: &(dyn Fn(usize) -> Mat<'a, T> + Sync),
) -> Vec<T> {
    let mut out = kernel::zeros::<T>(count * m * n);
    if m * n == 0 {
        return out;
    }
    if count < rayon::current_num_threads() {
        for (i, dst) in out.chunks_exact_mut(m * n).enumerate() {
            kernel::gemm((m, n, k), dst, n, false, a(i), b(i), Threads::All);
        }
    } else {
        kernel::par_chunks(&mut out, m * n, |i, dst| {
            kernel::gemm((m, n, k), dst, n, false, a(i), b(i), Threads::One);
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};

    #[test]
    fn matmul_passes_the_audit() -> Result<()> {
        // Few and many products, below and above the number of threads.
        for (small, large) in [
            ([&[3, 4][..], &[4, 5]], [&[130, 70][..], &[70, 90]]),
            ([&[2, 2, 3, 4], &[2, 2, 4, 1]], [&[2, 5, 31, 17], &[2, 5, 17, 29]]),
        ] {
            let (small, large) = (several(&small)?, several(&large)?);
            audit("matmul", &small, &large, &|x| matmul(&x[0], &x[1]), &|x| {
                composed(&x[0], &x[1], false)
            })?;
            let turn = |x: &[Tensor]| -> Result<Vec<Tensor>> {
                let r = x[1].rank();
                Ok(vec![x[0].clone(), x[1].transpose(r - 2, r - 1)?.contiguous()?])
            };
            audit(
                "matmul_nt",
                &turn(&small)?,
                &turn(&large)?,
                &|x| matmul_nt(&x[0], &x[1]),
                &|x| composed(&x[0], &x[1], true),
            )?;
        }
        Ok(())
    }

    #[test]
    fn a_product_with_itself() -> Result<()> {
        let x = several(&[&[2, 3, 4]])?;
        let error = crate::gradcheck::gradient_error(&x, |x| matmul_nt(&x[0], &x[0]))?;
        assert!(error < 1e-7, "{error:e}");
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors() -> Result<()> {
        let x = several(&[&[2, 3, 4], &[2, 3, 4], &[1, 4, 3], &[4]])?;
        assert!(matmul(&x[0], &x[1]).is_err());
        assert!(matmul(&x[0], &x[2]).is_err());
        assert!(matmul(&x[3], &x[3]).is_err());
        Ok(())
    }
}
