//! Activations whose derivative is PyTorch's: `relu'(0) = 0`, exact (erf) GELU.

use candle_core::{Result, Tensor};

use crate::kernel::{self, Plan, Real, dispatch};

const BLOCK: usize = 1 << 11;

/// `max(x, 0)`. Candle's own has derivative 1 at 0, PyTorch's 0.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    match kernel::plan(xs) {
        Plan::Fused => dispatch!(xs.dtype(), T => elementwise::<T>(
            "relu",
            xs,
            |x| if x > T::default() { x } else { T::default() },
            |x, g| if x > T::default() { g } else { T::default() },
        )),
        Plan::ThroughF32 => relu(&xs.to_dtype(candle_core::DType::F32)?)?.to_dtype(xs.dtype()),
        Plan::Composed => relu_composed(xs),
    }
}

/// `x` times the constant indicator of `x > 0`.
pub(crate) fn relu_composed(xs: &Tensor) -> Result<Tensor> {
    xs.mul(&xs.detach().gt(0.0)?.to_dtype(xs.dtype())?)
}

/// `x Φ(x)` with the exact normal distribution function (PyTorch's default `GELU`).
pub fn gelu(xs: &Tensor) -> Result<Tensor> {
    match kernel::plan(xs) {
        Plan::Fused => dispatch!(xs.dtype(), T => elementwise::<T>("gelu", xs, gelu_value, gelu_gradient)),
        Plan::ThroughF32 => gelu(&xs.to_dtype(candle_core::DType::F32)?)?.to_dtype(xs.dtype()),
        Plan::Composed => xs.gelu_erf(),
    }
}

fn cdf<T: Real>(x: T) -> T {
    T::of(0.5) * (T::of(1.0) + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

fn gelu_value<T: Real>(x: T) -> T {
    x * cdf(x)
}

fn gelu_gradient<T: Real>(x: T, g: T) -> T {
    // 1 / sqrt(2 pi)
    let density = T::of(0.398_942_280_401_432_7) * (T::of(-0.5) * x * x).exp();
    g * (cdf(x) + x * density)
}

/// A value and the product of its derivative with the gradient above, element by element.
fn elementwise<T: Real>(
    name: &'static str,
    xs: &Tensor,
    value: impl Fn(T) -> T + Send + Sync,
    gradient: impl Fn(T, T) -> T + Send + Sync + 'static,
) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let mut ys = vec![T::default(); xs.elem_count()];
    {
        let x = kernel::read(&xs)?;
        let x = x.slice::<T>()?;
        kernel::par_chunks(&mut ys, BLOCK, |i, y| {
            for (y, x) in y.iter_mut().zip(&x[i * BLOCK..]) {
                *y = value(*x);
            }
        });
    }
    let xd = xs.detach();
    let backward = move |_: &Tensor, grad: &Tensor| {
        let (g, x) = (kernel::read(grad)?, kernel::read(&xd)?);
        let (g, x) = (g.slice::<T>()?, x.slice::<T>()?);
        let mut dx = vec![T::default(); x.len()];
        kernel::par_chunks(&mut dx, BLOCK, |i, d| {
            for ((d, x), g) in d.iter_mut().zip(&x[i * BLOCK..]).zip(&g[i * BLOCK..]) {
                *d = gradient(*x, *g);
            }
        });
        Ok(vec![kernel::from_vec(dx, xd.shape())?])
    };
    kernel::attach(name, &[&xs], ys, xs.shape(), backward)
}
