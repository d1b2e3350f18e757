//! The weight table: from shapes to a configuration, and from hashes to values.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail, ensure};
use backbones::{BertConfig, ResNetConfig, SwinConfig};
use candle_core::{Device, Tensor};
use dmmi_model::{BackboneConfig, DecoderConfig, DecoderWords, DmmiConfig};
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

struct Shapes<'a>(BTreeMap<&'a str, &'a [usize]>);

impl<'a> Shapes<'a> {
    fn dim(&self, name: &str, axis: usize) -> Result<usize> {
        let shape = self.0.get(name).with_context(|| format!("the weight table has no {name}"))?;
        shape
            .get(axis)
            .copied()
            .with_context(|| format!("{name} has shape {shape:?}, no axis {axis}"))
    }

    /// How many `prefix{0..}suffix` there are.
    fn count(&self, prefix: &str, suffix: &str) -> usize {
        (0..).take_while(|i| self.0.contains_key(format!("{prefix}{i}{suffix}").as_str())).count()
    }

    fn stages(&self, one: impl Fn(usize) -> Result<usize>) -> Result<[usize; 4]> {
        Ok([one(0)?, one(1)?, one(2)?, one(3)?])
    }
}

/// The configuration that has exactly these weights. Stochastic depth and dropout are 0, as golden cases are made.
pub(crate) fn configuration(config: &CaseConfig, weights: &Weights) -> Result<DmmiConfig> {
    let shapes =
        Shapes(weights.table.iter().map(|e| (e.name.as_str(), e.shape.as_slice())).collect());
    let backbone = match config.arch.as_str() {
        "swin" => BackboneConfig::Swin(swin(config, &shapes)?),
        "resnet" => BackboneConfig::Resnet(resnet(&shapes)?),
        other => bail!("config.arch is {other:?}; swin and resnet are known"),
    };
    let hidden_size = shapes.dim("bert_model.embeddings.word_embeddings.weight", 1)?;
    let text = BertConfig {
        vocab_size: shapes.dim("bert_model.embeddings.word_embeddings.weight", 0)?,
        hidden_size,
        num_layers: shapes.count("bert_model.encoder.layer.", ".attention.self.query.weight"),
        num_heads: config.bert.num_attention_heads.unwrap_or(BERT_HEADS),
        intermediate_size: shapes.dim("bert_model.encoder.layer.0.intermediate.dense.weight", 0)?,
        max_positions: shapes.dim("bert_model.embeddings.position_embeddings.weight", 0)?,
        ..BertConfig::base_uncased()
    };
    let ffn = "model.classifier.lan_func.transformer_model.layers.0.linear1.weight";
    let decoder = DecoderConfig {
        num_heads: config.decoder_heads.unwrap_or(DECODER_HEADS),
        feed_forward: shapes.dim(ffn, 0)?,
        dropout: 0.0,
        words: DecoderWords::Attended,
    };
    let release = DmmiConfig::release(backbone);
    let cfg = DmmiConfig { text, decoder, gate: GateInit::Default, ..release };
    cfg.validate().map_err(|why| anyhow!("the sidecar describes an impossible model: {why}"))?;
    Ok(cfg)
}

fn swin(config: &CaseConfig, shapes: &Shapes) -> Result<SwinConfig> {
    let block = |stage: usize, rest: &str| format!("model.backbone.layers.{stage}.blocks.0.{rest}");
    let table = |stage| block(stage, "attn.relative_position_bias_table");
    let side = shapes.dim(&table(0), 0)?.isqrt();
    let embed_dim = shapes.dim("model.backbone.patch_embed.proj.weight", 0)?;
    let hidden = shapes.dim(&block(0, "mlp.fc1.weight"), 0)?;
    ensure!(
        hidden.is_multiple_of(embed_dim),
        "mlp.fc1 has {hidden} rows, no multiple of {embed_dim} channels"
    );
    let num_heads = shapes.stages(|i| shapes.dim(&table(i), 1))?;
    if let Some(stated) = config.num_heads {
        ensure!(
            stated == num_heads,
            "config.num_heads {stated:?} but the bias tables have {num_heads:?} columns"
        );
    }
    Ok(SwinConfig {
        patch_size: shapes.dim("model.backbone.patch_embed.proj.weight", 2)?,
        embed_dim,
        depths: shapes.stages(|i| {
            Ok(shapes.count(&format!("model.backbone.layers.{i}.blocks."), ".norm1.weight"))
        })?,
        num_heads,
        window_size: side.div_ceil(2),
        mlp_ratio: hidden / embed_dim,
        drop_path: 0.0,
        ..SwinConfig::base_w12()
    })
}

fn resnet(shapes: &Shapes) -> Result<ResNetConfig> {
    let width = shapes.dim("model.backbone.layer1.0.weight", 0)?;
    // The reference keeps stem and first stage in one Sequential (blocks under `4.`).
    let layers = shapes.stages(|i| {
        let prefix = if i == 0 { "layer1.4.".to_string() } else { format!("layer{}.", i + 1) };
        Ok(shapes.count(&format!("model.backbone.{prefix}"), ".conv1.weight"))
    })?;
    Ok(ResNetConfig { layers, width })
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
        Ok(var.set(&values.to_dtype(var.dtype())?)?)
    };
    table.into_values().collect::<Vec<_>>().par_iter().try_for_each(fill)
}
