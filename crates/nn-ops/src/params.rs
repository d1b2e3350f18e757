//! Named parameters and buffers, with first values that depend on the seed and on the parameter's own name only.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor, Var, bail,
};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::load::LoadReport;
use crate::transfer::TensorSource;

/// Name endings of buffers: state that is saved but never trained.
const BUFFERS: [&str; 2] = ["running_mean", "running_var"];

/// All parameters and buffers of a model, sorted by name.
///
/// Adding a layer changes the first value of no other parameter. Clones share the same values.
#[derive(Clone, Debug)]
pub struct ParamStore {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    /// Variables of [`blank`](Self::blank), with the distributions of their first values.
    undrawn: Arc<Mutex<Vec<(String, Init)>>>,
    seed: u64,
}

impl ParamStore {
    /// An empty store.
    pub fn new(seed: u64) -> Self {
        Self { vars: Arc::default(), undrawn: Arc::default(), seed }
    }

    /// A builder that creates what a model asks for: trainable variables drawn from the hints of its layers.
    ///
    /// In half precision vectors (biases, norms) are f32 all the same: they are small, and operations add them in f32.
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        self.creating(First::Drawn, dtype, device)
    }

    /// The same with zeros, which cost next to nothing before they are written to: for values that come from a file
    /// ([`fill`](Self::fill)), or all at once ([`draw`](Self::draw)).
    pub fn blank(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        self.creating(First::Blank, dtype, device)
    }

    /// The same with values that exist already: each variable takes the vector of its name, row-major. In f32 on the CPU
    /// the vector becomes the variable. A variable without a vector of its size stays blank: [`check`](Self::check) tells.
    pub fn taking(
        &self,
        vectors: BTreeMap<String, Vec<f32>>,
        dtype: DType,
        device: &Device,
    ) -> VarBuilder<'static> {
        self.creating(First::Taken(Mutex::new(vectors)), dtype, device)
    }

    fn creating(&self, first: First, dtype: DType, device: &Device) -> VarBuilder<'static> {
        let backend = Creating { store: self.clone(), first };
        VarBuilder::from_backend(Box::new(backend), dtype, device.clone())
    }

    /// Draws the first values of all variables that [`blank`](Self::blank) made, on several threads: the values that
    /// [`builder`](Self::builder) draws.
    pub fn draw(&self) -> Result<()> {
        let undrawn =
            std::mem::take(&mut *self.undrawn.lock().unwrap_or_else(PoisonError::into_inner));
        let vars =
            undrawn.into_iter().filter_map(|(name, init)| Some((self.get(&name)?, (name, init))));
        at_once(vars.collect(), |var, (name, init)| {
            set_in_place(var, |values| draw(self.seed, name, *init, values))
        })
    }

    /// Writes the values of all parameters and buffers where they stand, on several threads: `read(name, values)` gives
    /// those of one, in f32, row-major. Nothing is left to [`draw`](Self::draw).
    ///
    /// # Errors
    /// One of `read`'s; other values may be written by then.
    pub fn fill<E, F>(&self, read: F) -> std::result::Result<(), E>
    where
        E: From<candle_core::Error> + Send,
        F: Fn(&str, &mut [f32]) -> std::result::Result<(), E> + Sync,
    {
        self.undrawn.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let vars = self.select(|_| true).into_iter().map(|(name, var)| (var, name));
        at_once(vars.collect(), |var, name| {
            let mut failed = None;
            let filled = set_in_place(var, |values| {
                failed = read(name, values).err();
                Ok(())
            });
            failed.map_or(Ok(()), Err)?;
            Ok(filled?)
        })
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

    /// What loading tensors of these names and shapes would do; changes nothing.
    pub fn check(&self, shapes: &BTreeMap<String, Vec<usize>>) -> LoadReport {
        let vars = self.lock();
        let mut report = LoadReport::default();
        for (name, var) in vars.iter() {
            match shapes.get(name) {
                None => report.missing.push(name.clone()),
                Some(found) if found != var.dims() => {
                    report.mismatched.push((name.clone(), var.dims().to_vec(), found.clone()));
                }
                Some(_) => report.loaded.push(name.clone()),
            }
        }
        report.unexpected = shapes.keys().filter(|n| !vars.contains_key(*n)).cloned().collect();
        report
    }

    /// Copies every tensor whose name and shape fit, and says what was done with each.
    ///
    /// Use [`check`](Self::check) first when a partial load must not happen.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<LoadReport> {
        let report = self.check(&tensors.shapes());
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
    first: First,
}

/// Where first values come from.
enum First {
    Drawn,
    Blank,
    Taken(Mutex<BTreeMap<String, Vec<f32>>>),
}

