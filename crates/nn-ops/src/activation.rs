//! Activations whose derivative is PyTorch's: `relu'(0) = 0`, exact (erf) GELU.

use candle_core::{Result, Tensor};

use crate::kernel::{self, Plan, Real, dispatch, wide};

const BLOCK: usize = 1 << 11;

/// `max(x, 0)`. Candle's own has derivative 1 at 0, PyTorch's 0.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    match kernel::plan(xs) {
        Plan::Fused => dispatch!(xs.dtype(), T => {
            elementwise::<T>("relu", xs, relu_values, relu_gradients)
        }),
        Plan::ThroughF32 => relu(&xs.to_dtype(candle_core::DType::F32)?)?.to_dtype(xs.dtype()),
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::relu(xs),
        Plan::Composed => relu_composed(xs),
    }
}

/// A choice by the constant `x <= 0`: right for infinities, and keeps not-a-number.
pub(crate) fn relu_composed(xs: &Tensor) -> Result<Tensor> {
    let zeros = xs.detach().zeros_like()?;
    xs.detach().le(0.0)?.where_cond(&zeros, xs)
}

/// The hyperbolic tangent. Candle's runs on one thread.
pub fn tanh(xs: &Tensor) -> Result<Tensor> {
    match kernel::plan(xs) {
        Plan::Fused => dispatch!(xs.dtype(), T => {
            elementwise::<T>("tanh", xs, tanh_values, tanh_gradients)
        }),
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::tanh(xs),
        _ => xs.tanh(),
    }
}

fn tanh_values<T: Real>(ys: &mut [T], xs: &[T]) {
    ys.iter_mut().zip(xs).for_each(|(y, x)| *y = x.tanh());
}

fn tanh_gradients<T: Real>(ds: &mut [T], xs: &[T], gs: &[T]) {
    for ((d, x), g) in ds.iter_mut().zip(xs).zip(gs) {
        let y = x.tanh();
        *d = *g * (T::of(1.0) - y * y);
    }
}

/// `x Φ(x)` with the exact normal distribution function (PyTorch's default `GELU`).
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    match kernel::plan(xs) {
        Plan::Fused => dispatch!(xs.dtype(), T => {
            elementwise::<T>("gelu", xs, gelu_values, gelu_gradients)
        }),
        Plan::ThroughF32 => gelu(&xs.to_dtype(candle_core::DType::F32)?)?.to_dtype(xs.dtype()),
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::gelu(xs),
        Plan::Composed => gelu_composed(xs),
    }
}

