//! Names and shapes of a model's parameters without their values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::params::is_buffer;

/// Records what a model asks for and hands out zeros, which cost next to no memory until they are written to: how many
/// parameters a large model has is known without drawing them. More than 2^38 numbers are refused.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    shapes: Arc<Mutex<BTreeMap<String, Vec<usize>>>>,
}

/// A TiB in f32: sizes that are a typing error are not to end in a failed allocation.
const MOST_NUMBERS: usize = 1 << 38;

impl Outline {
    /// Nothing was asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder to make the model with.
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    /// Trainable parameters, sorted by name.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.select(|name| !is_buffer(name))
    }

    /// Buffers (running statistics), sorted by name.
    pub fn buffers(&self) -> Vec<(String, Vec<usize>)> {
        self.select(is_buffer)
    }

    fn select(&self, keep: impl Fn(&str) -> bool) -> Vec<(String, Vec<usize>)> {
        let shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.iter().filter(|(n, _)| keep(n)).map(|(n, s)| (n.clone(), s.clone())).collect()
    }
}

impl SimpleBackend for Outline {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(name.to_string(), s.dims().to_vec());
        let numbers = |dims: &Vec<usize>| dims.iter().fold(1, |n: usize, d| n.saturating_mul(*d));
        let all = shapes.values().map(numbers).fold(0, usize::saturating_add);
        if all > MOST_NUMBERS {
            bail!("{name} {:?}: the parameters so far are more than any machine holds", s.dims());
        }
        Tensor::zeros(s, dtype, dev)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("{name}: an outline needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamStore;

    #[test]
    fn an_outline_names_what_a_store_holds() -> Result<()> {
        let (outline, store) = (Outline::new(), ParamStore::new(0));
        for vb in
            [outline.builder(DType::F32, &Device::Cpu), store.builder(DType::F32, &Device::Cpu)]
        {
            crate::batch_norm2d(3, vb.pp("norm"))?;
            crate::linear_layer(3, 5, vb.pp("out"))?;
        }
        let of = |vars: Vec<(String, candle_core::Var)>| -> Vec<(String, Vec<usize>)> {
            vars.into_iter().map(|(n, v)| (n, v.dims().to_vec())).collect()
        };
        assert_eq!(outline.parameters(), of(store.parameters()));
        assert_eq!(outline.buffers(), of(store.buffers()));
        Ok(())
    }
}
