//! A network that is trained, and its twin for evaluation that shares every value and records no graph.

use candle_core::{DType, Device, Var};
use dmmi_model::{Dmmi, DmmiConfig, Part};
use nn_ops::{AdamW, AdamWConfig, Outline, ParamStore};

use crate::config::OptimizerConfig;
use crate::error::{Error, Result};
use crate::groups::param_groups;
use crate::parts::Recording;

/// A network in training.
pub struct Network {
    /// All parameters and buffers by name.
    pub store: ParamStore,
    /// Records the graph; for training steps.
    pub train: Dmmi,
    /// The same values, detached; for evaluation, at a fraction of the memory.
    pub eval: Dmmi,
    /// Where the values are.
    pub device: Device,
    /// Index of the backbone's last stage (its Swin gate has no gradient).
    pub last_stage: usize,
    /// Of a training pass, on a GPU.
    pub(crate) recording: Recording,
}

impl Network {
    /// A network whose first values depend on `seed` and each parameter's name only.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration is impossible, [`Error::Tensor`] when memory runs out.
    pub fn new(cfg: &DmmiConfig, seed: u64, device: &Device) -> Result<Self> {
        let network = Self::blank(cfg, seed, device)?;
        network.store.draw()?;
        Ok(network)
    }

    /// The same before its first values are drawn ([`ParamStore::draw`]), or read.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn blank(cfg: &DmmiConfig, seed: u64, device: &Device) -> Result<Self> {
        // Impossible sizes are refused before memory is asked for.
        Inventory::of_config(cfg)?;
        let store = ParamStore::new(seed);
        let train = Dmmi::new(cfg, store.blank(DType::F32, device))?;
        let eval = Dmmi::new(cfg, store.frozen(DType::F32, device))?;
        Ok(Self {
            store,
            train,
            eval,
            device: device.clone(),
            last_stage: LAST_STAGE,
            recording: Recording::default(),
        })
    }

    /// The same network with activations in `dtype`, in training and in evaluation.
    pub fn compute_in(self, dtype: DType) -> Self {
        Self { train: self.train.compute_in(dtype), eval: self.eval.compute_in(dtype), ..self }
    }

    /// The same network with activation checkpointing in training.
    pub fn checkpointing(self, on: bool) -> Self {
        Self { train: self.train.checkpointing(on), ..self }
    }

    /// An optimiser over the parameters that `cfg` trains, and these parameters.
    ///
    /// # Errors
    /// [`Error::Tensor`] when memory runs out.
    pub fn optimizer(&self, cfg: &OptimizerConfig) -> Result<(AdamW, Vec<(String, Var)>)> {
        optimizer_of(self.store.parameters(), cfg)
    }
}

/// An optimiser over those of `params` that `cfg` trains, and these.
///
/// # Errors
/// [`Error::Tensor`] when memory runs out.
pub fn optimizer_of(
    params: Vec<(String, Var)>,
    cfg: &OptimizerConfig,
) -> Result<(AdamW, Vec<(String, Var)>)> {
    let groups = param_groups(params, cfg);
    let trained = groups.iter().flat_map(|group| group.params.iter().cloned()).collect();
    let adamw = AdamWConfig { beta1: cfg.betas[0], beta2: cfg.betas[1], eps: cfg.eps };
    Ok((AdamW::new(groups, adamw)?, trained))
}

/// Both backbones have four stages.
const LAST_STAGE: usize = 3;

/// Names and shapes of a network's parameters and buffers, and what they add up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// Trainable tensors, sorted by name.
    pub parameters: Vec<(String, Vec<usize>)>,
    /// Running statistics, sorted by name.
    pub buffers: Vec<(String, Vec<usize>)>,
}

/// Part of the network, tensors in it, numbers in them.
pub type PartSize = (Part, usize, usize);

impl Inventory {
    /// Of a store.
    pub fn of(store: &ParamStore) -> Self {
        let shapes = |vars: Vec<(String, Var)>| {
            vars.into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect()
        };
        Self { parameters: shapes(store.parameters()), buffers: shapes(store.buffers()) }
    }

    /// Of a network that is not made: large ones are described without drawing their values.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration is impossible.
    pub fn of_config(cfg: &DmmiConfig) -> Result<Self> {
        cfg.validate()
            .map_err(|message| Error::config("configuration", format!("model: {message}")))?;
        let outline = Outline::new();
        Dmmi::new(cfg, outline.builder(DType::F32, &Device::Cpu)).map_err(|error| {
            Error::config("configuration", format!("model: {error}; use smaller sizes"))
        })?;
        Ok(Self { parameters: outline.parameters(), buffers: outline.buffers() })
    }

    /// Sizes of the network's parts in the order data meets them; the parts partition the parameters.
    pub fn parts(&self) -> Vec<PartSize> {
        Part::all()
            .into_iter()
            .map(|part| {
                let of_part = self.parameters.iter().filter(|(name, _)| Part::of(name) == part);
                let sizes: Vec<usize> = of_part.map(|(_, dims)| dims.iter().product()).collect();
                (part, sizes.len(), sizes.iter().sum())
            })
            .filter(|(_, tensors, _)| *tensors > 0)
            .collect()
    }

    /// Numbers in all parameters.
    pub fn total(&self) -> usize {
        self.parameters.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_beyond_all_memory_is_refused_before_it_is_made() {
        let mut cfg = DmmiConfig::quickstart(40);
        cfg.text.hidden_size = 1 << 16;
        cfg.text.vocab_size = 1 << 24;
        let message = Network::new(&cfg, 0, &Device::Cpu).err().map(|e| e.to_string());
        assert!(message.is_some_and(|text| text.contains("more than any machine")));
        cfg.text.hidden_size = 1_000_000_000;
        let message = Network::new(&cfg, 0, &Device::Cpu).err().map(|e| e.to_string());
        assert!(message.is_some_and(|text| text.contains("hidden_size")));
    }

    #[test]
    fn an_unmade_network_has_the_parameters_of_a_made_one() -> Result<()> {
        let cfg = DmmiConfig::quickstart(40);
        let made = Network::new(&cfg, 0, &Device::Cpu)?;
        let inventory = Inventory::of_config(&cfg)?;
        assert_eq!(inventory, Inventory::of(&made.store));
        let parts = inventory.parts();
        assert_eq!(parts.iter().map(|(.., numbers)| numbers).sum::<usize>(), inventory.total());
        assert!(parts.iter().all(|(part, ..)| *part != Part::Other), "{parts:?}");
        Ok(())
    }
}
