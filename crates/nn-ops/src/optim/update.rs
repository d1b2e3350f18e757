//! The arithmetic of one AdamW update of one parameter, in place.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::AdamWConfig;
use crate::kernel::{Real, dispatch, wide};

/// The constants of one update.
#[derive(Clone, Copy)]
pub(super) struct Update {
    beta1: f64,
    beta2: f64,
    eps: f64,
    keep: f64,
    step_size: f64,
    root_correction: f64,
}

impl Update {
    pub(super) fn new(cfg: &AdamWConfig, lr: f64, weight_decay: f64, step: u64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powi(i32::try_from(step).unwrap_or(i32::MAX));
        Self {
            beta1: cfg.beta1,
            beta2: cfg.beta2,
            eps: cfg.eps,
            keep: 1.0 - lr * weight_decay,
            step_size: lr / correction(cfg.beta1),
            root_correction: correction(cfg.beta2).sqrt(),
        }
    }

    /// Moves `p` and its moments by one gradient.
    pub(super) fn apply(&self, p: &Var, first: &Var, second: &Var, grad: &Tensor) -> Result<()> {
        let fused = p.device().is_cpu() && matches!(p.dtype(), DType::F32 | DType::F64);
        if fused && p.is_contiguous() {
            first.inplace_op2(grad, &Blend { beta: self.beta1, square: false })?;
            second.inplace_op2(grad, &Blend { beta: self.beta2, square: true })?;
            return p.inplace_op3(first, second, self);
        }
        self.composed(p, first, second, grad)
    }

    /// From Candle operations: oracle of the kernels, and the path of other devices.
    fn composed(&self, p: &Var, first: &Var, second: &Var, grad: &Tensor) -> Result<()> {
        let m = first.as_detached_tensor();
        let m = (&m + ((grad - &m)? * (1.0 - self.beta1))?)?;
        let v =
            ((second.as_detached_tensor() * self.beta2)? + (grad.sqr()? * (1.0 - self.beta2))?)?;
        let denominator = ((v.sqrt()? / self.root_correction)? + self.eps)?;
        let next =
            ((p.as_detached_tensor() * self.keep)? - (m.div(&denominator)? * self.step_size)?)?;
        first.set(&m)?;
        second.set(&v)?;
        p.set(&next)
    }
}

/// All updates in one launch on a GPU: constants, parameter, first and second moment, gradient.
#[cfg(feature = "cuda")]
pub(super) fn apply_together(all: &[(Update, Var, Var, Var, Tensor)]) -> Result<()> {
    let Some((first, ..)) = all.first() else { return Ok(()) };
    let moved: Vec<_> = all
        .iter()
        .map(|(u, p, m, v, g)| crate::cuda::Moved {
            tensors: [p.as_tensor(), m.as_tensor(), v.as_tensor(), g],
            keep: u.keep,
            step_size: u.step_size,
            root_correction: u.root_correction,
        })
        .collect();
    crate::cuda::adamw(&moved, first.beta1, first.beta2, first.eps)
}

const BLOCK: usize = 1 << 14;

/// `m += (1 - beta) (g - m)`, or `m = beta m + (1 - beta) g²`.
struct Blend {
    beta: f64,
    square: bool,
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "adamw-moment"
    }
    fn cpu_fwd(&self, m: &mut CpuStorage, ml: &Layout, g: &CpuStorage, gl: &Layout) -> Result<()> {
        let (mr, gr) = (range(ml)?, range(gl)?);
        dispatch!(m.dtype(), T => {
            let (m, g) = (&mut slice_mut::<T>(m)?[mr], &g.as_slice::<T>()?[gr]);
            let (b, r) = (<T as Real>::of(self.beta), <T as Real>::of(1.0 - self.beta));
            let zipped = m.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK));
            // PyTorch's order of operations: lerp for the first moment, addcmul for the second.
            let blend = if self.square { second_moment::<T> } else { first_moment::<T> };
            zipped.for_each(|(m, g)| blend(m, g, b, r));
            Ok(())
        })
    }
}

