//! Windows of consecutive tokens.

use candle_core::{Result, Tensor, bail};

use crate::kernel::{self, Plan, dispatch};

/// Windows of `k` tokens around each position: `(B, L, C)` to `(B, L, C k)`, channel-major.
///
/// The ends are padded by repeating the first token `k / 2` times and the last `(k - 1) / 2` times, so position `i` sees
/// tokens `i - k/2 ..= i + (k-1)/2` (spec section 3, text windows).
///
/// # Errors
/// When `k` is zero or there are no tokens.
pub fn text_windows(xs: &Tensor, k: usize) -> Result<Tensor> {
    let (_, l, _) = xs.dims3()?;
    if k == 0 || l == 0 {
        bail!("text_windows: {k} tokens out of {l}");
    }
    if k == 1 {
        return Ok(xs.clone());
    }
    if kernel::plan(xs) == Plan::Fused && xs.elem_count() > 0 {
        return fused(xs, k);
    }
    #[cfg(feature = "cuda")]
    if kernel::plan(xs) == Plan::Cuda && xs.elem_count() > 0 {
        return crate::cuda::text_windows(xs, k);
    }
    composed(xs, k)
}

fn fused(xs: &Tensor, k: usize) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (b, l, c) = xs.dims3()?;
    // The token that place `j` of window `i` shows.
    let token = move |i: usize, j: usize| (i + j).saturating_sub(k / 2).min(l - 1);
    dispatch!(xs.dtype(), T => {
        let ys = {
            let x = kernel::read(&xs)?;
            let x = x.slice::<T>()?;
            kernel::par_filled(b * l * c * k, c * k, |row, y: &mut [T]| {
                for j in 0..k {
                    let from = &x[(row / l * l + token(row % l, j)) * c..][..c];
                    y[j..].iter_mut().step_by(k).zip(from).for_each(|(y, x)| *y = *x);
                }
            })
        };
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let g = g.slice::<T>()?;
            let dx = kernel::par_filled(b * l * c, l * c, |sample, dx: &mut [T]| {
                for (i, row) in g[sample * l * c * k..].chunks_exact(c * k).take(l).enumerate() {
                    for j in 0..k {
                        let to = &mut dx[token(i, j) * c..][..c];
                        to.iter_mut().zip(row[j..].iter().step_by(k)).for_each(|(d, g)| *d += *g);
                    }
                }
            });
            Ok(vec![kernel::from_vec(dx, (b, l, c))?])
        };
        kernel::attach("text-windows", &[&xs], ys, (b, l, c * k), backward)
    })
}

/// From Candle operations: oracle of the kernel, and the path of other devices and types.
fn composed(xs: &Tensor, k: usize) -> Result<Tensor> {
    let (b, l, c) = xs.dims3()?;
    let (before, after) = (k / 2, (k - 1) / 2);
    let mut parts = vec![xs.narrow(1, 0, 1)?; before];
    parts.push(xs.clone());
    parts.extend(vec![xs.narrow(1, l - 1, 1)?; after]);
    let padded = Tensor::cat(&parts, 1)?;
    let shifted = (0..k).map(|i| padded.narrow(1, i, l)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&shifted, 3)?.reshape((b, l, c * k))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{gradients, half, several, threads};
    use candle_core::Device;

    #[test]
    fn windows_have_tested_gradients() -> Result<()> {
        for k in [1, 2, 3, 5] {
            let f = |x: &[Tensor]| text_windows(&x[0], k);
            gradients("text_windows", &several(&[&[2, 4, 3]])?, &f)?;
            half("text_windows", &several(&[&[2, 4, 3]])?, &f)?;
            let (large, oracle) = (several(&[&[3, 20, 97]])?, |x: &[Tensor]| composed(&x[0], k));
            threads("text_windows", &large, &f)?;
            crate::audit::oracle("text_windows", &large, &f, &oracle)?;
            crate::audit::oracle("text_windows", &several(&[&[2, 1, 3]])?, &f, &oracle)?;
        }
        Ok(())
    }

    #[test]
    fn channels_come_first_and_ends_repeat() -> Result<()> {
        let x = Tensor::new(&[[[1f32, 10.0], [2.0, 20.0], [3.0, 30.0]]], &Device::Cpu)?;
        let two = text_windows(&x, 2)?.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(two, [[1., 1., 10., 10.], [1., 2., 10., 20.], [2., 3., 20., 30.]]);
        let three = text_windows(&x, 3)?.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(three[0], [1., 1., 2., 10., 10., 20.]);
        assert_eq!(three[2], [2., 3., 3., 20., 30., 30.]);
        assert!(text_windows(&x, 0).is_err());
        Ok(())
    }
}
