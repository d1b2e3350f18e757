//! Two linear layers with an activation between them, without the wide middle in memory where nothing is differentiated.

use candle_core::{Result, Tensor};

use crate::activation::{gelu_in_place, relu_in_place};
use crate::kernel::{self, Plan, Scratch, dispatch};
use crate::linear::{Linear, add_products, biases};

/// Values of the middle that are there at the same time.
const MIDDLE: usize = 1 << 21;
/// Values of a piece of it that a thread works on.
const BLOCK: usize = 1 << 11;

/// What stands between the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// [`crate::relu`].
    Relu,
    /// [`crate::gelu`].
    Gelu,
}

/// `second(activation(first(xs)))`: `(.., in)` to `(.., out)`.
///
/// On the CPU, where neither input nor parameters are differentiated, some rows after the others, so that the middle stays
/// near the processor.
///
/// # Errors
/// Those of the layers.
pub fn feed_forward(
    xs: &Tensor,
    first: &Linear,
    activation: Activation,
    second: &Linear,
) -> Result<Tensor> {
    let (w1, w2) = (first.weight()?, second.weight()?);
    let (b1, b2) = (first.bias(), second.bias());
    let learns = [Some(xs), Some(&w1), Some(&w2), b1, b2].iter().flatten().any(|t| t.track_op());
    let (wide, inner) = w1.dims2()?;
    let shaped = |t: Option<&Tensor>, n: usize| t.is_none_or(|t| t.dims() == [n]);
    let fits = xs.dims().last() == Some(&inner)
        && w2.dims2()?.1 == wide
        && shaped(b1, wide)
        && shaped(b2, w2.dims2()?.0)
        && wide * xs.elem_count() > 0;
    let alike = [Some(&w1), Some(&w2), b1, b2].iter().flatten().all(|t| t.dtype() == xs.dtype());
    if kernel::plan(xs) != Plan::Fused || learns || !fits || !alike {
        return second.forward(&match activation {
            Activation::Relu => first.forward_relu(xs)?,
            Activation::Gelu => first.forward_gelu(xs)?,
        });
    }
    let [xs, w1, w2] = [xs.contiguous()?, w1.contiguous()?, w2.contiguous()?];
    let mut shape = xs.dims().to_vec();
    let rows = xs.elem_count() / inner;
    let out = w2.dim(0)?;
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    dispatch!(xs.dtype(), T => {
        let (x, w1, w2) = (kernel::read(&xs)?, kernel::read(&w1)?, kernel::read(&w2)?);
        let (x, w1, w2) = (x.slice::<T>()?, w1.slice::<T>()?, w2.slice::<T>()?);
        let b1 = b1.map(|b| b.contiguous()?.flatten_all()?.to_vec1::<T>()).transpose()?;
        let mut ys = biases::<T>(rows, out, b2)?;
        let each = (MIDDLE / wide).max(1);
        let mut middle = Scratch::new(each.min(rows) * wide);
        for (x, y) in x.chunks(each * inner).zip(ys.chunks_mut(each * out)) {
            let middle = &mut middle[..x.len() / inner * wide];
            if let Some(b) = &b1 {
                kernel::par_chunks(middle, wide, |_, row| row.copy_from_slice(b));
            }
            add_products((wide, inner), x, w1, middle, b1.is_some());
            let apply: fn(&mut [T]) = match activation {
                Activation::Relu => relu_in_place,
                Activation::Gelu => gelu_in_place,
            };
            kernel::par_chunks(middle, BLOCK, |_, values| apply(values));
            add_products((out, wide), middle, w2, y, b2.is_some());
        }
        crate::profile::end("forward", "feed-forward", &shape);
        kernel::from_vec(ys, shape)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::values;
    use candle_core::DType;

    #[test]
    fn rows_in_turn_are_the_layers_one_by_one() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5), (DType::BF16, 2e-2)] {
            for (rows, wide) in [(3, 70), (70, 70), (2500, 1030)] {
                let at = |dims: &[usize], seed| values(dims, seed)?.to_dtype(dtype);
                let first = Linear::new(at(&[wide, 66], 1)?, Some(at(&[wide], 2)?));
                let x = at(&[1, rows, 66], 5)?;
                for bias in [None, Some(at(&[5], 4)?)] {
                    let second = Linear::new(at(&[5, wide], 3)?, bias);
                    for activation in [Activation::Relu, Activation::Gelu] {
                        let found = feed_forward(&x, &first, activation, &second)?;
                        let want = second.forward(&match activation {
                            Activation::Relu => first.forward_relu(&x)?,
                            Activation::Gelu => first.forward_gelu(&x)?,
                        })?;
                        let (found, want) =
                            (found.to_dtype(DType::F64)?, want.to_dtype(DType::F64)?);
                        let scale = want.abs()?.max_all()?.to_scalar::<f64>()?;
                        let error = (found - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                        assert!(error <= tolerance * scale, "{dtype:?} {rows} {wide}: {error:e}");
                    }
                }
            }
        }
        Ok(())
    }
}
