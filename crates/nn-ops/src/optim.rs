//! AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, with named groups and state by name.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::gradients::Gradients;
use crate::kernel::{Real, dispatch};

/// Parameters that share weight decay and learning-rate scale.
#[derive(Clone, Debug)]
pub struct ParamGroup {
    /// For logs and errors.
    pub name: String,
    /// Names and variables.
    pub params: Vec<(String, Var)>,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Multiplies the learning rate of the step.
    pub lr_scale: f64,
}

/// Moment decay and denominator term.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
}

impl Default for AdamWConfig {
    /// PyTorch's defaults.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

#[derive(Debug)]
struct Moments {
    var: Var,
    weight_decay: f64,
    lr_scale: f64,
    /// First and second moment, absent before the first gradient.
    state: Option<(Var, Var)>,
    step: u64,
}

/// AdamW. Parameters without a gradient are left alone, not even decayed, and their step count does not advance.
#[derive(Debug)]
pub struct AdamW {
    cfg: AdamWConfig,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// # Errors
    /// When a parameter stands in two groups.
    pub fn new(groups: Vec<ParamGroup>, cfg: AdamWConfig) -> Result<Self> {
        let mut moments = BTreeMap::new();
        for group in groups {
            for (name, var) in group.params {
                let m = Moments {
                    var,
                    weight_decay: group.weight_decay,
                    lr_scale: group.lr_scale,
                    state: None,
                    step: 0,
                };
                if moments.insert(name.clone(), m).is_some() {
                    bail!("parameter {name} stands in two optimiser groups (second: {})", group.name);
                }
            }
        }
        Ok(Self { cfg, moments })
    }

    /// Names of the optimised parameters, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.moments.keys().map(String::as_str)
    }

    /// One update with learning rate `lr` (times each group's scale).
    pub fn step(&mut self, grads: &Gradients, lr: f64) -> Result<()> {
        for (name, m) in &mut self.moments {
            let Some(grad) = grads.get(name) else { continue };
            if grad.dims() != m.var.dims() {
                bail!("{name}: gradient {:?} for parameter {:?}", grad.dims(), m.var.dims());
            }
            m.step += 1;
            let (first, second) = match &m.state {
                Some(s) => s,
                None => {
                    let zeros = || Var::zeros(m.var.shape(), m.var.dtype(), m.var.device());
                    m.state.insert((zeros()?, zeros()?))
                }
            };
            let update = Update::new(&self.cfg, lr * m.lr_scale, m.weight_decay, m.step);
            update.apply(&m.var, first, second, &grad.to_dtype(m.var.dtype())?.contiguous()?)?;
        }
        Ok(())
    }

    /// The state of every parameter that has one: `<name>.exp_avg`, `<name>.exp_avg_sq`, `<name>.step` (f64 scalar).
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (name, m) in &self.moments {
            if let Some((first, second)) = &m.state {
                out.insert(format!("{name}.exp_avg"), first.as_detached_tensor());
                out.insert(format!("{name}.exp_avg_sq"), second.as_detached_tensor());
                let step = Tensor::new(m.step as f64, &candle_core::Device::Cpu)?;
                out.insert(format!("{name}.step"), step);
            }
        }
        Ok(out)
    }

    /// Restores what [`state`](Self::state) returned. Parameters absent from it start anew.
    ///
    /// # Errors
    /// On names of no parameter, incomplete entries and other shapes; nothing is changed then.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut found: BTreeMap<&str, (Var, Var, u64)> = BTreeMap::new();
        for key in state.keys() {
            let known = ["exp_avg", "exp_avg_sq", "step"]
                .iter()
                .find_map(|s| key.strip_suffix(s).and_then(|k| k.strip_suffix('.')))
                .filter(|n| self.moments.contains_key(*n));
            let Some(name) = known else {
                bail!("optimiser state {key} belongs to no optimised parameter");
            };
            if found.contains_key(name) {
                continue;
            }
            let var = &self.moments[name].var;
            let part = |suffix: &str| -> Result<Var> {
                let Some(t) = state.get(&format!("{name}.{suffix}")) else {
                    bail!("optimiser state of {name} lacks {suffix}");
                };
                if t.dims() != var.dims() {
                    bail!("optimiser state {name}.{suffix} is {:?}, not {:?}", t.dims(), var.dims());
                }
                Var::from_tensor(&t.to_dtype(var.dtype())?.to_device(var.device())?.copy()?)
            };
            let Some(step) = state.get(&format!("{name}.step")) else {
                bail!("optimiser state of {name} lacks step");
            };
            let step = step.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            let step = step.first().copied().unwrap_or(0.0) as u64;
            found.insert(name, (part("exp_avg")?, part("exp_avg_sq")?, step));
        }
        let found: BTreeMap<String, _> =
            found.into_iter().map(|(n, v)| (n.to_string(), v)).collect();
        for (name, m) in &mut self.moments {
            (m.state, m.step) = match found.get(name) {
                Some((a, b, step)) => (Some((a.clone(), b.clone())), *step),
                None => (None, 0),
            };
        }
        Ok(())
    }
}

/// The constants of one update.
#[derive(Clone, Copy)]
struct Update {
    beta1: f64,
    beta2: f64,
    eps: f64,
    keep: f64,
    step_size: f64,
    root_correction: f64,
}

impl Update {
    fn new(cfg: &AdamWConfig, lr: f64, weight_decay: f64, step: u64) -> Self {
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

    fn apply(&self, p: &Var, first: &Var, second: &Var, grad: &Tensor) -> Result<()> {
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
        let m = ((first.as_detached_tensor() * self.beta1)? + (grad * (1.0 - self.beta1))?)?;
        let v = ((second.as_detached_tensor() * self.beta2)? + (grad.sqr()? * (1.0 - self.beta2))?)?;
        let denominator = ((v.sqrt()? / self.root_correction)? + self.eps)?;
        let next = ((p.as_detached_tensor() * self.keep)? - (m.div(&denominator)? * self.step_size)?)?;
        first.set(&m)?;
        second.set(&v)?;
        p.set(&next)
    }
}

const BLOCK: usize = 1 << 14;

/// `m = beta m + (1 - beta) g`, or with `g²`.
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
        dispatch!(m_dtype(m), T => {
            let (m, g) = (&mut slice_mut::<T>(m)?[mr], &g.as_slice::<T>()?[gr]);
            let (b, r) = (<T as Real>::of(self.beta), <T as Real>::of(1.0 - self.beta));
            let square = self.square;
            m.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).for_each(|(m, g)| {
                for (m, g) in m.iter_mut().zip(g) {
                    *m = *m * b + if square { *g * *g * r } else { *g * r };
                }
            });
            Ok(())
        })
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
        dispatch!(m_dtype(p), T => {
            let p = &mut slice_mut::<T>(p)?[pr];
            let (m, v) = (&m.as_slice::<T>()?[mr], &v.as_slice::<T>()?[vr]);
            let of = <T as Real>::of;
            let (keep, step, eps) = (of(self.keep), of(self.step_size), of(self.eps));
            let root = of(self.root_correction);
            let zipped = p.par_chunks_mut(BLOCK).zip(m.par_chunks(BLOCK)).zip(v.par_chunks(BLOCK));
            zipped.for_each(|((p, m), v)| {
                for ((p, m), v) in p.iter_mut().zip(m).zip(v) {
                    *p = *p * keep - step * (*m / (Real::sqrt(*v) / root + eps));
                }
            });
            Ok(())
        })
    }
}

fn m_dtype(s: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    s.dtype()
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
