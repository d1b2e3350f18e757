//! Our parameters as the authors' code stores them: with dead copies, counts and constants, so that
//! `load_state_dict(strict=True)` is content.

use std::collections::BTreeMap;

use backbones::relative_position_index;
use candle_core::{Device, Result, Tensor};

use crate::config::{BackboneConfig, DmmiConfig};

/// A state dict.
pub type StateDict = BTreeMap<String, Tensor>;

/// The `model` and the `bert_model` of a checkpoint of the release.
///
/// # Errors
/// When memory runs out.
pub fn export(cfg: &DmmiConfig, tensors: &StateDict) -> Result<(StateDict, StateDict)> {
    let (mut model, mut text) = (StateDict::new(), StateDict::new());
    for (name, tensor) in tensors {
        if let Some(inner) = name.strip_prefix("bert_model.") {
            text.insert(inner.to_owned(), tensor.clone());
        } else if let Some(inner) = name.strip_prefix("model.") {
            model.insert(inner.to_owned(), tensor.clone());
        }
    }
    let mut added = StateDict::new();
    for (name, tensor) in &model {
        // The release builds each one-layer decoder from a layer it also keeps.
        if let Some((before, after)) = name.split_once(".transformer_model.layers.0.") {
            added.insert(format!("{before}.decoder_layer.{after}"), tensor.clone());
        }
        if let Some(norm) = name.strip_suffix(".running_mean") {
            added.insert(format!("{norm}.num_batches_tracked"), Tensor::new(0i64, &Device::Cpu)?);
        }
        if let (Some(attention), BackboneConfig::Swin(swin)) =
            (name.strip_suffix(".relative_position_bias_table"), &cfg.backbone)
        {
            let window = swin.window_size;
            let index: Vec<i64> =
                relative_position_index(window).into_iter().map(i64::from).collect();
            let cells = window * window;
            let index = Tensor::from_vec(index, (cells, cells), &Device::Cpu)?;
            added.insert(format!("{attention}.relative_position_index"), index);
        }
    }
    model.append(&mut added);
    Ok((model, text))
}
