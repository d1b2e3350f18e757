//! Evaluation mode: every recorded intermediate result at every image size.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use dmmi_model::{Dmmi, DmmiInput};
use nn_ops::{Mode, Probe};

use crate::golden::{Golden, Stored};
use crate::hash::hash_values;
use crate::layout::Slice;
use crate::noise::{FACTOR, quantile};
use crate::report::Report;
use crate::sidecar::{Sidecar, StageNoise};
use crate::stats;
use crate::tensors::{TensorNoise, judge_tensor, values};

/// Inputs of one image size, as stored or as hashed.
pub(crate) struct Inputs {
    /// `(B, 3, S, S)`.
    pub(crate) images: Tensor,
    /// `(B, L)`.
    pub(crate) ids: Tensor,
    /// `(B, L)`, one phrase hidden.
    pub(crate) masked_ids: Tensor,
    /// `(B, L)`.
    pub(crate) attention: Tensor,
}

/// A stored integer tensor as ours.
pub(crate) fn integers(
    golden: &Golden,
    name: &str,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let stored = golden.tensor(name)?;
    let values: Vec<u32> = stored.values.iter().map(|v| *v as u32).collect();
    ensure!(
        values.iter().zip(&stored.values).all(|(a, b)| f64::from(*a) == *b),
        "{name} holds values that are no small natural numbers"
    );
    let values = Tensor::from_vec(values, stored.shape.as_slice(), &Device::Cpu)?;
    Ok(values.to_dtype(dtype)?.to_device(device)?)
}

impl Inputs {
    /// Reads the token tensors of a size and makes its images.
    pub(crate) fn of(
        golden: &Golden,
        sidecar: &Sidecar,
        side: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let get = |part: &str| integers(golden, &format!("s{side}.in.{part}"), DType::U32, device);
        let shape = (sidecar.config.batch, 3, side, side);
        let n = sidecar.config.batch * 3 * side * side;
        let images = hash_values(&format!("input.image.s{side}"), sidecar.config.seed, 0.0, 2.0, n);
        let images = Tensor::from_vec(images, shape, device)?.to_dtype(dtype)?;
        Ok(Self {
            images,
            ids: get("ids")?,
            masked_ids: get("masked_ids")?,
            attention: get("attention")?,
        })
    }

    /// One batch for the model; `erased` are the ids of T'.
    pub(crate) fn batch(&self, erased: &Tensor) -> DmmiInput {
        DmmiInput {
            images: self.images.clone(),
            ids: self.ids.clone(),
            erased_ids: Some(erased.clone()),
            attention: self.attention.clone(),
        }
    }
}

/// The recorded noise of a tensor; of the same tensor at another size, or the largest of the case, where none is.
pub(crate) fn noise_of(noise: &BTreeMap<String, StageNoise>, name: &str) -> TensorNoise {
    let number = |n: &StageNoise| TensorNoise {
        relative_rms: n.rel_rms_f32_vs_f64.unwrap_or(0.0),
        max_abs: n.max_abs_f32_vs_f64.unwrap_or(0.0),
    };
    if let Some(own) = noise.get(name) {
        return number(own);
    }
    let part = name.split_once('.').map_or(name, |(_, part)| part);
    let same = noise.iter().filter(|(n, _)| n.split_once('.').is_some_and(|(_, p)| p == part));
    let same: Vec<TensorNoise> = same.map(|(_, n)| number(n)).collect();
    let pool = if same.is_empty() { noise.values().map(number).collect() } else { same };
    TensorNoise {
        relative_rms: quantile(pool.iter().map(|n| n.relative_rms), 1.0),
        max_abs: quantile(pool.iter().map(|n| n.max_abs), 1.0),
    }
}

/// Runs the frozen model at every size and judges all that is stored of it.
pub(crate) fn run(
    golden: &Golden,
    sidecar: &Sidecar,
    model: &Dmmi,
    dtype: DType,
    report: &mut Report,
) -> Result<()> {
    for size in sidecar.config.eval_sizes.iter().chain(&sidecar.config.sizes) {
        one_size(golden, sidecar, model, size.side(), dtype, report)
            .with_context(|| format!("image size {}", size.side()))?;
    }
    Ok(())
}

