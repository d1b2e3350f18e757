//! Bilinear resizing with its gradient, and the bicubic resizing of relative-position tables.
//!
//! No f32 noise is recorded for these; what remains is the rounding of the stored values, and of as many f32 operations.

use anyhow::{Context, Result, ensure};
use candle_core::Var;
use nn_ops::{Align, resize_bias_table, resize_bilinear};

use super::Place;
use super::hashed;
use crate::golden::Golden;
use crate::noise::ROUNDING;
use crate::report::Report;
use crate::tensors::{TensorNoise, judge_values, values};

fn rounding(reference: &[f64]) -> TensorNoise {
    let largest = reference.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    TensorNoise { relative_rms: ROUNDING, max_abs: ROUNDING * largest }
}

/// Each recorded pair of sizes.
pub(super) fn bilinear(
    golden: &Golden,
    seed: u32,
    place: &Place,
    report: &mut Report,
) -> Result<()> {
    for [h, w, to_h, to_w] in golden.part::<Vec<[usize; 4]>>("/interp")? {
        let name = format!("interp.{h}x{w}_to_{to_h}x{to_w}");
        let (out, grad) = (golden.tensor(&name)?, golden.tensor(&format!("{name}.grad"))?);
        ensure!(out.shape.len() == 4, "{name} has shape {:?}, expected four axes", out.shape);
        let shape = [out.shape[0], out.shape[1], h, w];
        let input = Var::from_tensor(&hashed(
            &format!("unit.interp.{h}x{w}"),
            seed,
            0.0,
            1.0,
            &shape,
            place,
        )?)?;
        let ours = resize_bilinear(input.as_tensor(), (to_h, to_w), Align::Corners)?;
        judge_values(report, &name, &values(&ours)?, &out.values, rounding(&out.values));
        let cotangent =
            hashed(&format!("unit.interp.cot.{h}x{w}"), seed, 0.0, 1.0, &out.shape, place)?;
        let store = (ours * cotangent)?.sum_all()?.backward()?;
        let ours =
            store.get(input.as_tensor()).context("no gradient reaches the resized tensor")?;
        judge_values(
            report,
            &format!("{name}.grad"),
            &values(ours)?,
            &grad.values,
            rounding(&grad.values),
        );
    }
    Ok(())
}

/// The recorded table.
pub(super) fn bias_table(
    golden: &Golden,
    seed: u32,
    place: &Place,
    report: &mut Report,
) -> Result<()> {
    let from: [usize; 2] = golden.part("/bias_table/src")?;
    let to: [usize; 2] = golden.part("/bias_table/dst")?;
    let stored = &golden.tensor("bias_table_resized")?.values;
    let table = hashed("unit.bias_table", seed, 0.0, 1.0, &from, place)?;
    let ours = resize_bias_table(&table, to[0].isqrt())?;
    judge_values(report, "bias table, bicubic", &values(&ours)?, stored, rounding(stored));
    Ok(())
}