wide! {
    fn first_moment(m: &mut [T], g: &[T], _keep: T, rate: T) {
        m.iter_mut().zip(g).for_each(|(m, g)| *m += rate * (*g - *m));
    }
}

wide! {
    fn second_moment(m: &mut [T], g: &[T], keep: T, rate: T) {
        m.iter_mut().zip(g).for_each(|(m, g)| *m = *m * keep + rate * *g * *g);
    }
}

wide! {
    fn moved(p: &mut [T], m: &[T], v: &[T], keep: T, step: T, root: T, eps: T) {
        for ((p, m), v) in p.iter_mut().zip(m).zip(v) {
            *p = *p * keep - step * (*m / (Real::sqrt(*v) / root + eps));
        }
    }
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "adamw-update"
    }
    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        pl: &Layout,
        m: &CpuStorage,
        ml: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<()> {
        let (pr, mr, vr) = (range(pl)?, range(ml)?, range(vl)?);
        dispatch!(p.dtype(), T => {
            let p = &mut slice_mut::<T>(p)?[pr];
            let (m, v) = (&m.as_slice::<T>()?[mr], &v.as_slice::<T>()?[vr]);
            let of = <T as Real>::of;
            let (keep, step, eps) = (of(self.keep), of(self.step_size), of(self.eps));
            let root = of(self.root_correction);
            let zipped = p.par_chunks_mut(BLOCK).zip(m.par_chunks(BLOCK)).zip(v.par_chunks(BLOCK));
            zipped.for_each(|((p, m), v)| moved(p, m, v, keep, step, root, eps));
            Ok(())
        })
    }
}

fn range(l: &Layout) -> Result<std::ops::Range<usize>> {
    match l.contiguous_offsets() {
        Some((a, b)) => Ok(a..b),
        None => bail!("the optimiser needs contiguous parameters, got {l:?}"),
    }
}

fn slice_mut<T: Real>(s: &mut CpuStorage) -> Result<&mut [T]> {
    use std::any::Any;
    let found = match s {
        CpuStorage::F32(v) => (v as &mut dyn Any).downcast_mut::<Vec<T>>(),
        CpuStorage::F64(v) => (v as &mut dyn Any).downcast_mut::<Vec<T>>(),
        _ => None,
    };
    match found {
        Some(v) => Ok(v),
        None => bail!("the optimiser's kernels take f32 or f64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::values;

    #[test]
    fn kernel_and_composition_agree_on_any_number_of_threads() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 3e-6)] {
            // Larger than a block, so that several threads take part.
            let start = values(&[130, 301], 1)?.to_dtype(dtype)?;
            let grads: Vec<Tensor> =
                (2..7).map(|s| values(&[130, 301], s)?.to_dtype(dtype)).collect::<Result<_>>()?;
            let run = |fused: bool| -> Result<Vec<Vec<f64>>> {
                let p = Var::from_tensor(&start.copy()?)?;
                let (m, v) = (
                    Var::from_tensor(&start.zeros_like()?)?,
                    Var::from_tensor(&start.zeros_like()?)?,
                );
                for (i, g) in grads.iter().enumerate() {
                    let update = Update::new(&AdamWConfig::default(), 0.01, 0.1, i as u64 + 1);
                    match fused {
                        true => update.apply(&p, &m, &v, g)?,
                        false => update.composed(&p, &m, &v, g)?,
                    }
                }
                let flat = |t: &Var| t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
                Ok(vec![flat(&p)?, flat(&m)?, flat(&v)?])
            };
            let (a, b) = (run(true)?, run(false)?);
            for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
                assert!((a - b).abs() < tolerance, "{a} {b} {dtype:?}");
            }
            for n in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
                let pool = pool.map_err(candle_core::Error::wrap)?;
                assert!(pool.install(|| run(true))? == a);
            }
        }
        Ok(())
    }
}
