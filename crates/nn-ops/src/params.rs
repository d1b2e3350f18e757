//! Named parameters and buffers, with first values that depend on the seed and on the parameter's own name only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::load::LoadReport;

/// Name endings of buffers: state that is saved but never trained.
const BUFFERS: [&str; 2] = ["running_mean", "running_var"];

/// All parameters and buffers of a model, sorted by name.
///
/// Adding a layer changes the first value of no other parameter. Clones share the same values.
#[derive(Clone, Debug)]
pub struct ParamStore {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    seed: u64,
}

impl ParamStore {
    /// An empty store.
    pub fn new(seed: u64) -> Self {
        Self { vars: Arc::default(), seed }
    }

    /// A builder that creates what a model asks for: trainable variables drawn from the hints of its layers.
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        let backend = Creating { store: self.clone() };
        VarBuilder::from_backend(Box::new(backend), dtype, device.clone())
    }

    /// A builder over the existing values, detached but sharing storage.
    ///
    /// A model built on it records no graph, needs no further memory, and sees every later update. It refuses names that
    /// the store does not hold.
    pub fn frozen(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        let backend = Frozen { store: self.clone() };
        VarBuilder::from_backend(Box::new(backend), dtype, device.clone())
    }

    /// Trainable parameters, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.select(|name| !is_buffer(name))
    }

    /// Buffers (running statistics), sorted by name.
    pub fn buffers(&self) -> Vec<(String, Var)> {
        self.select(is_buffer)
    }

    /// One parameter or buffer.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.lock().get(name).cloned()
    }

    /// Parameters and buffers by name, detached, for saving.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.lock().iter().map(|(n, v)| (n.clone(), v.as_detached_tensor())).collect()
    }

    /// What loading `tensors` would do; changes nothing.
    pub fn check(&self, tensors: &BTreeMap<String, Tensor>) -> LoadReport {
        let vars = self.lock();
        let mut report = LoadReport::default();
        for (name, var) in vars.iter() {
            match tensors.get(name) {
                None => report.missing.push(name.clone()),
                Some(t) if t.dims() != var.dims() => {
                    report.mismatched.push((name.clone(), var.dims().to_vec(), t.dims().to_vec()));
                }
                Some(_) => report.loaded.push(name.clone()),
            }
        }
        report.unexpected = tensors.keys().filter(|n| !vars.contains_key(*n)).cloned().collect();
        report
    }

    /// Copies every tensor whose name and shape fit, and says what was done with each.
    ///
    /// Use [`check`](Self::check) first when a partial load must not happen.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<LoadReport> {
        let report = self.check(tensors);
        let vars = self.lock();
        for name in &report.loaded {
            if let (Some(var), Some(t)) = (vars.get(name), tensors.get(name)) {
                var.set(&t.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?)?;
            }
        }
        Ok(report)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn select(&self, keep: impl Fn(&str) -> bool) -> Vec<(String, Var)> {
        let vars = self.lock();
        vars.iter().filter(|(n, _)| keep(n)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

pub(crate) fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|b| name.rsplit('.').next() == Some(b))
}

struct Creating {
    store: ParamStore,
}

impl SimpleBackend for Creating {
    fn get(&self, s: Shape, name: &str, h: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let mut vars = self.store.lock();
        if let Some(v) = vars.get(name) {
            if v.shape() != &s {
                bail!("{name} exists with shape {:?}, asked for {s:?}", v.dims());
            }
            return Ok(v.as_tensor().clone());
        }
        let values = draw(self.store.seed, name, s.elem_count(), h)?;
        let t = Tensor::from_vec(values, s, &Device::Cpu)?.to_dtype(dtype)?.to_device(dev)?;
        let var = Var::from_tensor(&t)?;
        let t = var.as_tensor().clone();
        vars.insert(name.to_string(), var);
        Ok(t)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("{name}: a parameter store needs a shape to create a parameter")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.store.lock().contains_key(name)
    }
}

struct Frozen {
    store: ParamStore,
}

impl SimpleBackend for Frozen {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let t = self.get_unchecked(name, dtype, dev)?;
        if t.shape() != &s {
            bail!("{name} has shape {:?}, asked for {s:?}", t.dims());
        }
        Ok(t)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> Result<Tensor> {
        let Some(v) = self.store.get(name) else { bail!("{name} is not in the parameter store") };
        v.as_detached_tensor().to_dtype(dtype)?.to_device(dev)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.store.lock().contains_key(name)
    }
}

