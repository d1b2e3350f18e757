//! The weight table: from shapes to a configuration, and from hashes to values.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use dmmi_model::names::{Heads, infer};
use dmmi_model::{BackboneConfig, DmmiConfig};
use mba_fusion::GateInit;
use nn_ops::ParamStore;
use rayon::prelude::*;

use crate::hash::hash_values;
use crate::report::Report;
use crate::sidecar::{CaseConfig, TableEntry, Weights};

/// Attention heads where neither shapes nor the sidecar tell: what the reference code fixes.
const DECODER_HEADS: usize = 8;
/// transformers' default.
const BERT_HEADS: usize = 12;

/// Stored by the reference, never used, never trained (spec section 4): our model does not have them.
pub(crate) fn is_dead_copy(name: &str) -> bool {
    name.contains(".decoder_layer.")
}

/// The configuration that has exactly these weights. Stochastic depth and dropout are 0, as golden cases are made.
pub(crate) fn configuration(config: &CaseConfig, weights: &Weights) -> Result<DmmiConfig> {
    let shapes = weights.table.iter().map(|e| (e.name.clone(), e.shape.clone())).collect();
    let heads = Heads {
        text: Some(config.bert.num_attention_heads.unwrap_or(BERT_HEADS)),
        decoder: Some(config.decoder_heads.unwrap_or(DECODER_HEADS)),
    };
    let mut cfg = infer(&shapes, heads)
        .map_err(|why| anyhow!("the sidecar describes an impossible model: {why}"))?;
    cfg.gate = GateInit::Default;
    cfg.decoder.dropout = 0.0;
    let arch = match &mut cfg.backbone {
        BackboneConfig::Swin(swin) => {
            swin.drop_path = 0.0;
            if let Some(stated) = config.num_heads {
                ensure!(
                    stated == swin.num_heads,
                    "config.num_heads {stated:?} but the bias tables have {:?} columns",
                    swin.num_heads
                );
            }
            "swin"
        }
        BackboneConfig::Resnet(_) => "resnet",
    };
    ensure!(
        config.arch == arch,
        "config.arch is {:?}, but the weights are of a {arch}; swin and resnet are known",
        config.arch
    );
    Ok(cfg)
}

/// Sets every value of `store` from the table, on all cores, and judges that both have the same names and shapes.
///
/// # Errors
/// When memory runs out.
pub(crate) fn load(store: &ParamStore, weights: &Weights, report: &mut Report) -> Result<()> {
    let table: BTreeMap<&str, &TableEntry> = weights
        .table
        .iter()
        .filter(|e| !is_dead_copy(&e.name))
        .map(|e| (e.name.as_str(), e))
        .collect();
    let ours = store.tensors();
    let ours_names: BTreeSet<&str> = ours.keys().map(String::as_str).collect();
    let mut faults = 0;
    for (name, entry) in &table {
        let why = match ours.get(*name) {
            None => "in the weight table, not in our model".to_string(),
            Some(t) if t.dims() != entry.shape => {
                format!("ours is {:?}, the table says {:?}", t.dims(), entry.shape)
            }
            Some(_) => continue,
        };
        faults += 1;
        report.miss(&format!("weights {name}"), why);
    }
    for name in ours_names.iter().filter(|n| !table.contains_key(*n)) {
        faults += 1;
        report.miss(&format!("weights {name}"), "in our model, not in the weight table");
    }
    report.judge("weights: names and shapes that differ", f64::from(faults), 0.0);
    let dead = weights.table.len() - table.len();
    if dead > 0 {
        report.remark(format!("  {dead} tensors named *.decoder_layer.* ignored: dead copies, never used (spec section 4)"));
    }
    let fill = |entry: &&TableEntry| -> Result<()> {
        let Some(var) = store.get(&entry.name).filter(|v| v.dims() == entry.shape) else {
            return Ok(());
        };
        let n = entry.shape.iter().product();
        let values = hash_values(&entry.name, weights.seed, entry.base, entry.scale, n);
        let values = Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)?;
        Ok(var.set(&values.to_dtype(var.dtype())?.to_device(var.device())?)?)
    };
    table.into_values().collect::<Vec<_>>().par_iter().try_for_each(fill)
}
