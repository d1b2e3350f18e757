//! Gradients by parameter name, out of Candle's store.

use std::collections::{BTreeMap, HashSet};

use candle_core::{DType, Result, Storage, Tensor, Var, WithDType};

use crate::kernel::{self, Plan, dispatch};
use crate::norm::sum_of;
use crate::pass::Aside;

/// The gradient of each parameter that got one, detached.
#[derive(Debug, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Gradients of a scalar loss. Run it on a thread with a large stack: Candle's graph walk is recursive.
    ///
    /// Where the forward pass was recorded on a [`Tape`](crate::Tape), which spares memory and time, it must still live, and
    /// is used up.
    ///
    /// # Errors
    /// When a tape was used up or dropped before.
    pub fn of(loss: &Tensor, params: &[(String, Var)]) -> Result<Self> {
        let aside = Aside::begin(params.iter().map(|(_, var)| var.as_tensor().id()));
        let mut store = loss.backward()?;
        kernel::run_tape()?;
        let (mut by_name, mut seen) = (BTreeMap::new(), HashSet::new());
        for (name, var) in params {
            let of_graph = store.remove(var.as_tensor());
            let found = match (of_graph, aside.take(var.as_tensor().id())) {
                (Some(a), Some(b)) => Some((a + b)?),
                (one, other) => one.or(other),
            };
            if let Some(g) = found {
                let g = g.detach().contiguous()?;
                // An operation may give its gradient to two parameters as it is; they are scaled in place.
                let apart = seen.insert(memory_of(&g));
                by_name.insert(name.clone(), if apart { g } else { g.copy()? });
            }
        }
        Ok(Self { by_name })
    }

    /// The gradient of one parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name)
    }

    /// Names and gradients, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.by_name.iter()
    }

    /// Parameters without a gradient. Candle drops gradients silently: check this once before trusting a run.
    pub fn missing(&self, params: &[(String, Var)]) -> Vec<String> {
        let absent = params.iter().filter(|(n, _)| !self.by_name.contains_key(n));
        absent.map(|(n, _)| n.clone()).collect()
    }

    /// Euclidean norm over all gradients, added in f64 in a fixed order.
    pub fn global_norm(&self) -> Result<f64> {
        #[cfg(feature = "cuda")]
        if let Some(norm) = crate::cuda::norm_of(&self.by_name.values().collect::<Vec<_>>())? {
            return Ok(norm);
        }
        let mut total = 0.0;
        for g in self.by_name.values() {
            total += sum_of_squares(g)?;
        }
        Ok(total.sqrt())
    }

    /// Scales all gradients down so that their norm is at most `max_norm`; returns the norm before.
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        let norm = self.global_norm()?;
        if norm > max_norm {
            self.scale(max_norm / (norm + 1e-6))?;
        }
        Ok(norm)
    }

    /// Multiplies every gradient by `factor`.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        // In place: these gradients belong to nobody else.
        #[cfg(feature = "cuda")]
        if crate::cuda::scale_all(&self.by_name.values().collect::<Vec<_>>(), factor)? {
            return Ok(());
        }
        for g in self.by_name.values_mut() {
            *g = (&*g * factor)?;
        }
        Ok(())
    }

    /// Adds the gradients of another batch (accumulation).
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (name, g) in other.by_name {
            let sum = match self.by_name.get(&name) {
                Some(mine) => (mine + g)?,
                None => g,
            };
            self.by_name.insert(name, sum);
        }
        Ok(())
    }

    /// For tests and hand-made gradients.
    pub fn from_map(by_name: BTreeMap<String, Tensor>) -> Self {
        Self { by_name }
    }
}

/// What two tensors have in common if a change of one is a change of the other.
fn memory_of(t: &Tensor) -> usize {
    std::ptr::from_ref::<Storage>(&t.storage_and_layout().0).addr()
}

fn sum_of_squares(g: &Tensor) -> Result<f64> {
    if kernel::plan(g) != Plan::Fused {
        return g.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar();
    }
    let g = g.contiguous()?;
    dispatch!(g.dtype(), T => {
        let g = kernel::read(&g)?;
        let g = g.slice::<T>()?;
        let parts = kernel::par_sum::<f64, _>(g.len(), 1, 1, |range, acc| {
            let g = &g[range];
            acc[0] += g.chunks(1 << 12).map(|g| sum_of(g.len(), |i| WithDType::to_f64(g[i]).powi(2))).sum::<f64>();
        });
        Ok(parts[0])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::values;

    #[test]
    fn no_two_gradients_share_memory() -> Result<()> {
        let var = |v: f32| Var::from_vec(vec![v; 8], 8, &candle_core::Device::Cpu);
        let (a, b) = (var(1.0)?, var(2.0)?);
        let loss = crate::add(&a, &b)?.sum_all()?;
        let params = [("a".to_string(), a), ("b".to_string(), b)];
        let found = Gradients::of(&loss, &params)?;
        let memory = |name| found.get(name).map(memory_of);
        assert!(memory("a").is_some() && memory("a") != memory("b"));
        Ok(())
    }

    fn named(values: &[(&str, Tensor)]) -> Gradients {
        Gradients::from_map(values.iter().map(|(n, t)| (n.to_string(), t.clone())).collect())
    }

    #[test]
    fn norm_and_clipping() -> Result<()> {
        let a = Tensor::new(&[3f32, 0.0], &candle_core::Device::Cpu)?;
        let b = Tensor::new(&[[4f32]], &candle_core::Device::Cpu)?;
        let mut g = named(&[("a", a), ("b", b)]);
        assert_eq!(g.clip(6.0)?, 5.0);
        assert_eq!(g.global_norm()?, 5.0);
        assert_eq!(g.clip(1.0)?, 5.0);
        assert!((g.global_norm()? - 1.0).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn the_norm_is_exact_and_the_same_for_any_number_of_threads() -> Result<()> {
        let t = values(&[301, 333], 1)?;
        let exact = t.flatten_all()?.to_vec1::<f64>()?.iter().map(|v| v * v).sum::<f64>().sqrt();
        for dtype in [DType::F64, DType::F32, DType::BF16] {
            let g = named(&[("a", t.to_dtype(dtype)?)]);
            let tolerance = if dtype == DType::BF16 { 1e-3 } else { 1e-7 };
            assert!((g.global_norm()? / exact - 1.0).abs() < tolerance);
            for n in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
                let pool = pool.map_err(candle_core::Error::wrap)?;
                assert_eq!(pool.install(|| g.global_norm())?, g.global_norm()?);
            }
        }
        Ok(())
    }

    #[test]
    fn accumulation_and_missing_parameters() -> Result<()> {
        let x = Var::from_tensor(&values(&[2], 1)?)?;
        let y = Var::from_tensor(&values(&[2], 2)?)?;
        let params = [("x".to_string(), x.clone()), ("y".to_string(), y)];
        let mut sum = Gradients::of(&x.sqr()?.sum_all()?, &params)?;
        assert_eq!(sum.missing(&params), ["y"]);
        sum.add(Gradients::of(&x.sqr()?.sum_all()?, &params)?)?;
        sum.add(named(&[("y", values(&[2], 2)?)]))?;
        sum.scale(0.25)?;
        assert!(sum.missing(&params).is_empty());
        let got = sum.get("x").map(|g| g.to_vec1::<f64>()).transpose()?;
        assert_eq!(got, Some(x.to_vec1::<f64>()?));
        Ok(())
    }
}
