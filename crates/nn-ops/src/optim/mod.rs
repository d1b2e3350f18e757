//! AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, with named groups and state by name.

mod update;

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, Var, bail};

use crate::gradients::Gradients;
#[cfg(feature = "cuda")]
use crate::kernel::{self, Plan};
use update::Update;

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
                    bail!(
                        "parameter {name} stands in two optimiser groups (second: {})",
                        group.name
                    );
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
        #[cfg(feature = "cuda")]
        let mut together = Vec::new();
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
            let grad = grad.to_dtype(m.var.dtype())?.contiguous()?;
            #[cfg(feature = "cuda")]
            if kernel::plan(&m.var) == Plan::Cuda && m.var.dtype() == DType::F32 {
                together.push((update, m.var.clone(), first.clone(), second.clone(), grad));
                continue;
            }
            update.apply(&m.var, first, second, &grad)?;
        }
        #[cfg(feature = "cuda")]
        update::apply_together(&together)?;
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
                    bail!(
                        "optimiser state {name}.{suffix} is {:?}, not {:?}",
                        t.dims(),
                        var.dims()
                    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::values;

    fn params() -> Result<Vec<(String, Var)>> {
        let var = |seed| Var::from_tensor(&values(&[3, 4], seed)?.to_dtype(DType::F32)?);
        Ok(vec![("a".into(), var(1)?), ("b.c".into(), var(2)?), ("idle".into(), var(3)?)])
    }

    fn optimiser(params: &[(String, Var)]) -> Result<AdamW> {
        let group = ParamGroup {
            name: "all".into(),
            params: params.to_vec(),
            weight_decay: 0.1,
            lr_scale: 0.5,
        };
        AdamW::new(vec![group], AdamWConfig::default())
    }

    fn gradients(step: u32) -> Result<Gradients> {
        let g = |seed| values(&[3, 4], seed + 10 * step)?.to_dtype(DType::F32);
        Ok(Gradients::from_map(BTreeMap::from([("a".into(), g(5)?), ("b.c".into(), g(6)?)])))
    }

    fn bits(params: &[(String, Var)]) -> Result<Vec<u32>> {
        let all = params.iter().map(|(_, v)| v.flatten_all()?.to_vec1::<f32>());
        Ok(all.collect::<Result<Vec<_>>>()?.concat().into_iter().map(f32::to_bits).collect())
    }

    #[test]
    fn a_run_continued_from_saved_state_is_the_same_run() -> Result<()> {
        let straight = params()?;
        let mut adamw = optimiser(&straight)?;
        for step in 1..=5 {
            adamw.step(&gradients(step)?, 0.01)?;
        }
        let broken = params()?;
        let mut first = optimiser(&broken)?;
        for step in 1..=3 {
            first.step(&gradients(step)?, 0.01)?;
        }
        // Through bytes, as a checkpoint does.
        let file = tempfile::NamedTempFile::new().map_err(candle_core::Error::wrap)?;
        let state: std::collections::HashMap<String, Tensor> = first.state()?.into_iter().collect();
        candle_core::safetensors::save(&state, file.path())?;
        let read = candle_core::safetensors::load(file.path(), &candle_core::Device::Cpu)?;
        let resumed = broken
            .iter()
            .map(|(n, v)| Ok((n.clone(), Var::from_tensor(&v.as_detached_tensor().copy()?)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut second = optimiser(&resumed)?;
        second.load_state(&read.into_iter().collect())?;
        for step in 4..=5 {
            second.step(&gradients(step)?, 0.01)?;
        }
        assert_eq!(bits(&straight)?, bits(&resumed)?);
        assert_eq!(second.state()?["a.step"].to_scalar::<f64>()?, 5.0);
        assert_eq!(bits(&params()?[2..])?, bits(&resumed[2..])?, "no gradient, not even decayed");
        Ok(())
    }

    #[test]
    fn state_that_does_not_fit_changes_nothing() -> Result<()> {
        let params = params()?;
        let mut adamw = optimiser(&params)?;
        adamw.step(&gradients(1)?, 0.01)?;
        let good = adamw.state()?;
        let mut lacking = good.clone();
        lacking.remove("a.exp_avg_sq");
        let mut foreign = good.clone();
        foreign.insert("z.exp_avg".into(), values(&[1], 1)?);
        let mut other = good.clone();
        other.insert("a.exp_avg".into(), values(&[4, 3], 1)?);
        for (state, word) in [(lacking, "lacks"), (foreign, "z.exp_avg"), (other, "[4, 3]")] {
            let error = adamw.load_state(&state).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains(word)));
            assert_eq!(adamw.state()?["a.step"].to_scalar::<f64>()?, 1.0);
        }
        Ok(())
    }

    #[test]
    fn groups_must_not_overlap_and_gradients_must_fit() -> Result<()> {
        let params = params()?;
        let twice = [params.clone(), params[..1].to_vec()].concat();
        assert!(optimiser(&twice).is_err_and(|e| e.to_string().contains("two optimiser groups")));
        let wrong = Gradients::from_map(BTreeMap::from([("a".into(), values(&[4, 3], 1)?)]));
        assert!(optimiser(&params)?.step(&wrong, 0.1).is_err());
        Ok(())
    }
}
