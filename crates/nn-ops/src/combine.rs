//! Sums and products of two tensors of one shape, and views, as operations of this crate: their gradients go straight to
//! the operations that made their operands.

use candle_core::{Result, Shape, Tensor};

use crate::kernel::{self, Plan, Real, View, dispatch};

/// Elements a thread takes at a time.
const BLOCK: usize = 1 << 12;

/// `a + b`.
///
/// # Errors
/// When the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if alike(a, b, Plan::Cuda) {
        return crate::cuda::add_scaled(a, b, None);
    }
    if !alike(a, b, Plan::Fused) {
        return a + b;
    }
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    dispatch!(a.dtype(), T => {
        let ys = zipped::<T>(&a, &b, |x, y| x + y)?;
        let backward = |grad: &Tensor| Ok(vec![grad.clone(), grad.clone()]);
        kernel::attach("add", &[&a, &b], ys, a.shape(), backward)
    })
}

/// `a b`, element by element.
///
/// # Errors
/// When the shapes differ.
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if alike(a, b, Plan::Cuda) {
        return crate::cuda::mul(a, b);
    }
    if !alike(a, b, Plan::Fused) {
        return a * b;
    }
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    dispatch!(a.dtype(), T => {
        let ys = zipped::<T>(&a, &b, |x, y| x * y)?;
        let (ad, bd, needed) = (a.detach(), b.detach(), [a.track_op(), b.track_op()]);
        let backward = move |grad: &Tensor| {
            let times = |needed: bool, other: &Tensor| match needed {
                true => kernel::from_vec(zipped::<T>(grad, other, |g, y| g * y)?, grad.shape()),
                false => Ok(grad.clone()),
            };
            Ok(vec![times(needed[0], &bd)?, times(needed[1], &ad)?])
        };
        kernel::attach("mul", &[&a, &b], ys, a.shape(), backward)
    })
}

fn alike(a: &Tensor, b: &Tensor, plan: Plan) -> bool {
    kernel::plan(a) == plan
        && kernel::plan(b) == plan
        && a.dtype() == b.dtype()
        && a.dims() == b.dims()
        && a.elem_count() > 0
}

/// `f(a, b)` of contiguous tensors of one shape, by all threads.
pub(crate) fn zipped<T: Real>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<Vec<T>> {
    let (x, y) = (kernel::read(a)?, kernel::read(b)?);
    let (x, y) = (x.slice::<T>()?, y.slice::<T>()?);
    Ok(kernel::par_filled(x.len(), BLOCK, |i, out| {
        let pairs = x[i * BLOCK..].iter().zip(&y[i * BLOCK..]);
        out.iter_mut().zip(pairs).for_each(|(o, (x, y))| *o = f(*x, *y));
    }))
}

/// The same values in another shape, without a copy where they lie in order.
///
/// # Errors
/// When the shape has another number of elements.
pub fn reshape(xs: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let ys = xs.reshape(shape.into())?;
    kernel::attach_view(xs, &ys, View::Reshaped(xs.shape().clone()));
    Ok(ys)
}

/// The same values with the dimensions in another order, without a copy: `order[i]` is where dimension `i` was.
///
/// # Errors
/// When `order` is not one of the dimensions.
pub fn permute<const N: usize>(xs: &Tensor, order: [usize; N]) -> Result<Tensor> {
    let ys = xs.permute(order.as_slice())?;
    let mut back = vec![0; N];
    order.iter().enumerate().for_each(|(i, from)| back[*from] = i);
    kernel::attach_view(xs, &ys, View::Permuted(back));
    Ok(ys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several, values};
    use crate::gelu;

    #[test]
    fn sums_and_products_pass_the_audit() -> Result<()> {
        let (small, large) =
            (several(&[&[3, 2, 5], &[3, 2, 5]])?, several(&[&[4, 61, 53], &[4, 61, 53]])?);
        audit("add", &small, &large, &|x| add(&x[0], &x[1]), &|x| &x[0] + &x[1])?;
        audit("mul", &small, &large, &|x| mul(&x[0], &x[1]), &|x| &x[0] * &x[1])?;
        let factor = values(&[3, 2, 5], 9)?;
        let by_constant = |x: &[Tensor]| mul(&factor, &mul(&x[0], &x[0])?);
        crate::audit::gradients("mul by a constant and itself", &small[..1], &by_constant)?;
        assert!(add(&small[0], &large[0]).is_err() && mul(&small[0], &large[0]).is_err());
        Ok(())
    }

    /// Results that operations of this crate, views of them and Candle's operations use in turn, some of them twice.
    #[test]
    fn gradients_find_their_way() -> Result<()> {
        let f = |x: &[Tensor]| {
            let a = gelu(&x[0])?;
            let flat = reshape(&a, (6, 5))?;
            let b = mul(&flat, &(flat.tanh()? * 2.0)?)?;
            let c = crate::softmax(&reshape(&b, (3, 2, 5))?)?;
            let d = add(&c, &reshape(&reshape(&flat, 30)?, (3, 2, 5))?)?;
            let e = permute(&reshape(&permute(&d, [1, 2, 0])?, (2, 3, 5))?, [1, 0, 2])?;
            add(&add(&(&a * &d)?, &add(&d, &d)?)?, &mul(&e, &gelu(&permute(&e, [0, 1, 2])?)?)?)
        };
        crate::audit::gradients("a mixed graph", &several(&[&[3, 2, 5]])?, &f)?;
        // A graph may be differentiated again, and results may outlive or go before what was made of them.
        let x = candle_core::Var::from_tensor(&values(&[3, 2, 5], 1)?)?;
        let inputs = [x.as_tensor().clone()];
        let y = f(&inputs)?.sum_all()?;
        let of = |y: &Tensor| -> Result<Vec<f64>> {
            let grads = y.backward()?;
            grads.get(&x).map_or_else(|| Ok(Vec::new()), |g| g.flatten_all()?.to_vec1())
        };
        let first = of(&y)?;
        assert!(first.len() == 30 && first == of(&y)? && first == of(&f(&inputs)?.sum_all()?)?);
        Ok(())
    }
}
