//! Dropout and stochastic depth, drawing from the noise of the step.

use candle_core::{Result, Tensor, bail};

use crate::combine::add;
use crate::kernel::{self, Plan, Real, dispatch};
use crate::mode::{Mode, Noise};
use crate::philox;

fn check(p: f64) -> Result<()> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout probability {p} is not in [0, 1)");
    }
    Ok(())
}

/// Zeroes each element with probability `p` and divides the others by `1 - p`; the identity in evaluation.
pub fn dropout(xs: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    check(p)?;
    match mode {
        Mode::Train(noise) if p > 0.0 => {
            let n = xs.elem_count();
            match kernel::plan(xs) {
                Plan::Fused => masked(xs, keep_mask(Drawn::for_host(noise, p)?, n)?),
                #[cfg(feature = "cuda")]
                Plan::Cuda => crate::cuda::dropout(xs, Drawn::new(noise, p)?),
                _ => {
                    let mask = keep_mask(Drawn::for_host(noise, p)?, n)?;
                    let mask = Tensor::from_vec(mask, xs.shape(), xs.device())?;
                    xs.mul(&mask.to_dtype(xs.dtype())?)
                }
            }
        }
        _ => Ok(xs.clone()),
    }
}

/// One draw of a mask: the key of its words, or the address on the GPU where it lies (0: nowhere), the word below which an
/// element is dropped, and what the others are multiplied by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) key: u64,
    pub(crate) at: u64,
    pub(crate) threshold: u32,
    pub(crate) scale: f32,
}

impl Drawn {
    pub(crate) fn new(noise: &Noise, p: f64) -> Result<Self> {
        check(p)?;
        let scale = (1.0 / (1.0 - p)) as f32;
        let (key, at) = noise.next_mask()?;
        Ok(Self { key, at, threshold: threshold(p), scale })
    }
    /// The same draw for a mask that is made on the CPU, on whatever device it is used: such a pass is not recorded.
    fn for_host(noise: &Noise, p: f64) -> Result<Self> {
        noise.not_only_masks();
        Self::new(noise, p)
    }
}

/// Words below it drop their element. The comparison is on 32 random bits: independent of float rounding.
fn threshold(p: f64) -> u32 {
    (p.clamp(0.0, 1.0) * 4_294_967_296.0).min(f64::from(u32::MAX)) as u32
}

impl Drawn {
    /// What elements `first..` of the mask are multiplied by: 0 or the scale.
    pub(crate) fn fill(self, first: u64, out: &mut [f32]) {
        let Self { key, threshold, scale, .. } = self;
        let mut counter = first / 4;
        let skipped = (first % 4) as usize;
        let (head, rest) = out.split_at_mut(out.len().min((4 - skipped) % 4));
        let kept = |word: u32| if word < threshold { 0.0 } else { scale };
        if !head.is_empty() {
            let words = philox::block(counter, key);
            head.iter_mut().zip(&words[skipped..]).for_each(|(m, word)| *m = kept(*word));
            counter += 1;
        }
        for part in rest.chunks_mut(4 * philox::LANES) {
            let words = philox::blocks(counter, key);
            part.iter_mut().zip(words.as_flattened()).for_each(|(m, word)| *m = kept(*word));
            counter += philox::LANES as u64;
        }
    }
}

/// `n` values, each 0 or the scale.
fn keep_mask(drawn: Drawn, n: usize) -> Result<Vec<f32>> {
    const PART: usize = 1 << 11;
    if drawn.at != 0 {
        bail!("a recorded pass cannot draw a mask on the CPU");
    }
    let mut mask = vec![0f32; n];
    kernel::par_chunks(&mut mask, PART, |i, part| drawn.fill((i * PART) as u64, part));
    Ok(mask)
}

/// `xs` times a constant of the same size. Candle would compute and keep a gradient of the constant too.
fn masked(xs: &Tensor, mask: Vec<f32>) -> Result<Tensor> {
    const BLOCK: usize = 1 << 11;
    fn product<T: Real>(xs: &Tensor, mask: &[f32]) -> Result<Vec<T>> {
        let x = kernel::read(xs)?;
        let x = x.slice::<T>()?;
        let mut ys = kernel::zeros::<T>(x.len());
        kernel::par_chunks(&mut ys, BLOCK, |i, y| {
            let x = x[i * BLOCK..].iter().zip(&mask[i * BLOCK..]);
            y.iter_mut().zip(x).for_each(|(y, (x, m))| *y = *x * T::of(f64::from(*m)));
        });
        Ok(ys)
    }
    let xs = xs.contiguous()?;
    let shape = xs.shape().clone();
    dispatch!(xs.dtype(), T => {
        let ys = product::<T>(&xs, &mask)?;
        let backward = move |grad: &Tensor| {
            Ok(vec![kernel::from_vec(product::<T>(grad, &mask)?, grad.shape())?])
        };
        kernel::attach("dropout", &[&xs], ys, shape, backward)
    })
}

