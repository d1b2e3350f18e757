//! Gradients by parameter name, out of Candle's store.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, Var};

/// The gradient of each parameter that got one, detached.
#[derive(Debug, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Gradients of a scalar loss. Run it on a thread with a large stack: Candle's graph walk is recursive.
    pub fn of(loss: &Tensor, params: &[(String, Var)]) -> Result<Self> {
        let mut store = loss.backward()?;
        let mut by_name = BTreeMap::new();
        for (name, var) in params {
            if let Some(g) = store.remove(var.as_tensor()) {
                by_name.insert(name.clone(), g.detach());
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

    /// Euclidean norm over all gradients.
    pub fn global_norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for g in self.by_name.values() {
            total += g.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
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
