//! The three losses with the gradients of their inputs.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor, Var};
use dmmi_model::LossConfig;
use dmmi_model::loss::{contrastive, segmentation, similarity};
use nn_ops::Linear;
use serde::Deserialize;

use super::Place;
use super::hashed;
use crate::golden::Golden;
use crate::noise::{Difference, tolerance};
use crate::report::Report;
use crate::tensors::values;

#[derive(Clone, Debug, Deserialize)]
struct Part {
    batch: usize,
    target_flag: Vec<u8>,
    token_lens: Vec<usize>,
}

/// Name, value and gradients (name, ours) of one loss.
type Outcome = (&'static str, Tensor, Vec<(&'static str, Tensor)>);

/// Judges each loss and gradient. The sidecar records the f32 noise of the three values; the largest of them is the floor
/// of each, and the noise of the gradients.
pub(super) fn run(golden: &Golden, seed: u32, place: &Place, report: &mut Report) -> Result<()> {
    let part: Part = golden.part("/loss")?;
    let words_shape = golden.tensor("loss.f64.contrastive.grad_lan")?.shape.clone();
    let [batch, width, length] = words_shape[..] else {
        anyhow::bail!(
            "loss.f64.contrastive.grad_lan has shape {words_shape:?}, expected three axes"
        );
    };
    ensure!(batch == part.batch && part.token_lens.len() == batch, "loss: batch sizes disagree");
    let outcomes = [
        cosine(&part, seed, [batch, width, length], place)?,
        pairs(&part, seed, [batch, width, length], place)?,
        pixels(golden, seed, place)?,
    ];
    let noise = |name: &str| -> Result<f64> {
        let value =
            |kind: &str| golden.tensor(&format!("loss.{kind}.{name}")).map(|t| t.values.clone());
        Ok(Difference::between(&value("f32")?, &value("f64")?).relative_rms)
    };
    let mut largest = 0.0_f64;
    for (name, ..) in &outcomes {
        largest = largest.max(noise(name)?);
    }
    let allowed = tolerance(largest, report.precision);
    for (name, value, gradients) in &outcomes {
        let reference = &golden.tensor(&format!("loss.f64.{name}"))?.values;
        report.judge(
            &format!("loss {name}"),
            Difference::between(&values(value)?, reference).relative_rms,
            allowed,
        );
        for (gradient, ours) in gradients {
            let reference = &golden.tensor(&format!("loss.f64.{name}.{gradient}"))?.values;
            let error = Difference::between(&values(ours)?, reference).relative_rms;
            report.judge(&format!("loss {name} {gradient} rms"), error, allowed);
        }
    }
    Ok(())
}

fn flags(part: &Part, place: &Place) -> Result<Tensor> {
    Ok(Tensor::new(part.target_flag.as_slice(), &place.device)?)
}

/// A variable holding a hash-filled tensor.
fn variable(
    name: &str,
    seed: u32,
    base: f32,
    scale: f32,
    shape: &[usize],
    place: &Place,
) -> Result<Var> {
    Ok(Var::from_tensor(&hashed(&format!("unit.loss.{name}"), seed, base, scale, shape, place)?)?)
}

/// Gradient of `loss` at `var`.
fn gradient(loss: &Tensor, var: &Var, name: &str) -> Result<Tensor> {
    loss.backward()?.remove(var.as_tensor()).with_context(|| format!("no gradient reaches {name}"))
}

fn cosine(part: &Part, seed: u32, shape: [usize; 3], place: &Place) -> Result<Outcome> {
    let attention: Vec<u8> =
        part.token_lens.iter().flat_map(|n| (0..shape[2]).map(move |i| u8::from(i < *n))).collect();
    let attention = Tensor::from_vec(attention, (shape[0], shape[2]), &place.device)?;
    let lan1 = variable("lan1", seed, 0.05, 1.0, &shape, place)?;
    let lan2 = variable("lan2", seed, 0.05, 1.0, &shape, place)?;
    let (words, found) = (lan1.transpose(1, 2)?, lan2.transpose(1, 2)?);
    let loss = similarity(&words, &found, &attention, &flags(part, place)?)?;
    ensure!(
        loss.backward()?.get(lan1.as_tensor()).is_none(),
        "the similarity loss propagates into the words"
    );
    let grad = gradient(&loss, &lan2, "lan2")?;
    Ok(("cossim", loss, vec![("grad_lan2", grad)]))
}

fn pairs(part: &Part, seed: u32, shape: [usize; 3], place: &Place) -> Result<Outcome> {
    let [batch, width, _] = shape;
    let visual = variable("vis", seed, 0.05, 1.0, &[batch, width], place)?;
    let words = variable("lan1", seed, 0.05, 1.0, &shape, place)?;
    let weight = hashed("unit.loss.align.weight", seed, 0.0, 0.0625, &[width, width], place)?;
    let bias = hashed("unit.loss.align.bias", seed, 0.0, 0.1, &[width], place)?;
    let aligned = Linear::new(weight, Some(bias)).forward(&words.transpose(1, 2)?)?.mean(1)?;
    let loss = contrastive(
        visual.as_tensor(),
        &aligned,
        &flags(part, place)?,
        LossConfig::release().temperature,
    )?;
    let grads = vec![
        ("grad_lan", gradient(&loss, &words, "lan1")?),
        ("grad_vis", gradient(&loss, &visual, "vis")?),
    ];
    Ok(("contrastive", loss, grads))
}

fn pixels(golden: &Golden, seed: u32, place: &Place) -> Result<Outcome> {
    let shape = golden.tensor("loss.f64.seg.grad")?.shape.clone();
    let [b, _, h, w] = shape[..] else {
        anyhow::bail!("loss.f64.seg.grad has shape {shape:?}, expected four axes")
    };
    let logits = variable("logits", seed, 0.0, 3.0, &shape, place)?;
    let single = Place { dtype: DType::F32, device: place.device.clone() };
    let masks = hashed("unit.loss.target", seed, 0.0, 1.0, &[b, h, w], &single)?.gt(0.3f32)?;
    let loss = segmentation(logits.as_tensor(), &masks, LossConfig::release().class_weights)?;
    let grad = gradient(&loss, &logits, "logits")?;
    Ok(("seg", loss, vec![("grad", grad)]))
}