/// `base + scale[b] branch`, or without a base: one factor a sample. Candle's product would compute and keep a gradient of
/// the factors too.
fn scaled(base: Option<&Tensor>, branch: &Tensor, scale: Vec<f32>) -> Result<Tensor> {
    fn sum<T: Real>(base: Option<&[T]>, branch: &[T], scale: &[f32]) -> Vec<T> {
        let each = (branch.len() / scale.len().max(1)).max(1);
        // A piece lies in one sample.
        let piece = match 1 << each.trailing_zeros().min(12) {
            small if small < 64 => each,
            piece => piece,
        };
        kernel::par_filled(branch.len(), piece, |i, out| {
            let from = i * piece;
            let scale = T::of(f64::from(scale[from / each]));
            if let Some(base) = base {
                out.copy_from_slice(&base[from..][..out.len()]);
            }
            out.iter_mut().zip(&branch[from..]).for_each(|(o, b)| *o += *b * scale);
        })
    }
    let branch = branch.contiguous()?;
    let base = base.map(Tensor::contiguous).transpose()?;
    let shape = branch.shape().clone();
    dispatch!(branch.dtype(), T => {
        let ys = {
            let (base, branch) = (base.as_ref().map(kernel::read).transpose()?, kernel::read(&branch)?);
            let base = base.as_ref().map(|base| base.slice::<T>()).transpose()?;
            sum(base, branch.slice::<T>()?, &scale)
        };
        let with_base = base.is_some();
        let backward = move |grad: &Tensor| {
            let db = sum::<T>(None, kernel::read(grad)?.slice::<T>()?, &scale);
            let db = kernel::from_vec(db, grad.shape())?;
            Ok(if with_base { vec![grad.clone(), db] } else { vec![db] })
        };
        let inputs: Vec<&Tensor> = base.iter().chain([&branch]).collect();
        kernel::attach("drop_path", &inputs, ys, shape, backward)
    })
}

/// Zeroes whole samples (first dimension) with probability `p` and divides the others by `1 - p`: stochastic depth
/// (Huang et al. 2016), applied to a residual branch.
pub fn drop_path(xs: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    check(p)?;
    match mode {
        Mode::Train(noise) if p > 0.0 => {
            let b = xs.dim(0)?;
            let mut shape = vec![1; xs.rank()];
            shape[0] = b;
            #[cfg(feature = "cuda")]
            if kernel::plan(xs) == Plan::Cuda {
                let kept = crate::cuda::kept_samples(b, xs.device(), Drawn::new(noise, p)?)?;
                let kept = kept.reshape(shape)?.to_dtype(xs.dtype())?;
                return crate::cuda::scale_parts("drop-path", xs, &kept);
            }
            let mask = keep_mask(Drawn::for_host(noise, p)?, b)?;
            if kernel::plan(xs) == Plan::Fused {
                return scaled(None, xs, mask);
            }
            let mask = Tensor::from_vec(mask, shape, xs.device())?;
            xs.broadcast_mul(&mask.to_dtype(xs.dtype())?)
        }
        _ => Ok(xs.clone()),
    }
}

/// `xs + drop_path(branch)`: the sum of a residual block.
///
/// # Errors
/// When the shapes differ or `p` is no probability below 1.
pub fn add_drop_path(xs: &Tensor, branch: &Tensor, p: f64, mode: Mode) -> Result<Tensor> {
    check(p)?;
    #[cfg(feature = "cuda")]
    if kernel::plan(xs) == Plan::Cuda && xs.dims() == branch.dims() && xs.dtype() == branch.dtype()
    {
        let scale = match mode {
            Mode::Train(noise) if p > 0.0 => {
                Some(crate::cuda::kept_samples(xs.dim(0)?, xs.device(), Drawn::new(noise, p)?)?)
            }
            _ => None,
        };
        return crate::cuda::add_scaled(xs, branch, scale);
    }
    if let Mode::Train(noise) = mode
        && p > 0.0
        && kernel::plan(xs) == Plan::Fused
        && xs.dims() == branch.dims()
        && xs.dtype() == branch.dtype()
    {
        return scaled(Some(xs), branch, keep_mask(Drawn::for_host(noise, p)?, xs.dim(0)?)?);
    }
    add(xs, &drop_path(branch, p, mode)?)
}

