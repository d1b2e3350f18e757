//! Sums and products with an operand that is repeated, and weighted sums: what Candle differentiates by a strided sum on one
//! thread, and by a gradient of the constant operand too.

use candle_core::{DType, Result, Tensor, bail};

use crate::kernel::{self, Plan, Real, dispatch};

/// Elements a thread takes at a time.
const BLOCK: usize = 1 << 12;

/// `xs` `(B, ..)` plus `part` `(..)`, the same for every sample.
///
/// # Errors
/// When `part` has not the shape of one sample.
pub fn add_repeated(xs: &Tensor, part: &Tensor) -> Result<Tensor> {
    if xs.rank() == 0 || xs.dims()[1..] != *part.dims() {
        bail!("add_repeated: {:?} to every sample of {:?}", part.dims(), xs.dims());
    }
    #[cfg(feature = "cuda")]
    if kernel::plan(xs) == Plan::Cuda {
        return crate::cuda::add_repeated(xs, part);
    }
    if kernel::plan(xs) != Plan::Fused || xs.dtype() != part.dtype() || xs.elem_count() == 0 {
        return add_repeated_composed(xs, part);
    }
    let (xs, part) = (xs.contiguous()?, part.contiguous()?);
    let (shape, of_part) = (xs.shape().clone(), part.shape().clone());
    let each = part.elem_count();
    dispatch!(xs.dtype(), T => {
        let ys = {
            let (x, part) = (kernel::read(&xs)?, kernel::read(&part)?);
            let (x, part) = (x.slice::<T>()?, part.slice::<T>()?);
            kernel::par_filled(x.len(), each, |i, y: &mut [T]| {
                let pairs = x[i * each..].iter().zip(part);
                y.iter_mut().zip(pairs).for_each(|(y, (x, p))| *y = *x + *p);
            })
        };
        let backward = move |grad: &Tensor| {
            let sums = kernel::column_sums(kernel::read(grad)?.slice::<T>()?, each);
            Ok(vec![grad.clone(), kernel::from_vec(sums, of_part.clone())?])
        };
        kernel::attach("add-repeated", &[&xs, &part], ys, shape, backward)
    })
}

/// Oracle of the kernel, and the path of other devices and types.
pub(crate) fn add_repeated_composed(xs: &Tensor, part: &Tensor) -> Result<Tensor> {
    xs.broadcast_add(&part.to_dtype(xs.dtype())?)
}

/// Rows of `xs` `(.., C)`, each times its number in `factors` `(.., 1)`, which are constants: a mask, for instance.
///
/// # Errors
/// When there is not one factor for each row.
pub fn scale_rows(xs: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let (dims, c) = (xs.dims(), xs.dims().last().copied().unwrap_or(1));
    let rows = dims.len().saturating_sub(1);
    if factors.rank() != dims.len()
        || factors.dims()[..rows] != dims[..rows]
        || factors.dims()[rows..] != [1]
    {
        bail!("scale_rows: factors {:?} for {dims:?}", factors.dims());
    }
    let factors = factors.detach();
    #[cfg(feature = "cuda")]
    if kernel::plan(xs) == Plan::Cuda {
        return crate::cuda::scale_parts("scale-rows", xs, &factors);
    }
    if kernel::plan(xs) != Plan::Fused || xs.dtype() != factors.dtype() || xs.elem_count() == 0 {
        return xs.broadcast_mul(&factors);
    }
    let (xs, factors) = (xs.contiguous()?, factors.contiguous()?);
    let shape = xs.shape().clone();
    dispatch!(xs.dtype(), T => {
        let ys = scaled::<T>(&xs, &factors, c)?;
        let backward = move |grad: &Tensor| {
            Ok(vec![kernel::from_vec(scaled::<T>(grad, &factors, c)?, grad.shape())?])
        };
        kernel::attach("scale-rows", &[&xs], ys, shape, backward)
    })
}

fn scaled<T: Real>(xs: &Tensor, factors: &Tensor, c: usize) -> Result<Vec<T>> {
    let (x, f) = (kernel::read(xs)?, kernel::read(factors)?);
    let (x, f) = (x.slice::<T>()?, f.slice::<T>()?);
    Ok(kernel::par_filled(x.len(), c, |i, y| {
        y.iter_mut().zip(&x[i * c..]).for_each(|(y, x)| *y = *x * f[i]);
    }))
}

/// `Σ w_r x_r` of tensors of one shape with numbers `(R)`.
///
/// # Errors
/// When there is not one weight for each tensor, or none.
pub fn weighted_sum(xs: &[Tensor], weights: &Tensor) -> Result<Tensor> {
    let Some(first) = xs.first() else { bail!("weighted_sum: of nothing") };
    if weights.dims() != [xs.len()] || xs.iter().any(|x| x.dims() != first.dims()) {
        let shapes: Vec<&[usize]> = xs.iter().map(Tensor::dims).collect();
        bail!("weighted_sum: weights {:?} for {shapes:?}", weights.dims());
    }
    #[cfg(feature = "cuda")]
    if xs.iter().all(|x| kernel::plan(x) == Plan::Cuda && x.dtype() == first.dtype()) {
        return crate::cuda::weighted_sum(xs, weights);
    }
    let alike = xs.iter().all(|x| x.dtype() == weights.dtype());
    if kernel::plan(first) != Plan::Fused || !alike || first.elem_count() == 0 {
        return weighted_sum_composed(xs, weights);
    }
    let weights = weights.contiguous()?;
    let mut total = None;
    for (r, x) in xs.iter().enumerate() {
        total = Some(add_weighted(total, x, &weights, r)?);
    }
    total.map_or_else(|| first.zeros_like(), Ok)
}

