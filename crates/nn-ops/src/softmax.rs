//! Softmax over the last dimension, with the bias and mask of attention in the same pass.
//!
//! Candle's `softmax_last_dim` has no gradient; its composed `softmax` is right, but walks memory seven times.

use candle_core::{D, Result, Tensor, bail};

use crate::combine::reshape;
use crate::kernel::{self, Plan, Real, dispatch, wide};

/// What is added to attention scores before the softmax.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreTerms<'a> {
    /// Learnt, `(M, N, K)`: one value a head, query and key (Swin's relative position bias).
    pub bias: Option<&'a Tensor>,
    /// Constant, `(W, N or 1, K)`: group `g` of the scores takes entry `g % W` (shifted windows; padded words).
    pub mask: Option<&'a Tensor>,
}

impl ScoreTerms<'_> {
    /// Whether bias and mask fit scores `(G, M, N, K)`.
    pub(crate) fn check(&self, (g, m, n, k): (usize, usize, usize, usize)) -> Result<()> {
        if let Some(b) = self.bias
            && b.dims() != [m, n, k]
        {
            bail!("attention bias has shape {:?}, scores need {:?}", b.dims(), [m, n, k]);
        }
        if let Some(mask) = self.mask {
            let (w, nm, km) = mask.dims3()?;
            if km != k || (nm != n && nm != 1) || w == 0 || g % w != 0 {
                bail!("attention mask has shape {:?}, scores {:?}", mask.dims(), [g, m, n, k]);
            }
        }
        Ok(())
    }
}

/// `softmax(xs)` over the last dimension.
pub fn softmax(xs: &Tensor) -> Result<Tensor> {
    let dims = xs.dims();
    let Some(&k) = dims.last() else { bail!("softmax: a scalar has no last dimension") };
    let rows = xs.elem_count() / k.max(1);
    let ys = attention_softmax(&reshape(xs, (1, 1, rows, k))?, 1.0, ScoreTerms::default())?;
    reshape(&ys, dims)
}