/// Rates rising linearly from 0 to `last` over `n` blocks (PyTorch's `linspace`, in f32 as the release computes them).
pub fn drop_path_rates(last: f64, n: usize) -> Vec<f64> {
    if n < 2 {
        return vec![0.0; n];
    }
    // linspace fills from both ends: the first half upwards, the second half downwards from the last value.
    let step = last as f32 / (n - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                f64::from(step * i as f32)
            } else {
                f64::from(last as f32 - step * (n - 1 - i) as f32)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Noise;
    use crate::audit::{audit, gradients, half, several, threads, values};

    #[test]
    fn dropout_and_drop_path_have_tested_gradients() -> Result<()> {
        for f in [dropout, drop_path] {
            // A fresh stream at every call draws the same mask.
            let f = |x: &[Tensor]| f(&x[0], 0.4, Mode::Train(&Noise::new(3, 5)));
            gradients("dropout", &several(&[&[5, 3, 2]])?, &f)?;
            half("dropout", &several(&[&[5, 3, 2]])?, &f)?;
            threads("dropout", &several(&[&[40, 71, 5]])?, &f)?;
        }
        Ok(())
    }

    #[test]
    fn the_sum_of_a_residual_block_has_tested_gradients() -> Result<()> {
        let f = |x: &[Tensor]| add_drop_path(&x[0], &x[1], 0.4, Mode::Train(&Noise::new(3, 5)));
        let apart = |x: &[Tensor]| {
            let keep = keep_mask(Drawn::new(&Noise::new(3, 5), 0.4)?, x[0].dim(0)?)?;
            let keep = Tensor::from_vec(keep, (x[0].dim(0)?, 1, 1), x[0].device())?;
            &x[0] + x[1].broadcast_mul(&keep.to_dtype(x[1].dtype())?)?
        };
        let (small, large) =
            (several(&[&[5, 3, 2], &[5, 3, 2]])?, several(&[&[6, 71, 45], &[6, 71, 45]])?);
        audit("add_drop_path", &small, &large, &f, &apart)
    }

    #[test]
    fn any_part_of_a_mask_is_the_same_alone() -> Result<()> {
        let drawn = Drawn::new(&Noise::new(1, 2), 0.4)?;
        let whole = keep_mask(drawn, 300)?;
        for (first, len) in
            [(0, 300), (1, 2), (2, 1), (3, 5), (4, 100), (17, 280), (299, 1), (5, 0)]
        {
            let mut part = vec![7.0; len];
            drawn.fill(first as u64, &mut part);
            assert_eq!(part, whole[first..first + len], "{first} {len}");
        }
        Ok(())
    }

    #[test]
    fn the_share_dropped_and_the_scale() -> Result<()> {
        let noise = Noise::new(1, 0);
        let ones = values(&[64, 200], 1)?.ones_like()?;
        let y = dropout(&ones, 0.25, Mode::Train(&noise))?.flatten_all()?.to_vec1::<f64>()?;
        let dropped = y.iter().filter(|v| **v == 0.0).count() as f64 / y.len() as f64;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        assert!(y.iter().all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-7));
        for row in drop_path(&ones, 0.5, Mode::Train(&noise))?.to_vec2::<f64>()? {
            assert!(row.iter().all(|v| *v == row[0]) && (row[0] == 0.0 || row[0] == 2.0));
        }
        Ok(())
    }

    #[test]
    fn evaluation_is_the_identity_and_streams_differ() -> Result<()> {
        let x = values(&[6, 9], 1)?;
        let same = |a: &Tensor, b: &Tensor| -> Result<bool> {
            Ok(a.to_vec2::<f64>()? == b.to_vec2::<f64>()?)
        };
        for f in [dropout, drop_path] {
            assert!(same(&f(&x, 0.9, Mode::Eval)?, &x)?);
            assert!(same(&f(&x, 0.0, Mode::Train(&Noise::new(0, 0)))?, &x)?);
            let at = |seed, step| f(&x, 0.5, Mode::Train(&Noise::new(seed, step)));
            assert!(same(&at(1, 2)?, &at(1, 2)?)?);
            assert!(!same(&at(1, 2)?, &at(1, 3)?)? && !same(&at(1, 2)?, &at(2, 2)?)?);
            for p in [1.0, -0.1, f64::NAN] {
                assert!(f(&x, p, Mode::Eval).is_err());
            }
        }
        Ok(())
    }
}