/// From the error function: the gradient of Candle's `gelu_erf` carries constants of six digits.
pub(crate) fn gelu_composed(xs: &Tensor) -> Result<Tensor> {
    let twice_cdf = ((xs * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
    (xs * 0.5)?.mul(&twice_cdf)
}

#[inline(always)]
fn relu_value<T: Real>(x: T) -> T {
    if x <= T::default() { T::default() } else { x }
}

wide! {
    fn relu_values(ys: &mut [T], xs: &[T]) {
        ys.iter_mut().zip(xs).for_each(|(y, x)| *y = relu_value(*x));
    }
}

wide! {
    pub(crate) fn relu_in_place(xs: &mut [T]) {
        xs.iter_mut().for_each(|x| *x = relu_value(*x));
    }
}

wide! {
    fn relu_gradients(ds: &mut [T], xs: &[T], gs: &[T]) {
        for ((d, x), g) in ds.iter_mut().zip(xs).zip(gs) {
            *d = if *x <= T::default() { T::default() } else { *g };
        }
    }
}

#[inline(always)]
fn gelu_value<T: Real>(x: T) -> T {
    let size = x.larger(T::default() - x);
    // Far out, nothing is taken away, of infinity either.
    let near = if size > T::of(40.0) { T::of(40.0) } else { size };
    x.larger(T::default()) - T::of(0.5) * near * size.two_tails()
}

wide! {
    fn gelu_values(ys: &mut [T], xs: &[T]) {
        ys.iter_mut().zip(xs).for_each(|(y, x)| *y = gelu_value(*x));
    }
}

wide! {
    pub(crate) fn gelu_in_place(xs: &mut [T]) {
        xs.iter_mut().for_each(|x| *x = gelu_value(*x));
    }
}

wide! {
    fn gelu_gradients(ds: &mut [T], xs: &[T], gs: &[T]) {
        // 1 / sqrt(2 pi)
        let peak = T::of(0.398_942_280_401_432_7);
        for ((d, x), g) in ds.iter_mut().zip(xs).zip(gs) {
            let x = *x;
            let tail = T::of(0.5) * x.larger(T::default() - x).two_tails();
            let cdf = if x < T::default() { tail } else { T::of(1.0) - tail };
            *d = *g * (cdf + x * (peak * (T::of(-0.5) * x * x).exp_down()));
        }
    }
}

/// Values, and the products of the derivative with the gradient above, block by block.
fn elementwise<T: Real>(
    name: &'static str,
    xs: &Tensor,
    values: fn(&mut [T], &[T]),
    gradients: fn(&mut [T], &[T], &[T]),
) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let ys = {
        let x = kernel::read(&xs)?;
        let x = x.slice::<T>()?;
        kernel::par_filled(x.len(), BLOCK, |i, y| values(y, &x[i * BLOCK..][..y.len()]))
    };
    let xd = xs.detach();
    let backward = move |grad: &Tensor| {
        let (g, x) = (kernel::read(grad)?, kernel::read(&xd)?);
        let (g, x) = (g.slice::<T>()?, x.slice::<T>()?);
        let dx = kernel::par_filled(x.len(), BLOCK, |i, d| {
            let n = d.len();
            gradients(d, &x[i * BLOCK..][..n], &g[i * BLOCK..][..n]);
        });
        Ok(vec![kernel::from_vec(dx, xd.shape())?])
    };
    kernel::attach(name, &[&xs], ys, xs.shape(), backward)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};
    use candle_core::{DType, Device, Var};

    #[test]
    fn activations_pass_the_audit() -> Result<()> {
        let small = vec![(several(&[&[2, 3, 5]])?[0].clone() * 4.0)?];
        let large = vec![(several(&[&[3, 50, 71]])?[0].clone() * 6.0)?];
        audit("relu", &small, &large, &|x| relu(&x[0]), &|x| relu_composed(&x[0]))?;
        audit("tanh", &small, &large, &|x| tanh(&x[0]), &|x| x[0].tanh())?;
        audit("gelu", &small, &large, &|x| gelu(&x[0]), &|x| gelu_composed(&x[0]))
    }

    #[test]
    fn relu_at_zero_infinity_and_not_a_number() -> Result<()> {
        for f in [relu, relu_composed] {
            let v = [0f32, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1.0, 2.0];
            let x = Var::from_tensor(&Tensor::new(&v, &Device::Cpu)?)?;
            let y = f(&x)?;
            let grads = y.backward()?;
            let y = y.to_vec1::<f32>()?;
            assert!(y[4].is_nan());
            assert_eq!((&y[..4], &y[5..]), (&[0.0, 0.0, f32::INFINITY, 0.0][..], &[0.0, 2.0][..]));
            let g = grads.get(&x).map(|g| g.to_vec1::<f32>()).transpose()?;
            let g = g.unwrap_or_default();
            assert_eq!((&g[..4], &g[5..]), (&[0.0, 0.0, 1.0, 0.0][..], &[0.0, 1.0][..]));
        }
        Ok(())
    }

    #[test]
    fn gelu_in_f32_is_close_to_f64_everywhere() -> Result<()> {
        let v: Vec<f64> = (-12_000..12_000).map(|i| f64::from(i as f32 * 1e-3)).collect();
        let x = Tensor::new(v.as_slice(), &Device::Cpu)?;
        let (a, b) = (gelu(&x.to_dtype(DType::F32)?)?.to_dtype(DType::F64)?, gelu(&x)?);
        let (a, b) = (a.to_vec1::<f64>()?, b.to_vec1::<f64>()?);
        for ((a, b), x) in a.iter().zip(&b).zip(&v) {
            assert!((a - b).abs() < 3e-7 * x.abs().max(0.1), "gelu({x}): {a} for {b}");
        }
        Ok(())
    }
}
