//! Small cases of single parts: optimiser, schedule, losses, resizes, rates and the hash itself.

mod adamw;
mod losses;
mod resize;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use nn_ops::drop_path_rates;
use serde::Deserialize;

use crate::golden::Golden;
use crate::hash::{HashStream, hash_values};
use crate::noise::{Difference, FACTOR, ROUNDING};
use crate::report::Report;

/// Type and device of the tensors of a case.
#[derive(Clone, Debug)]
struct Place {
    dtype: DType,
    device: Device,
}

/// A hash-filled tensor.
fn hashed(
    name: &str,
    seed: u32,
    base: f32,
    scale: f32,
    shape: &[usize],
    place: &Place,
) -> Result<Tensor> {
    let values = hash_values(name, seed, base, scale, shape.iter().product());
    Ok(Tensor::from_vec(values, shape, &place.device)?.to_dtype(place.dtype)?)
}

/// Judges each part that the sidecar describes.
pub(crate) fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    let place = &Place { dtype: report.precision.parameters(), device: report.device.clone() };
    let seed: u32 = golden.part("/seed")?;
    let has = |part: &str| golden.json.get(part).is_some();
    if has("hash_samples") {
        hash_samples(&golden.part::<Vec<HashSample>>("/hash_samples")?, report);
    }
    if has("drop_path") {
        drop_path(golden, report)?;
    }
    if has("adamw") {
        adamw::run(golden, seed, place, report)?;
    }
    if has("loss") {
        losses::run(golden, seed, place, report)?;
    }
    if has("interp") {
        resize::bilinear(golden, seed, place, report)?;
    }
    if has("bias_table") {
        resize::bias_table(golden, seed, place, report)?;
    }
    let known =
        ["seed", "torch", "adamw", "loss", "interp", "bias_table", "drop_path", "hash_samples"];
    for part in golden.json.as_object().into_iter().flat_map(|o| o.keys()) {
        if !known.contains(&part.as_str()) {
            report.remark(format!("  {part}: not covered"));
        }
    }
    Ok(())
}

#[derive(Clone, Debug, Deserialize)]
struct HashSample {
    name: String,
    seed: u32,
    i: u32,
    u32: u32,
    base: f32,
    scale: f32,
    value_bits: String,
}

fn hash_samples(samples: &[HashSample], report: &mut Report) {
    let differs = |s: &&HashSample| {
        let stream = HashStream::new(&s.name, s.seed);
        let value = s.base + s.scale * stream.unit(s.i);
        stream.bits(s.i) != s.u32 || format!("0x{:08x}", value.to_bits()) != s.value_bits
    };
    report.judge(
        "hash samples: bit patterns that differ",
        samples.iter().filter(differs).count() as f64,
        0.0,
    );
}

fn drop_path(golden: &Golden, report: &mut Report) -> Result<()> {
    for (name, rates) in golden.json["drop_path"].as_object().into_iter().flatten() {
        let Ok(rates) = Vec::<f64>::deserialize(rates) else { continue };
        let ours = drop_path_rates(rates.last().copied().unwrap_or(0.0), rates.len());
        // Both fill the line in f32, not always with the same rounding.
        let d = Difference::between(&ours, &rates);
        report.judge(
            &format!("drop-path rates {name} max"),
            d.max_abs,
            FACTOR * ROUNDING * d.reference_max,
        );
    }
    Ok(())
}
