//! A case of the whole network, from sidecar to verdicts.

use anyhow::{Context, Result, ensure};
use dmmi_model::Dmmi;
use nn_ops::ParamStore;

use crate::golden::Golden;
use crate::report::Report;
use crate::sidecar::Sidecar;
use crate::weights::is_dead_copy;
use crate::{eval, train, weights};

/// Builds the model that the weight table describes and judges evaluation and training.
pub fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    run_perturbed(golden, None, report)
}

/// The same with one weight changed first: `(name, flat index, added)`. For tests of the harness itself.
pub fn run_perturbed(
    golden: &Golden,
    change: Option<(&str, usize, f64)>,
    report: &mut Report,
) -> Result<()> {
    let sidecar: Sidecar = golden.part("")?;
    let (precision, device) = (report.precision, report.device.clone());
    let dtype = precision.parameters();
    let cfg = weights::configuration(&sidecar.config, &sidecar.weights)
        .with_context(|| format!("{}: weights.table", golden.name))?;
    let build = |vb| Dmmi::new(&cfg, vb).map(|m| m.compute_in(precision.activations()));
    let store = ParamStore::new(0);
    let trained = build(store.builder(dtype, &device))?;
    weights::load(&store, &sidecar.weights, report)?;
    if let Some(expected) = sidecar.n_params {
        let ours: usize = store.parameters().iter().map(|(_, v)| v.elem_count()).sum();
        let dead = sidecar.weights.table.iter().filter(|e| is_dead_copy(&e.name));
        let dead: usize = dead.map(|e| e.shape.iter().product::<usize>()).sum();
        report.judge("elements of all parameters", (ours + dead).abs_diff(expected) as f64, 0.0);
    }
    if let Some((name, index, added)) = change {
        perturb(&store, name, index, added)?;
    }
    // The frozen twin shares every value and records no graph.
    let frozen = build(store.frozen(dtype, &device))?;
    eval::run(golden, &sidecar, &frozen, dtype, report)?;
    train::run(golden, &sidecar, &store, &trained, dtype, report)
}

fn perturb(store: &ParamStore, name: &str, index: usize, added: f64) -> Result<()> {
    let var = store.get(name).with_context(|| format!("our model has no {name}"))?;
    let mut values = crate::tensors::values(var.as_tensor())?;
    ensure!(index < values.len(), "{name} has {} elements", values.len());
    values[index] += added;
    let changed = candle_core::Tensor::from_vec(values, var.shape(), var.device())?;
    Ok(var.set(&changed.to_dtype(var.dtype())?)?)
}