/// `softmax(scale * scores + bias + mask)` over the last dimension of `(G, M, N, K)` scores.
///
/// # Errors
/// When bias or mask do not have the stated shapes.
pub fn attention_softmax(scores: &Tensor, scale: f64, terms: ScoreTerms) -> Result<Tensor> {
    let (g, m, n, k) = scores.dims4()?;
    terms.check((g, m, n, k))?;
    match kernel::plan(scores) {
        Plan::Fused => fused(scores, scale, terms),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            let bias = terms.bias.map(|b| b.to_dtype(f32)).transpose()?;
            let mask = terms.mask.map(|b| b.to_dtype(f32)).transpose()?;
            let terms = ScoreTerms { bias: bias.as_ref(), mask: mask.as_ref() };
            attention_softmax(&scores.to_dtype(f32)?, scale, terms)?.to_dtype(scores.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::attention_softmax(scores, scale, terms),
        Plan::Composed => composed(scores, scale, terms),
    }
}

/// From Candle operations: oracle of the kernel, and the path of other devices.
pub(crate) fn composed(scores: &Tensor, scale: f64, terms: ScoreTerms) -> Result<Tensor> {
    let (g, m, n, k) = scores.dims4()?;
    let dtype = scores.dtype();
    let wide = if dtype == candle_core::DType::F64 { dtype } else { candle_core::DType::F32 };
    let mut xs = (scores.to_dtype(wide)? * scale)?;
    if let Some(b) = terms.bias {
        xs = xs.broadcast_add(&b.to_dtype(wide)?.unsqueeze(0)?)?;
    }
    if let Some(mask) = terms.mask {
        let (w, nm, _) = mask.dims3()?;
        let mask = mask.to_dtype(wide)?.detach().reshape((1, w, 1, nm, k))?;
        xs = xs.reshape((g / w, w, m, n, k))?.broadcast_add(&mask)?.reshape((g, m, n, k))?;
    }
    candle_nn::ops::softmax(&xs, D::Minus1)?.to_dtype(dtype)
}

wide! {
    fn softmax_row(row: &mut [T]) {
        // Eight running maxima: the compiler may not reorder one.
        let (blocks, rest) = row.as_chunks::<8>();
        let mut most = [T::NEG_INF; 8];
        for block in blocks {
            most.iter_mut().zip(block).for_each(|(m, v)| *m = m.larger(*v));
        }
        let max = most.iter().chain(rest).fold(T::NEG_INF, |m, v| m.larger(*v));
        for v in row.iter_mut() {
            *v = (*v - max).exp_down();
        }
        let inv = T::of(1.0) / crate::norm::sum(row);
        for v in row.iter_mut() {
            *v *= inv;
        }
    }
}

/// `softmax(scale * row + bias + mask)` in place.
pub(crate) fn weigh<T: Real>(row: &mut [T], scale: T, bias: Option<&[T]>, mask: Option<&[T]>) {
    row.iter_mut().for_each(|v| *v *= scale);
    for term in [bias, mask].into_iter().flatten() {
        row.iter_mut().zip(term).for_each(|(v, t)| *v += *t);
    }
    softmax_row(row);
}

wide! {
    /// `g` of a row becomes `y (g - g·y)`.
    pub(crate) fn softmax_gradient(gs: &mut [T], ys: &[T]) {
        let dot = crate::norm::sum_over([&*gs, ys], |[g, y]| g * y);
        for (g, y) in gs.iter_mut().zip(ys) {
            *g = *y * (*g - dot);
        }
    }
}

fn fused(scores: &Tensor, scale: f64, terms: ScoreTerms) -> Result<Tensor> {
    let scores = scores.contiguous()?;
    let (g, m, n, k) = scores.dims4()?;
    let dtype = scores.dtype();
    let bias = terms.bias.map(|b| b.contiguous()).transpose()?;
    let mask = terms.mask.map(|b| b.detach().to_dtype(dtype)?.contiguous()).transpose()?;
    dispatch!(dtype, T => {
        let ys = {
            let x = kernel::read(&scores)?;
            let x = x.slice::<T>()?;
            let b = bias.as_ref().map(kernel::read).transpose()?;
            let b = b.as_ref().map(|b| b.slice::<T>()).transpose()?;
            let ma = mask.as_ref().map(kernel::read).transpose()?;
            let ma = ma.as_ref().map(|b| b.slice::<T>()).transpose()?;
            let (w, nm) = match &mask {
                Some(t) => (t.dim(0)?, t.dim(1)?),
                None => (1, 1),
            };
            let scale = T::of(scale);
            // One chunk is one row of scores: (group, head, query).
            kernel::par_filled(g * m * n * k, k, |r, y| {
                let (query, head, group) = (r % n, r / n % m, r / (n * m));
                y.copy_from_slice(&x[r * k..(r + 1) * k]);
                let bias = b.map(|b| &b[(head * n + query) * k..][..k]);
                let mask = ma.map(|ma| &ma[(group % w * nm + query % nm) * k..][..k]);
                weigh(y, scale, bias, mask);
            })
        };
        let with_bias = bias.is_some();
        let backward = move |res: &Tensor, grad: &Tensor| {
            let (gr, y) = (kernel::read(grad)?, kernel::read(res)?);
            let (gr, y) = (gr.slice::<T>()?, y.slice::<T>()?);
            let mut dx = kernel::par_filled(y.len(), k, |r, d: &mut [T]| {
                d.copy_from_slice(&gr[r * k..(r + 1) * k]);
                softmax_gradient(d, &y[r * k..(r + 1) * k]);
            });
            let mut found = Vec::with_capacity(2);
            let db = if with_bias {
                let per = m * n * k;
                Some(kernel::par_sum::<T, _>(g, per, per, |range, acc| {
                    for i in range {
                        for (a, d) in acc.iter_mut().zip(&dx[i * per..(i + 1) * per]) {
                            *a += *d;
                        }
                    }
                }))
            } else {
                None
            };
            let s = T::of(scale);
            kernel::par_chunks(&mut dx, 1 << 12, |_, d| d.iter_mut().for_each(|v| *v *= s));
            found.push(kernel::from_vec(dx, (g, m, n, k))?);
            if let Some(db) = db {
                found.push(kernel::from_vec(db, (m, n, k))?);
            }
            Ok(found)
        };
        let shape = (g, m, n, k);
        let ys = kernel::stored(ys);
        match &bias {
            Some(b) => kernel::attach_with_result("softmax", &[&scores, b], ys, shape, backward),
            None => kernel::attach_with_result("softmax", &[&scores], ys, shape, backward),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several, values};
    use candle_core::{DType, Device};

    #[test]
    fn softmax_passes_the_audit() -> Result<()> {
        let (small, large) = (several(&[&[2, 3, 5]])?, several(&[&[5, 31, 67]])?);
        audit("softmax", &small, &large, &|x| softmax(&x[0]), &|x| {
            candle_nn::ops::softmax(&x[0], D::Minus1)
        })
    }

    #[test]
    fn attention_softmax_passes_the_audit() -> Result<()> {
        let small = several(&[&[4, 2, 3, 5], &[2, 3, 5]])?;
        let large = several(&[&[12, 3, 17, 19], &[3, 17, 19]])?;
        for (w, rows) in [(1, 1), (2, 3), (2, 1)] {
            let mask = |x: &[Tensor]| {
                let rows = if rows == 1 { 1 } else { x[0].dims()[2] };
                (values(&[w, rows, x[0].dims()[3]], 5)? * 3.0)?.to_dtype(x[0].dtype())
            };
            let run = |x: &[Tensor], fused: bool| {
                let mask = mask(x)?;
                let terms = ScoreTerms { bias: x.get(1), mask: Some(&mask) };
                if fused {
                    attention_softmax(&x[0], 0.3, terms)
                } else {
                    composed(&x[0], 0.3, terms)
                }
            };
            for n in [1, 2] {
                let (f, c) = (|x: &[Tensor]| run(x, true), |x: &[Tensor]| run(x, false));
                audit("attention_softmax", &small[..n], &large[..n], &f, &c)?;
            }
        }
        Ok(())
    }

    #[test]
    fn masked_words_get_nothing_and_rows_add_to_one() -> Result<()> {
        let scores = values(&[2, 1, 2, 3], 1)?.to_dtype(DType::F32)?;
        let mask = Tensor::new(&[[[0f32, -1e4, 0.0]], [[0.0, 0.0, -1e9]]], &Device::Cpu)?;
        let terms = ScoreTerms { bias: None, mask: Some(&mask) };
        let ys = attention_softmax(&scores, 1.0, terms)?.flatten_to(2)?.to_vec2::<f32>()?;
        assert!(ys[0][1] == 0.0 && ys[1][1] == 0.0 && ys[2][2] == 0.0 && ys[3][2] == 0.0, "{ys:?}");
        assert!(ys.iter().all(|r| (r.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        Ok(())
    }

    #[test]
    fn extreme_scores_stay_finite() -> Result<()> {
        let xs = Tensor::new(
            &[[1e30f32, -1e30, 1e30], [-300.0, -100.0, f32::NEG_INFINITY]],
            &Device::Cpu,
        )?;
        let ys = softmax(&xs)?.to_vec2::<f32>()?;
        assert_eq!(ys, [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]);
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors() -> Result<()> {
        let x = several(&[&[4, 2, 3, 5], &[2, 3, 4], &[3, 3, 5]])?;
        let bias = ScoreTerms { bias: Some(&x[1]), mask: None };
        assert!(attention_softmax(&x[0], 1.0, bias).is_err());
        let mask = ScoreTerms { bias: None, mask: Some(&x[2]) };
        assert!(attention_softmax(&x[0], 1.0, mask).is_err(), "4 groups, 3 masks");
        Ok(())
    }
}
