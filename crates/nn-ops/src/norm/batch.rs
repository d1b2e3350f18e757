//! Batch normalisation of maps, with running statistics kept as buffers.

use candle_core::{DType, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

use super::{sum, sum_of, sum_over};
use crate::conv::After;
use crate::kernel::{self, Plan, Real, dispatch};
use crate::mode::Mode;

/// PyTorch's default weight of the newest batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Batch normalisation over `(B, h, w)` for each channel of `(B, C, h, w)`.
///
/// Training normalises by the batch (biased variance) and moves the running statistics a tenth of the way (unbiased
/// variance), evaluation normalises by the running statistics: PyTorch's `BatchNorm2d`.
#[derive(Clone, Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: f64,
}

/// Keys `weight` (initially 1), `bias` (0), and the buffers `running_mean` (0), `running_var` (1).
pub fn batch_norm2d(channels: usize, vb: VarBuilder) -> Result<BatchNorm2d> {
    Ok(BatchNorm2d {
        weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
        bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
        running_mean: vb.get_with_hints(channels, "running_mean", Init::Const(0.0))?,
        running_var: vb.get_with_hints(channels, "running_var", Init::Const(1.0))?,
        eps: 1e-5,
    })
}

impl BatchNorm2d {
    /// `(B, C, h, w)` to `(B, C, h, w)`.
    ///
    /// # Errors
    /// In training when there is one value per channel only (its variance is undefined), as PyTorch; when the layer was
    /// built on frozen tensors and is asked to train.
    pub fn forward_t(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_then(xs, After::Nothing, mode)
    }

    /// The same, and what follows.
    pub(crate) fn forward_then(&self, xs: &Tensor, after: After, mode: Mode) -> Result<Tensor> {
        let (b, _, h, w) = self.extent(xs)?;
        let Mode::Train(noise) = mode else { return self.evaluate(xs, after, false) };
        let n = b * h * w;
        if n < 2 {
            bail!("batch_norm: training needs more than one value a channel, got {:?}", xs.dims());
        }
        let (mean, var) = statistics(xs)?;
        let (layer, m, v) = (self.clone(), mean.clone(), var.clone());
        noise.change(move || layer.update(&m, &v, n))?;
        normalise(xs, [&mean, &var], [&self.weight, &self.bias], self.eps, after)
    }

    /// Evaluation is `x * scale + shift`, `(C)` both.
    pub(crate) fn scale_and_shift(&self) -> Result<(Tensor, Tensor)> {
        let rstd = (self.running_var.detach() + self.eps)?.sqrt()?.recip()?;
        let scale = self.weight.mul(&rstd)?;
        let shift = self.bias.sub(&scale.mul(&self.running_mean.detach())?)?;
        Ok((scale, shift))
    }

    /// The sizes of a map, which must have the layer's channels.
    fn extent(&self, xs: &Tensor) -> Result<(usize, usize, usize, usize)> {
        let sizes = xs.dims4()?;
        if sizes.1 != self.weight.dims1()? {
            bail!("batch_norm: input has {} channels, the layer {}", sizes.1, self.weight.dims1()?);
        }
        Ok(sizes)
    }

    /// Evaluation of a map that nobody else reads, in its place where a kernel can.
    #[cfg(feature = "cuda")]
    pub(crate) fn evaluate_own(&self, map: Tensor, after: After) -> Result<Tensor> {
        self.extent(&map)?;
        self.evaluate(&map, after, true)
    }

