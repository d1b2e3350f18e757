//! Finite differences against the gradients of the graph, for tests of any differentiable function.

use candle_core::{DType, Device, Result, Tensor, Var, bail};

/// Central differences in f64 of `Σ probe * f(inputs)` against backpropagation, for every element of every input.
///
/// Returns the largest error, relative to `max(1, |gradient|)`. `f` may use an input several times.
///
/// # Errors
/// When an input gets no gradient at all, or `f` fails.
pub fn gradient_error(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<f64> {
    let vars = inputs
        .iter()
        .map(|t| Var::from_tensor(&t.to_dtype(DType::F64)?.contiguous()?.copy()?))
        .collect::<Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tracked)?;
    // Uneven weights, so that errors which cancel in a plain sum are seen.
    let weights: Vec<f64> =
        (0..out.elem_count()).map(|i| ((i * 37 % 101) as f64) / 50.0 - 1.0).collect();
    let probe = Tensor::from_vec(weights, out.shape(), &Device::Cpu)?;
    let value = |out: Tensor| -> Result<f64> { (out * &probe)?.sum_all()?.to_scalar::<f64>() };
    let grads = (out * &probe)?.sum_all()?.backward()?;
    let step = 1e-5;
    let mut worst = 0.0f64;
    for (i, var) in vars.iter().enumerate() {
        let Some(grad) = grads.get(var.as_tensor()) else {
            bail!("input {i} of shape {:?} got no gradient", var.dims());
        };
        let grad = grad.flatten_all()?.to_vec1::<f64>()?;
        let base = var.as_detached_tensor().flatten_all()?.to_vec1::<f64>()?;
        for (j, g) in grad.iter().enumerate() {
            let at = |delta: f64| -> Result<f64> {
                let mut moved = base.clone();
                moved[j] += delta;
                let mut args: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
                args[i] = Tensor::from_vec(moved, var.shape(), &Device::Cpu)?;
                value(f(&args)?)
            };
            let numeric = (at(step)? - at(-step)?) / (2.0 * step);
            worst = worst.max((numeric - g).abs() / g.abs().max(1.0));
        }
    }
    Ok(worst)
}