impl First {
    /// The vector of `name`, if it has the size.
    fn take(&self, name: &str, size: usize) -> Option<Vec<f32>> {
        let Self::Taken(vectors) = self else { return None };
        let vector = vectors.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        vector.filter(|vector| vector.len() == size)
    }
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
        let dtype = stored(dtype, s.rank());
        let var = match self.first.take(name, s.elem_count()) {
            Some(vector) if dtype == DType::F32 => Var::from_vec(vector, s, dev)?,
            Some(vector) => {
                let values = Tensor::from_vec(vector, s, &Device::Cpu)?;
                Var::from_tensor(&values.to_dtype(dtype)?.to_device(dev)?)?
            }
            None => Var::zeros(s, dtype, dev)?,
        };
        match self.first {
            First::Drawn => set_in_place(&var, |values| draw(self.store.seed, name, h, values))?,
            First::Blank => {
                let undrawn = self.store.undrawn.lock();
                undrawn.unwrap_or_else(PoisonError::into_inner).push((name.to_string(), h));
            }
            First::Taken(_) => {}
        }
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

/// The type of a parameter of some rank in a model of type `dtype`.
fn stored(dtype: DType, rank: usize) -> DType {
    match dtype {
        DType::BF16 | DType::F16 if rank < 2 => DType::F32,
        _ => dtype,
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
        v.as_detached_tensor().to_dtype(stored(dtype, v.rank()))?.to_device(dev)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.store.lock().contains_key(name)
    }
}

/// `work` on every variable: on all threads where they are on the CPU, one after another where a device takes them in.
fn at_once<T: Sync, E: Send>(
    vars: Vec<(Var, T)>,
    work: impl Fn(&Var, &T) -> std::result::Result<(), E> + Sync,
) -> std::result::Result<(), E> {
    if vars.iter().all(|(var, _)| var.device().is_cpu()) {
        vars.par_iter().try_for_each(|(var, what)| work(var, what))
    } else {
        vars.iter().try_for_each(|(var, what)| work(var, what))
    }
}

/// Hands all values of a variable to `write`, in f32: those in memory where they are f32 on the CPU, else a copy.
fn set_in_place(var: &Var, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    if var.device().is_cpu() && var.dtype() == DType::F32 && var.is_contiguous() {
        return var.inplace_op1(&Write(Cell::new(Some(write))));
    }
    let mut values = vec![0f32; var.elem_count()];
    write(&mut values)?;
    let values = Tensor::from_vec(values, var.shape(), &Device::Cpu)?;
    var.set(&values.to_dtype(var.dtype())?.to_device(var.device())?)
}

struct Write<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Write<F> {
    fn name(&self) -> &'static str {
        "write"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(all), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("values are written to contiguous f32 tensors only");
        };
        self.0.take().map_or(Ok(()), |write| write(&mut all[start..end]))
    }
}

/// Values from a distribution, decided by the seed and the name (FNV-1a hash, ChaCha8 stream).
fn draw(seed: u64, name: &str, init: Init, values: &mut [f32]) -> Result<()> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    // 24 random bits: every value of [0, 1) that f32 holds at that step, the same on every platform.
    let mut unit = || f64::from(rng.next_u32() >> 8) / 16_777_216.0;
    match init {
        Init::Const(v) => values.fill(v as f32),
        Init::Uniform { lo, up } => {
            values.iter_mut().for_each(|v| *v = (lo + (up - lo) * unit()) as f32);
        }
        Init::Randn { mean, stdev } => values.iter_mut().for_each(|v| {
            // Box-Muller; 1 - u lies in (0, 1], so the logarithm is finite.
            let radius = (-2.0 * (1.0 - unit()).ln()).sqrt();
            *v = (mean + stdev * radius * (std::f64::consts::TAU * unit()).cos()) as f32;
        }),
        Init::Kaiming { .. } => bail!("{name}: state the bounds instead of Init::Kaiming"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_take_vectors_of_their_size() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let store = ParamStore::new(1);
            let vectors = [("w", vec![1.0, 2.0, 3.0, 4.0]), ("short", vec![1.0])];
            let at = vectors[0].1.as_ptr();
            let vectors = vectors.map(|(name, v)| (name.to_string(), v));
            let vb = store.taking(BTreeMap::from(vectors), dtype, &Device::Cpu);
            let w = vb.get((2, 2), "w")?;
            assert!(w.is_variable());
            assert_eq!(w.to_dtype(DType::F64)?.to_vec2::<f64>()?, [[1.0, 2.0], [3.0, 4.0]]);
            for name in ["short", "none"] {
                assert_eq!(vb.get(2, name)?.to_dtype(DType::F64)?.to_vec1::<f64>()?, [0.0, 0.0]);
            }
            if dtype == DType::F32 {
                let read = crate::kernel::read(&w)?;
                assert_eq!(read.slice::<f32>()?.as_ptr(), at, "no copy");
            }
        }
        Ok(())
    }

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
    fn blank_variables_take_the_same_first_values_or_those_given() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let (a, b) = (ParamStore::new(3), ParamStore::new(3));
            let ask = |vb: VarBuilder| -> Result<()> {
                vb.get_with_hints((4, 5), "w", Init::Randn { mean: 0.0, stdev: 1.0 })?;
                vb.get_with_hints(3, "running_mean", Init::Const(0.5)).map(|_| ())
            };
            ask(a.builder(dtype, &Device::Cpu))?;
            ask(b.blank(dtype, &Device::Cpu))?;
            let values = |store: &ParamStore, name: &str| -> Result<Vec<f64>> {
                store.tensors()[name].flatten_all()?.to_dtype(DType::F64)?.to_vec1()
            };
            assert_eq!(values(&b, "w")?, [0.0; 20]);
            b.draw()?;
            assert_eq!(values(&a, "w")?, values(&b, "w")?);
            assert_eq!(values(&b, "running_mean")?, [0.5; 3]);
            b.fill(|name, values| {
                values.fill(name.len() as f32);
                Ok::<_, candle_core::Error>(())
            })?;
            assert_eq!(values(&b, "w")?, [1.0; 20]);
            assert_eq!(values(&b, "running_mean")?, [12.0; 3]);
            let failed = b.fill(|name, _| if name == "w" { bail!("no") } else { Ok(()) });
            assert!(failed.is_err_and(|e: candle_core::Error| e.to_string().contains("no")));
        }
        Ok(())
    }

    #[test]
    fn distributions_have_their_moments() -> Result<()> {
        let n = 20_000;
        let stats = |init| -> Result<(f64, f64)> {
            let mut v = vec![0.0; n];
            draw(1, "w", init, &mut v)?;
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