    /// `own`: nobody else reads `xs`.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))] // a kernel of CUDA works in place
    fn evaluate(&self, xs: &Tensor, after: After, own: bool) -> Result<Tensor> {
        let c = self.weight.dims1()?;
        let (scale, shift) = self.scale_and_shift()?;
        #[cfg(feature = "cuda")]
        if kernel::plan(xs) == Plan::Cuda && ![xs, &scale, &shift].iter().any(|t| t.track_op()) {
            let f32 = |t: &Tensor| t.to_dtype(DType::F32);
            let cut = after == After::Relu;
            let affine =
                if own { crate::cuda::channels_affine_of } else { crate::cuda::channels_affine };
            return affine(xs, &f32(&scale)?, &f32(&shift)?, cut);
        }
        let (scale, shift) = (scale.reshape((1, c, 1, 1))?, shift.reshape((1, c, 1, 1))?);
        let dtype = xs.dtype();
        let ys = xs.to_dtype(scale.dtype())?.broadcast_mul(&scale)?.broadcast_add(&shift)?;
        after.apply(ys.to_dtype(dtype)?)
    }

    fn update(&self, mean: &Tensor, var: &Tensor, n: usize) -> Result<()> {
        let unbiased = n as f64 / (n as f64 - 1.0);
        let blend = |old: &Tensor, new: &Tensor, scale: f64| -> Result<()> {
            let next = ((old.detach() * (1.0 - MOMENTUM))?
                + (new.to_dtype(old.dtype())? * (MOMENTUM * scale))?)?;
            if !old.is_variable() {
                bail!("batch_norm: this copy is frozen (evaluation only) and cannot train");
            }
            Var::from_tensor(old)?.set(&next)
        };
        blend(&self.running_mean, mean, 1.0)?;
        blend(&self.running_var, var, unbiased)
    }
}

/// Training mode on `[input, weight, bias]`, then `max(x, 0)`; nothing is kept.
pub(crate) fn batch_norm_for_selftest(x: &[Tensor]) -> Result<Tensor> {
    let (mean, var) = statistics(&x[0])?;
    normalise(&x[0], [&mean, &var], [&x[1], &x[2]], 1e-5, After::Relu)
}

/// Mean and biased variance of each channel, `(C)` both, detached.
fn statistics(xs: &Tensor) -> Result<(Tensor, Tensor)> {
    let xs = xs.detach();
    let (b, c, h, w) = xs.dims4()?;
    #[cfg(feature = "cuda")]
    if kernel::plan(&xs) == Plan::Cuda {
        return crate::cuda::batch_statistics(&xs);
    }
    if kernel::plan(&xs) != Plan::Fused {
        let dtype = if xs.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let wide = xs.to_dtype(dtype)?.transpose(0, 1)?.reshape((c, b * h * w))?;
        let mean = wide.mean_keepdim(1)?;
        let var = wide.broadcast_sub(&mean)?.sqr()?.mean(1)?;
        return Ok((mean.flatten_all()?, var));
    }
    let xs = xs.contiguous()?;
    let cells = h * w;
    dispatch!(xs.dtype(), T => {
        let x = kernel::read(&xs)?;
        let x = x.slice::<T>()?;
        let n = T::of((b * cells) as f64);
        let plane = |s: usize, k: usize| &x[(s * c + k) * cells..(s * c + k + 1) * cells];
        let mut both = vec![(T::default(), T::default()); c];
        let grain = if b * cells * c < 1 << 13 { c } else { 1 };
        rayon_rows(&mut both, grain, |k, out| {
            let mean = sum_of(b, |s| sum(plane(s, k))) / n;
            let var = sum_of(b, |s| {
                let p = plane(s, k);
                sum_over([p], |[x]| (x - mean) * (x - mean))
            }) / n;
            *out = (mean, var);
        });
        let (mean, var): (Vec<T>, Vec<T>) = both.into_iter().unzip();
        Ok((kernel::from_vec(mean, c)?, kernel::from_vec(var, c)?))
    })
}

fn rayon_rows<V: Send>(out: &mut [V], grain: usize, f: impl Fn(usize, &mut V) + Send + Sync) {
    use rayon::prelude::*;
    out.par_iter_mut().enumerate().with_min_len(grain.max(1)).for_each(|(i, v)| f(i, v));
}

