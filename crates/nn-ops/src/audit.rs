//! One audit for every operation of the crate (tests only): gradients against finite differences on every kind of layout,
//! the fused kernel against the composition, half precision, and the same bits for any number of threads.

use candle_core::{DType, Result, Tensor};

use crate::gradcheck::gradient_error;
pub(crate) use crate::selftest::values;
use crate::selftest::{distance, results};

/// A function of tensors.
pub(crate) type Function<'a> = &'a (dyn Fn(&[Tensor]) -> Result<Tensor> + Sync);

/// Several of them.
pub(crate) fn several(shapes: &[&[usize]]) -> Result<Vec<Tensor>> {
    shapes.iter().enumerate().map(|(i, s)| values(s, i as u32 + 1)).collect()
}

/// The same values as a view that does not lie in memory in order.
fn transposed(t: &Tensor) -> Result<Tensor> {
    match t.rank() {
        0 | 1 => Ok(t.clone()),
        r => t.transpose(0, r - 1)?.contiguous()?.transpose(0, r - 1),
    }
}

/// The same values inside a larger tensor.
fn narrowed(t: &Tensor) -> Result<Tensor> {
    if t.rank() == 0 {
        return Ok(t.clone());
    }
    let last = t.rank() - 1;
    let n = t.dim(last)?;
    Tensor::cat(&[&(t * 3.0)?, t, t], last)?.narrow(last, n, n)
}

/// The first entry repeated with stride 0.
fn broadcast(t: &Tensor) -> Result<Tensor> {
    if t.rank() == 0 { Ok(t.clone()) } else { t.narrow(0, 0, 1)?.broadcast_as(t.shape()) }
}

fn cast(inputs: &[Tensor], dtype: DType) -> Result<Vec<Tensor>> {
    inputs.iter().map(|t| t.to_dtype(dtype)).collect()
}

/// Finite differences in f64 on contiguous, transposed, narrowed and repeated inputs, and on inputs used twice.
pub(crate) fn gradients(name: &str, inputs: &[Tensor], f: Function) -> Result<()> {
    type View = fn(&Tensor) -> Result<Tensor>;
    let views: [(&str, View); 4] = [
        ("contiguous", |t| Ok(t.clone())),
        ("transposed", transposed),
        ("narrowed", narrowed),
        ("broadcast", broadcast),
    ];
    for (layout, view) in views {
        let through = |xs: &[Tensor]| f(&xs.iter().map(view).collect::<Result<Vec<_>>>()?);
        let error = gradient_error(inputs, through)?;
        assert!(error < 2e-6, "{name}, {layout}: gradient error {error:e}");
        if layout != "broadcast" {
            let plain = f(inputs)?.flatten_all()?.to_vec1::<f64>()?;
            let viewed = through(inputs)?.flatten_all()?.to_vec1::<f64>()?;
            assert_eq!(plain, viewed, "{name}: value of {layout} input");
        }
    }
    let twice = |xs: &[Tensor]| {
        let scaled = xs.iter().map(|t| t * 1.25).collect::<Result<Vec<_>>>()?;
        (f(xs)? * 0.5)? + f(&scaled)?
    };
    let error = gradient_error(inputs, twice)?;
    assert!(error < 2e-6, "{name}, input used twice: gradient error {error:e}");
    Ok(())
}

/// The kernel against the composition in f64 and f32, value and gradients.
pub(crate) fn oracle(name: &str, inputs: &[Tensor], f: Function, composed: Function) -> Result<()> {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        let inputs = cast(inputs, dtype)?;
        let d = distance(&results(&inputs, f)?, &results(&inputs, composed)?);
        assert!(d < tolerance, "{name}: kernel and composition differ by {d:e} in {dtype:?}");
    }
    Ok(())
}

/// bf16 and f16 inputs work, near the f32 result of the same (rounded) inputs.
pub(crate) fn half(name: &str, inputs: &[Tensor], f: Function) -> Result<()> {
    for (dtype, tolerance) in [(DType::BF16, 0.02), (DType::F16, 0.004)] {
        let rounded = cast(inputs, dtype)?;
        let out = f(&rounded)?;
        assert_eq!(out.dtype(), dtype, "{name}");
        let d = distance(&results(&rounded, f)?, &results(&cast(&rounded, DType::F32)?, f)?);
        assert!(d < tolerance, "{name}: {dtype:?} is {d} from f32");
    }
    Ok(())
}

/// The same bits on 1, 2 and 3 threads, and on every repetition.
pub(crate) fn threads(name: &str, inputs: &[Tensor], f: Function) -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let inputs = cast(inputs, dtype)?;
        let reference = results(&inputs, f)?;
        for n in [1, 2, 3, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            let pool = pool.map_err(candle_core::Error::wrap)?;
            let found = pool.install(|| results(&inputs, f))?;
            assert!(found == reference, "{name}: {n} threads change the {dtype:?} result");
        }
    }
    Ok(())
}

/// All of the above: `small` (odd sizes, batch >= 2) for finite differences, `large` for the parallel paths.
pub(crate) fn audit(
    name: &str,
    small: &[Tensor],
    large: &[Tensor],
    f: Function,
    composed: Function,
) -> Result<()> {
    gradients(name, small, f)?;
    gradients(&format!("{name} (composed)"), small, composed)?;
    for inputs in [small, large] {
        oracle(name, inputs, f, composed)?;
        half(name, inputs, f)?;
        threads(name, inputs, f)?;
    }
    Ok(())
}