/// In the type of the weights, whose gradients are sums over whole tensors, f32 at least. Oracle of the kernel, and the path
/// of other devices and types.
pub(crate) fn weighted_sum_composed(xs: &[Tensor], weights: &Tensor) -> Result<Tensor> {
    let weights = match weights.dtype() {
        DType::BF16 | DType::F16 => weights.to_dtype(DType::F32)?,
        _ => weights.clone(),
    };
    let mut total: Option<Tensor> = None;
    for (r, x) in xs.iter().enumerate() {
        let w = weights.narrow(0, r, 1)?.reshape(vec![1; x.rank()])?;
        let share = x.to_dtype(w.dtype())?.broadcast_mul(&w)?;
        total = Some(match total {
            Some(t) => (t + share)?,
            None => share,
        });
    }
    match (total, xs.first()) {
        (Some(t), Some(first)) => t.to_dtype(first.dtype()),
        _ => bail!("weighted_sum: of nothing"),
    }
}

/// `base + w_r x`, or without a base.
fn add_weighted(base: Option<Tensor>, x: &Tensor, weights: &Tensor, r: usize) -> Result<Tensor> {
    let (x, base) = (x.contiguous()?, base.map(|b| b.contiguous()).transpose()?);
    let shape = x.shape().clone();
    dispatch!(x.dtype(), T => {
        let weight = kernel::read(weights)?.slice::<T>()?[r];
        let ys = {
            let (base, x) = (base.as_ref().map(kernel::read).transpose()?, kernel::read(&x)?);
            let base = base.as_ref().map(|base| base.slice::<T>()).transpose()?;
            let x = x.slice::<T>()?;
            kernel::par_filled(x.len(), BLOCK, |i, y| {
                if let Some(base) = base {
                    y.copy_from_slice(&base[i * BLOCK..][..y.len()]);
                }
                y.iter_mut().zip(&x[i * BLOCK..]).for_each(|(y, x)| *y += weight * *x);
            })
        };
        let (xd, count, with_base) = (x.detach(), weights.elem_count(), base.is_some());
        let backward = move |grad: &Tensor| {
            let (g, x) = (kernel::read(grad)?, kernel::read(&xd)?);
            let (g, x) = (g.slice::<T>()?, x.slice::<T>()?);
            let dx = kernel::par_filled(g.len(), BLOCK, |i, d| {
                d.iter_mut().zip(&g[i * BLOCK..]).for_each(|(d, g)| *d = weight * *g);
            });
            let product = kernel::par_sum::<T, _>(g.len(), 1, 1, |range, sum| {
                let pairs = g[range.clone()].chunks(BLOCK).zip(x[range].chunks(BLOCK));
                sum[0] += pairs.map(|(g, x)| crate::norm::sum_of(g.len(), |i| g[i] * x[i])).sum::<T>();
            });
            let mut dw = vec![T::default(); count];
            dw[r] = product[0];
            let of_x = [kernel::from_vec(dx, grad.shape())?, kernel::from_vec(dw, count)?];
            Ok(with_base.then(|| grad.clone()).into_iter().chain(of_x).collect())
        };
        let inputs: Vec<&Tensor> = base.iter().chain([&x, weights]).collect();
        kernel::attach("weighted-sum", &inputs, ys, shape, backward)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several, values};

    #[test]
    fn add_repeated_passes_the_audit() -> Result<()> {
        let (small, large) =
            (several(&[&[3, 2, 5], &[2, 5]])?, several(&[&[4, 61, 53], &[61, 53]])?);
        let f = |x: &[Tensor]| add_repeated(&x[0], &x[1]);
        audit("add_repeated", &small, &large, &f, &|x| add_repeated_composed(&x[0], &x[1]))?;
        assert!(add_repeated(&small[0], &small[0]).is_err());
        Ok(())
    }

    #[test]
    fn scale_rows_passes_the_audit() -> Result<()> {
        let factors = |x: &Tensor| -> Result<Tensor> {
            let (b, l, _) = x.dims3()?;
            values(&[b, l, 1], 9)?.to_dtype(x.dtype())
        };
        let (small, large) = (several(&[&[3, 2, 5]])?, several(&[&[4, 61, 53]])?);
        let f = |x: &[Tensor]| scale_rows(&x[0], &factors(&x[0])?);
        audit("scale_rows", &small, &large, &f, &|x| x[0].broadcast_mul(&factors(&x[0])?))?;
        assert!(scale_rows(&small[0], &small[0]).is_err());
        Ok(())
    }

    #[test]
    fn weighted_sums_pass_the_audit() -> Result<()> {
        for n in [1, 2, 3] {
            let (s, l) = ([2, 3, 4], [3, 50, 71]);
            let some = |shape: &[usize; 3]| {
                let shapes: Vec<&[usize]> = vec![shape; n];
                several(&[&shapes[..], &[&[n]]].concat())
            };
            let f = |x: &[Tensor]| weighted_sum(&x[..n], &x[n]);
            let composed = |x: &[Tensor]| weighted_sum_composed(&x[..n], &x[n]);
            audit("weighted_sum", &some(&s)?, &some(&l)?, &f, &composed)?;
        }
        assert!(weighted_sum(&[], &values(&[1], 1)?).is_err());
        Ok(())
    }
}