fn normalise(
    xs: &Tensor,
    [mean, var]: [&Tensor; 2],
    [weight, bias]: [&Tensor; 2],
    eps: f64,
    after: After,
) -> Result<Tensor> {
    after.apply(match kernel::plan(xs) {
        Plan::Fused => fused(xs, mean, var, weight, bias, eps)?,
        #[cfg(feature = "cuda")]
        Plan::Cuda => {
            let cut = after == After::Relu;
            return crate::cuda::batch_norm(xs, [mean, var], [weight, bias], eps, cut);
        }
        _ => composed(xs, weight, bias, eps)?,
    })
}

/// From mean and variance inside the graph, in f32 at least: oracle of the kernel, and the path of other devices.
pub(crate) fn composed(xs: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    let dtype = xs.dtype();
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let flat = xs.to_dtype(wide)?.transpose(0, 1)?.contiguous()?.reshape((c, b * h * w))?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(1)?)?;
    let var = centred.sqr()?.mean_keepdim(1)?;
    let ys = centred
        .broadcast_div(&(var + eps)?.sqrt()?)?
        .broadcast_mul(&weight.to_dtype(wide)?.reshape((c, 1))?)?
        .broadcast_add(&bias.to_dtype(wide)?.reshape((c, 1))?)?;
    ys.reshape((c, b, h, w))?.transpose(0, 1)?.contiguous()?.to_dtype(dtype)
}