/// `n` f32 values from a distribution, decided by the seed and the name (FNV-1a hash, ChaCha8 stream).
fn draw(seed: u64, name: &str, n: usize, init: Init) -> Result<Vec<f32>> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    // 24 random bits: every value of [0, 1) that f32 holds at that step, the same on every platform.
    let mut unit = || f64::from(rng.next_u32() >> 8) / 16_777_216.0;
    Ok(match init {
        Init::Const(v) => vec![v as f32; n],
        Init::Uniform { lo, up } => (0..n).map(|_| (lo + (up - lo) * unit()) as f32).collect(),
        Init::Randn { mean, stdev } => (0..n)
            .map(|_| {
                // Box-Muller; 1 - u lies in (0, 1], so the logarithm is finite.
                let radius = (-2.0 * (1.0 - unit()).ln()).sqrt();
                (mean + stdev * radius * (std::f64::consts::TAU * unit()).cos()) as f32
            })
            .collect(),
        Init::Kaiming { .. } => bail!("{name}: state the bounds instead of Init::Kaiming"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_values_depend_on_name_and_seed_only() -> Result<()> {
        let (a, b) = (ParamStore::new(3), ParamStore::new(3));
        let init = Init::Randn { mean: 0.0, stdev: 1.0 };
        let va = a.builder(DType::F32, &Device::Cpu);
        va.get_with_hints((2, 3), "extra", init)?;
        let x = va.pp("m").get_with_hints((4, 5), "w", init)?.to_vec2::<f32>()?;
        let y = b.builder(DType::F32, &Device::Cpu).get_with_hints((4, 5), "m.w", init)?;
        assert_eq!(x, y.to_vec2::<f32>()?);
        let c = ParamStore::new(4).builder(DType::F32, &Device::Cpu);
        assert_ne!(x, c.get_with_hints((4, 5), "m.w", init)?.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn distributions_have_their_moments() -> Result<()> {
        let n = 20_000;
        let stats = |init| -> Result<(f64, f64)> {
            let v = draw(1, "w", n, init)?;
            let mean = v.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
            let var = v.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64;
            Ok((mean, var.sqrt()))
        };
        let (m, s) = stats(Init::Uniform { lo: -0.5, up: 0.5 })?;
        assert!(m.abs() < 0.01 && (s - 1.0 / 12f64.sqrt()).abs() < 0.01, "{m} {s}");
        let (m, s) = stats(Init::Randn { mean: 1.0, stdev: 0.02 })?;
        assert!((m - 1.0).abs() < 0.001 && (s - 0.02).abs() < 0.001, "{m} {s}");
        Ok(())
    }

    #[test]
    fn buffers_are_not_parameters_and_frozen_copies_see_updates() -> Result<()> {
        let store = ParamStore::new(0);
        let vb = store.builder(DType::F32, &Device::Cpu);
        vb.pp("bn").get_with_hints(2, "running_mean", Init::Const(0.0))?;
        vb.pp("bn").get_with_hints(2, "weight", Init::Const(1.0))?;
        assert_eq!(store.parameters().len(), 1);
        assert_eq!(store.buffers().len(), 1);
        let frozen = store.frozen(DType::F32, &Device::Cpu).get(2, "bn.weight")?;
        let two = Tensor::new(&[2f32, 3.0], &Device::Cpu)?;
        store.get("bn.weight").map(|v| v.set(&two)).transpose()?;
        assert_eq!(frozen.to_vec1::<f32>()?, [2.0, 3.0]);
        assert!(!frozen.track_op());
        assert!(store.frozen(DType::F32, &Device::Cpu).get(2, "bn.bias").is_err());
        Ok(())
    }

    #[test]
    fn loading_reports_every_name() -> Result<()> {
        let store = ParamStore::new(0);
        let vb = store.builder(DType::F32, &Device::Cpu);
        for n in ["a", "b", "c"] {
            vb.get_with_hints(2, n, Init::Const(0.0))?;
        }
        let t = |n: usize| Tensor::ones(n, DType::F32, &Device::Cpu);
        let file = BTreeMap::from([
            ("a".to_string(), t(2)?),
            ("b".to_string(), t(3)?),
            ("z".to_string(), t(1)?),
        ]);
        let report = store.load(&file)?;
        assert_eq!(report.loaded, ["a"]);
        assert_eq!(report.missing, ["c"]);
        assert_eq!(report.unexpected, ["z"]);
        assert_eq!(report.mismatched, [("b".to_string(), vec![2], vec![3])]);
        let text = report.strict().map_err(|e| e.to_string());
        assert!(text.is_err_and(|e| e.contains('c') && e.contains('z') && e.contains('b')));
        Ok(())
    }
}
