//! Pooling with a right gradient: overlapping max-pool, and the global average.
//!
//! Candle's `max_pool2d` backward is wrong (1/k² of the gradient) or refuses overlapping windows.

use candle_core::{Result, Tensor, bail};

use crate::kernel::{self, Plan, Real, dispatch};

/// Max-pool of `(B, C, h, w)`; padding never wins. Ties give the whole gradient to the first cell, as PyTorch.
///
/// # Errors
/// When the window does not fit, or padding exceeds half the window.
pub fn max_pool2d(xs: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    if kernel == 0 || stride == 0 || 2 * padding > kernel {
        bail!("max_pool2d: kernel {kernel}, stride {stride}, padding {padding} is not a pooling");
    }
    if h == 0 || w == 0 || h + 2 * padding < kernel || w + 2 * padding < kernel {
        bail!("max_pool2d: a {kernel}x{kernel} window does not fit a {h}x{w} map");
    }
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, kernel, stride, padding),
        Plan::ThroughF32 => {
            max_pool2d(&xs.to_dtype(candle_core::DType::F32)?, kernel, stride, padding)?
                .to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::max_pool2d(xs, kernel, stride, padding),
        Plan::Composed => composed(xs, kernel, stride, padding),
    }
}

/// Maximum over strided views. On a tie Candle splits the gradient differently from PyTorch: the value is the same.
pub(crate) fn composed(xs: &Tensor, k: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let (ho, wo) = ((h + 2 * padding - k) / stride + 1, (w + 2 * padding - k) / stride + 1);
    let device = xs.device();
    let mut best: Option<Tensor> = None;
    // An input index beyond the map is clamped to the nearest valid one of the same window: the maximum is unchanged.
    let indices = |n: usize, out: usize, offset: usize| -> Result<Tensor> {
        let v: Vec<u32> = (0..out)
            .map(|o| {
                let start = (o * stride).saturating_sub(padding);
                let end = (o * stride + k - padding).min(n) - 1;
                (o * stride + offset).saturating_sub(padding).clamp(start, end) as u32
            })
            .collect();
        Tensor::from_vec(v, out, device)
    };
    let xs = xs.contiguous()?;
    for dy in 0..k {
        let rows = xs.index_select(&indices(h, ho, dy)?, 2)?;
        for dx in 0..k {
            let view = rows.index_select(&indices(w, wo, dx)?, 3)?;
            best = Some(match best {
                Some(m) => m.maximum(&view)?,
                None => view,
            });
        }
    }
    match best {
        Some(t) => t.reshape((b, c, ho, wo)),
        None => bail!("max_pool2d: empty window"),
    }
}

fn fused(xs: &Tensor, k: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (b, c, h, w) = xs.dims4()?;
    let (ho, wo) = ((h + 2 * padding - k) / stride + 1, (w + 2 * padding - k) / stride + 1);
    dispatch!(xs.dtype(), T => {
        let mut both = vec![(T::default(), 0u32); b * c * ho * wo];
        {
            let x = kernel::read(&xs)?;
            let x = x.slice::<T>()?;
            kernel::par_chunks(&mut both, ho * wo, |p, y| {
                let x = &x[p * h * w..(p + 1) * h * w];
                for (i, y) in y.iter_mut().enumerate() {
                    let (oy, ox) = (i / wo * stride, i % wo * stride);
                    let mut best = (T::NEG_INF, None);
                    for iy in oy.saturating_sub(padding)..(oy + k - padding).min(h) {
                        for ix in ox.saturating_sub(padding)..(ox + k - padding).min(w) {
                            let v = x[iy * w + ix];
                            // Not-a-number wins, as in PyTorch: an error must not vanish.
                            if best.1.is_none() || v > best.0 || v.is_nan() {
                                best = (v, Some((iy * w + ix) as u32));
                            }
                        }
                    }
                    *y = (best.0, best.1.unwrap_or(0));
                }
            });
        }
        let (ys, from): (Vec<T>, Vec<u32>) = both.into_iter().unzip();
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let g = g.slice::<T>()?;
            let mut dx = vec![T::default(); b * c * h * w];
            kernel::par_chunks(&mut dx, h * w, |p, d| {
                let at = p * ho * wo..(p + 1) * ho * wo;
                for (g, i) in g[at.clone()].iter().zip(&from[at]) {
                    d[*i as usize] += *g;
                }
            });
            Ok(vec![kernel::from_vec(dx, (b, c, h, w))?])
        };
        kernel::attach("max-pool2d", &[&xs], ys, (b, c, ho, wo), backward)
    })
}

/// Mean of each channel: `(B, C, h, w)` to `(B, C)`.
pub fn global_avg_pool(xs: &Tensor) -> Result<Tensor> {
    xs.dims4()?;
    #[cfg(feature = "cuda")]
    if kernel::plan(xs) == Plan::Cuda {
        return crate::cuda::global_avg_pool(xs);
    }
    // A sum over a map loses its small parts in 8 or 11 bits.
    if matches!(xs.dtype(), candle_core::DType::BF16 | candle_core::DType::F16) {
        return global_avg_pool(&xs.to_dtype(candle_core::DType::F32)?)?.to_dtype(xs.dtype());
    }
    xs.flatten_from(2)?.mean(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, gradients, half, several, threads};
    use candle_core::{Device, Var};

    #[test]
    fn max_pool_passes_the_audit() -> Result<()> {
        let (small, large) = (several(&[&[2, 2, 5, 6]])?, several(&[&[2, 3, 63, 50]])?);
        for (k, s, p) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1), (1, 1, 0)] {
            let f = |x: &[Tensor]| max_pool2d(&x[0], k, s, p);
            audit(&format!("max_pool2d {k}/{s}/{p}"), &small, &large, &f, &|x| {
                composed(&x[0], k, s, p)
            })?;
        }
        Ok(())
    }

    #[test]
    fn ties_go_to_the_first_and_not_a_number_is_kept() -> Result<()> {
        let x = Tensor::new(
            &[[[[1f32, 1.0], [1.0, 1.0]]], [[[f32::NAN, 1.0], [2.0, 0.0]]]],
            &Device::Cpu,
        )?;
        let x = Var::from_tensor(&x)?;
        let y = max_pool2d(&x, 2, 2, 0)?;
        let g = y.backward()?;
        let y = y.flatten_all()?.to_vec1::<f32>()?;
        assert!(y[0] == 1.0 && y[1].is_nan());
        let g = g.get(&x).map(|g| g.flatten_all()?.to_vec1::<f32>()).transpose()?;
        assert_eq!(g, Some(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]));
        Ok(())
    }

    #[test]
    fn what_is_not_a_pooling_is_an_error() -> Result<()> {
        let x = &several(&[&[1, 1, 2, 3]])?[0];
        for (k, s, p) in [(0, 1, 0), (2, 0, 0), (3, 1, 2), (5, 1, 1)] {
            assert!(max_pool2d(x, k, s, p).is_err(), "{k} {s} {p}");
        }
        let empty = Tensor::zeros((1, 1, 0, 3), x.dtype(), x.device())?;
        assert!(max_pool2d(&empty, 2, 1, 1).is_err());
        Ok(())
    }

    #[test]
    fn global_average() -> Result<()> {
        let (small, large) = (several(&[&[2, 3, 3, 5]])?, several(&[&[2, 3, 63, 50]])?);
        let f = |x: &[Tensor]| global_avg_pool(&x[0]);
        gradients("global_avg_pool", &small, &f)?;
        half("global_avg_pool", &large, &f)?;
        threads("global_avg_pool", &large, &f)
    }
}