fn fused(
    xs: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (xs, weight, bias) = (xs.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let (b, c, h, w) = xs.dims4()?;
    let cells = h * w;
    dispatch!(xs.dtype(), T => {
        let mean = mean.to_vec1::<T>()?;
        let rstd: Vec<T> =
            var.to_vec1::<T>()?.into_iter().map(|v| T::of(1.0) / (v + T::of(eps)).sqrt()).collect();
        let ys = {
            let (x, wt, bs) = (kernel::read(&xs)?, kernel::read(&weight)?, kernel::read(&bias)?);
            let (x, wt, bs) = (x.slice::<T>()?, wt.slice::<T>()?, bs.slice::<T>()?);
            kernel::par_filled(b * c * cells, cells, |p, y| {
                let k = p % c;
                let (m, s, shift) = (mean[k], rstd[k] * wt[k], bs[k]);
                for (y, x) in y.iter_mut().zip(&x[p * cells..(p + 1) * cells]) {
                    *y = (*x - m) * s + shift;
                }
            })
        };
        let (xd, wd) = (xs.detach(), weight.detach());
        let backward = move |grad: &Tensor| {
            let (g, x, wt) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (g, x, wt) = (g.slice::<T>()?, x.slice::<T>()?, wt.slice::<T>()?);
            let n = T::of((b * cells) as f64);
            let at = |s: usize, k: usize| (s * c + k) * cells..(s * c + k + 1) * cells;
            // Per channel: sum of the gradient, and of the gradient times the normalised value.
            let mut sums = vec![(T::default(), T::default()); c];
            let grain = if b * cells * c < 1 << 13 { c } else { 1 };
            rayon_rows(&mut sums, grain, |k, out| {
                let (m, r) = (mean[k], rstd[k]);
                let first = sum_of(b, |s| sum(&g[at(s, k)]));
                let second = sum_of(b, |s| {
                    sum_over([&g[at(s, k)], &x[at(s, k)]], |[g, x]| g * (x - m) * r)
                });
                *out = (first, second);
            });
            let dx = kernel::par_filled(x.len(), cells, |p, d| {
                let k = p % c;
                let (m, r) = (mean[k], rstd[k]);
                let (m1, m2) = (sums[k].0 / n, sums[k].1 / n);
                let (g, x) = (&g[p * cells..(p + 1) * cells], &x[p * cells..(p + 1) * cells]);
                let (g, x, d) = (&g[..cells], &x[..cells], &mut d[..cells]); // drops the bounds checks
                for i in 0..cells {
                    d[i] = wt[k] * r * (g[i] - m1 - (x[i] - m) * r * m2);
                }
            });
            let (db, dw): (Vec<T>, Vec<T>) = sums.into_iter().unzip();
            Ok(vec![
                kernel::from_vec(dx, xd.shape())?,
                kernel::from_vec(dw, c)?,
                kernel::from_vec(db, c)?,
            ])
        };
        kernel::attach("batch-norm", &[&xs, &weight, &bias], ys, (b, c, h, w), backward)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, gradients, half, several, threads, values};
    use crate::{Noise, ParamStore};
    use candle_core::Device;

    fn layer(xs: &[Tensor]) -> Result<BatchNorm2d> {
        let c = xs[1].dims1()?;
        let dtype = if xs[1].dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let fixed = |seed| -> Result<Tensor> {
            let t = (values(&[c], seed)? + 1.5)?.to_dtype(dtype)?;
            Ok(Var::from_tensor(&t)?.as_tensor().clone())
        };
        Ok(BatchNorm2d {
            weight: xs[1].to_dtype(dtype)?,
            bias: xs[2].to_dtype(dtype)?,
            running_mean: fixed(7)?,
            running_var: fixed(8)?,
            eps: 1e-5,
        })
    }

    #[test]
    fn batch_norm_passes_the_audit() -> Result<()> {
        let small = several(&[&[2, 3, 3, 2], &[3], &[3]])?;
        let large = several(&[&[3, 7, 29, 31], &[7], &[7]])?;
        let noise = Noise::new(0, 0);
        let train = |x: &[Tensor]| layer(x)?.forward_t(&x[0], Mode::Train(&noise));
        audit("batch_norm", &small, &large, &train, &|x| composed(&x[0], &x[1], &x[2], 1e-5))?;
        let eval = |x: &[Tensor]| layer(x)?.forward_t(&x[0], Mode::Eval);
        gradients("batch_norm, evaluation", &small, &eval)?;
        half("batch_norm, evaluation", &small, &eval)?;
        threads("batch_norm, evaluation", &large, &eval)
    }

    #[test]
    fn running_statistics_move_a_tenth_with_unbiased_variance() -> Result<()> {
        let store = ParamStore::new(0);
        let vb = store.builder(DType::F64, &Device::Cpu);
        let bn = batch_norm2d(1, vb)?;
        let xs = Tensor::from_vec(vec![1f64, 2.0, 3.0, 6.0], (2, 1, 1, 2), &Device::Cpu)?;
        let noise = Noise::new(0, 0);
        for (mean, var) in [(0.3, 0.9 + 0.1 * 14.0 / 3.0), (0.57, 0.81 + 0.19 * 14.0 / 3.0)] {
            bn.forward_t(&xs, Mode::Train(&noise))?;
            let seen: Vec<f64> = store
                .buffers()
                .iter()
                .map(|(_, v)| v.to_vec1::<f64>().map(|v| v[0]))
                .collect::<Result<_>>()?;
            assert!((seen[0] - mean).abs() < 1e-12 && (seen[1] - var).abs() < 1e-12, "{seen:?}");
        }
        let out = bn.forward_t(&xs, Mode::Eval)?.flatten_all()?.to_vec1::<f64>()?;
        let want = (1.0 - 0.57) / (0.81 + 0.19 * 14.0 / 3.0 + 1e-5f64).sqrt();
        assert!((out[0] - want).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn one_value_a_channel_and_frozen_layers_cannot_train() -> Result<()> {
        let store = ParamStore::new(0);
        let bn = batch_norm2d(2, store.builder(DType::F32, &Device::Cpu))?;
        let noise = Noise::new(0, 0);
        let one = Tensor::zeros((1, 2, 1, 1), DType::F32, &Device::Cpu)?;
        assert!(bn.forward_t(&one, Mode::Train(&noise)).is_err());
        let frozen = batch_norm2d(2, store.frozen(DType::F32, &Device::Cpu))?;
        let xs = Tensor::zeros((2, 2, 1, 1), DType::F32, &Device::Cpu)?;
        assert!(frozen.forward_t(&xs, Mode::Train(&noise)).is_err());
        assert!(frozen.forward_t(&xs, Mode::Eval).is_ok());
        Ok(())
    }
}
