//! Tokens to channels and back: the last two dimensions exchanged in memory.

use candle_core::{Result, Tensor};

use crate::combine::reshape;
use crate::kernel::{self, Plan, Real, dispatch};

/// Side of the square that is turned at once: 16 f32 fill a cache line.
const SIDE: usize = 16;

/// `(B, N, C)` to `(B, C, N)`, contiguous.
///
/// # Errors
/// When the tensor is not of rank 3.
pub fn turn(xs: &Tensor) -> Result<Tensor> {
    let (b, n, c) = xs.dims3()?;
    if xs.transpose(1, 2)?.is_contiguous() {
        return xs.transpose(1, 2);
    }
    #[cfg(feature = "cuda")]
    if kernel::plan(xs) == Plan::Cuda {
        return crate::cuda::turn(xs);
    }
    if kernel::plan(xs) != Plan::Fused {
        return xs.transpose(1, 2)?.contiguous();
    }
    let xs = xs.contiguous()?;
    dispatch!(xs.dtype(), T => {
        let ys = turned(kernel::read(&xs)?.slice::<T>()?, n, c);
        let backward = move |grad: &Tensor| {
            let dx = turned(kernel::read(grad)?.slice::<T>()?, c, n);
            Ok(vec![kernel::from_vec(dx, (b, n, c))?])
        };
        kernel::attach("turn", &[&xs], ys, (b, c, n), backward)
    })
}

/// Tokens `(B, N, C)` of a map of `(h, w)` cells as a map `(B, C, h, w)`. In bf16 on a GPU with cuDNN, whose
/// tensor cores want it so, it is a view with its channels last in memory; elsewhere it lies in order.
///
/// # Errors
/// When the tokens do not fill the map.
pub fn tokens_to_map(tokens: &Tensor, (h, w): (usize, usize)) -> Result<Tensor> {
    let (b, _, c) = tokens.dims3()?;
    #[cfg(feature = "cudnn")]
    if kernel::plan(tokens) == Plan::Cuda && tokens.dtype() == candle_core::DType::BF16 {
        return crate::cuda::map_of(&reshape(tokens, (b, h, w, c))?);
    }
    reshape(&turn(tokens)?, (b, c, h, w))
}

/// A map `(B, C, h, w)` in either layout as tokens `(B, N, C)`.
pub fn map_to_tokens(map: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = map.dims4()?;
    #[cfg(feature = "cuda")]
    if kernel::plan(map) == Plan::Cuda
        && let Some(last) = crate::cuda::behind(map)?
    {
        return reshape(&last, (b, h * w, c));
    }
    turn(&reshape(map, (b, c, h * w))?)
}

/// Matrices `(n, c)` one after another to `(c, n)`.
fn turned<T: Real>(x: &[T], n: usize, c: usize) -> Vec<T> {
    let mut ys = kernel::zeros::<T>(x.len());
    if n * c == 0 {
        return ys;
    }
    // A piece of work: some columns of the input, which are rows of the output.
    let pieces = c.div_ceil(SIDE);
    let work = |i: usize, y: &mut [T], x: &[T]| {
        let first = i * SIDE;
        let wide = y.len() / n;
        for start in (0..n).step_by(SIDE) {
            let rows = SIDE.min(n - start);
            for r in 0..rows {
                let from = &x[(start + r) * c + first..][..wide];
                for (k, v) in from.iter().enumerate() {
                    y[k * n + start + r] = *v;
                }
            }
        }
    };
    for (x, y) in x.chunks_exact(n * c).zip(ys.chunks_exact_mut(n * c)) {
        if pieces == 1 {
            work(0, y, x);
        } else {
            kernel::par_chunks(y, SIDE * n, |i, y| work(i, y, x));
        }
    }
    ys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};

    #[test]
    fn turn_passes_the_audit() -> Result<()> {
        let (small, large) = (several(&[&[2, 5, 3]])?, several(&[&[2, 143, 61]])?);
        audit("turn", &small, &large, &|x| turn(&x[0]), &|x| x[0].transpose(1, 2)?.contiguous())
    }
}
