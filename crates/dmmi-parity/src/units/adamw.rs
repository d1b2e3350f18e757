//! AdamW and the schedule on synthetic, well-conditioned gradients.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Tensor, Var};
use dmmi_train::PolyDecay;
use nn_ops::{AdamW, AdamWConfig, Gradients, ParamGroup};
use serde::Deserialize;

use super::Place;
use super::hashed;
use crate::golden::Golden;
use crate::noise::{Difference, FACTOR, quantile, scale, tolerance};
use crate::report::Report;
use crate::tensors::values;

/// The release's exponent; the sidecar of the units states only the length.
const POWER: f64 = 0.9;

#[derive(Clone, Debug, Deserialize)]
struct Part {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    steps: usize,
    poly_total: usize,
    lr_used: Vec<f64>,
    tensors: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    weight_decay: f64,
    /// None: this parameter never gets a gradient.
    grad_scale: Option<f32>,
}

/// Runs the recorded steps.
pub(super) fn run(golden: &Golden, seed: u32, place: &Place, report: &mut Report) -> Result<()> {
    let part: Part = golden.part("/adamw")?;
    let schedule = PolyDecay { base: part.lr, total: part.poly_total, power: POWER, warmup: 0 };
    for (step, lr) in part.lr_used.iter().enumerate() {
        report.judge(
            &format!("lr step {step}"),
            (schedule.lr(step) - lr).abs() / scale(*lr, part.lr),
            FACTOR * f64::EPSILON,
        );
    }
    let mut vars = BTreeMap::new();
    let mut groups = Vec::new();
    for entry in &part.tensors {
        let first =
            hashed(&format!("unit.param.{}", entry.name), seed, 0.0, 0.5, &entry.shape, place)?;
        let var = Var::from_tensor(&first)?;
        vars.insert(entry.name.as_str(), var.clone());
        groups.push(ParamGroup {
            name: entry.name.clone(),
            params: vec![(entry.name.clone(), var)],
            weight_decay: entry.weight_decay,
            lr_scale: 1.0,
        });
    }
    let cfg = AdamWConfig { beta1: part.betas[0], beta2: part.betas[1], eps: part.eps };
    let mut optimizer = AdamW::new(groups, cfg)?;
    let mut results: Vec<(String, Tensor)> = Vec::new();
    for step in 0..part.steps {
        let mut grads = BTreeMap::new();
        for entry in &part.tensors {
            if let Some(scale) = entry.grad_scale {
                let name = format!("unit.grad.{}.{step}", entry.name);
                grads.insert(
                    entry.name.clone(),
                    hashed(&name, seed, 0.0, scale, &entry.shape, place)?,
                );
            }
        }
        optimizer.step(&Gradients::from_map(grads), schedule.lr(step))?;
        for (name, var) in &vars {
            results.push((format!("{name}.step{}", step + 1), var.as_tensor().copy()?));
        }
    }
    for (name, moment) in optimizer.state()? {
        if !name.ends_with(".step") {
            results.push((name, moment));
        }
    }
    judge(golden, &results, report)
}

/// Parameters and moments: each by its own recorded noise, or the median of all of that kind where chance made it small.
fn judge(golden: &Golden, results: &[(String, Tensor)], report: &mut Report) -> Result<()> {
    let mut compared = Vec::new();
    for (name, ours) in results {
        let Some(reference) = golden.tensors.get(&format!("adamw.f64.{name}")) else { continue };
        let torch_f32 = golden.tensor(&format!("adamw.f32.{name}"))?;
        let noise = Difference::between(&torch_f32.values, &reference.values).relative_rms;
        let error = Difference::between(&values(ours)?, &reference.values).relative_rms;
        compared.push((name, error, noise));
    }
    for (name, error, noise) in &compared {
        let kind =
            |n: &str| if n.contains(".step") { 0 } else { 1 + usize::from(n.ends_with("_sq")) };
        let same = compared.iter().filter(|(n, _, _)| kind(n) == kind(name)).map(|c| c.2);
        let floor = quantile(same, 0.5);
        report.judge(
            &format!("adamw {name} rms"),
            *error,
            tolerance(noise.max(floor), report.precision),
        );
    }
    let stored = golden.tensors.keys().filter(|n| n.starts_with("adamw.f64.")).count();
    report.judge("adamw: stored results without ours", stored.abs_diff(compared.len()) as f64, 0.0);
    Ok(())
}