fn one_size(
    golden: &Golden,
    sidecar: &Sidecar,
    model: &Dmmi,
    side: usize,
    dtype: DType,
    report: &mut Report,
) -> Result<()> {
    let prefix = format!("s{side}.");
    let inputs = Inputs::of(golden, sidecar, side, dtype, &report.device)?;
    if let Some(stored) = golden.tensors.get(&format!("{prefix}in.image")) {
        let wrong =
            values(&inputs.images)?.iter().zip(&stored.values).filter(|(a, b)| a != b).count();
        report.judge(&format!("{prefix}in.image: pixels that differ"), wrong as f64, 0.0);
    }
    let mut probe = Probe::recording();
    // The authors' evaluation passes the same, unmasked, expression as T and T'.
    model.forward_probed(&inputs.batch(&inputs.ids), Mode::Eval, &mut probe)?;
    let mut seen = probe.into_seen();
    let stats = stats::read(golden, sidecar, side)?;
    let masked = "bert.masked_ids";
    if golden.tensors.contains_key(&format!("{prefix}{masked}")) || stats.has_row(masked) {
        let mut probe = Probe::recording();
        // The text encoder never sees the picture: a corner of it is enough, and full-size models take their time.
        let mut batch = inputs.batch(&inputs.masked_ids);
        let corner = side.min(64);
        batch.images = batch.images.narrow(2, 0, corner)?.narrow(3, 0, corner)?.contiguous()?;
        model.forward_probed(&batch, Mode::Eval, &mut probe)?;
        seen.extend(probe.into_seen().remove_entry(masked));
    }
    for (name, stored) in
        golden.tensors.range(prefix.clone()..).take_while(|(n, _)| n.starts_with(&prefix))
    {
        let part = &name[prefix.len()..];
        if part.starts_with("in.") || stats::OWN.contains(&part) {
            continue;
        }
        let slice = match sidecar.subsampled.get(name) {
            None => Slice::default(),
            Some(text) => Slice::parse(text)
                .with_context(|| format!("subsampled {name}: cannot read {text:?}"))?,
        };
        judge_tensor(
            report,
            name,
            seen.get(part),
            stored,
            &slice,
            noise_of(&sidecar.stage_noise, name),
        )?;
    }
    let Some(logits) = seen.get("logits") else {
        report.miss(&format!("{prefix}logits"), "our model records no logits");
        return Ok(());
    };
    mask_fraction(golden, sidecar, side, logits, report)?;
    stats.judge(sidecar, &seen, report)
}

/// Pixels whose foreground logit is the larger one, and the margin of every pixel.
pub(crate) fn margins(logits: &[f64], samples: usize) -> Vec<f64> {
    let pixels = logits.len() / samples.max(1) / 2;
    let sample = |s: usize| &logits[s * 2 * pixels..(s + 1) * 2 * pixels];
    (0..samples)
        .flat_map(|s| (0..pixels).map(move |i| sample(s)[pixels + i] - sample(s)[i]))
        .collect()
}

/// The share of foreground pixels may differ by the pixels whose margin lies within the tolerance of the logits.
fn mask_fraction(
    golden: &Golden,
    sidecar: &Sidecar,
    side: usize,
    logits: &Tensor,
    report: &mut Report,
) -> Result<()> {
    let name = format!("s{side}.mask_fraction");
    let Some(expected) = golden.json.get(&name).and_then(serde_json::Value::as_f64) else {
        return Ok(());
    };
    let ours = margins(&values(logits)?, sidecar.config.batch);
    let share = |count: usize| count as f64 / ours.len().max(1) as f64;
    let logits_name = format!("s{side}.logits");
    let open = match golden.tensors.get(&logits_name) {
        Some(Stored { values, .. }) => {
            let noise = FACTOR * noise_of(&sidecar.stage_noise, &logits_name).max_abs;
            margins(values, sidecar.config.batch).iter().filter(|m| m.abs() <= 2.0 * noise).count()
        }
        None => 0,
    };
    let found = share(ours.iter().filter(|m| **m > 0.0).count());
    // Half a pixel for the division.
    report.judge(&name, (found - expected).abs(), share(open) + 0.5 * share(1));
    Ok(())
}
