//! Statistics of full-size stages, where the tensors themselves are too large to store.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use serde::Deserialize;

use crate::eval::{margins, noise_of};
use crate::golden::{Golden, Stored};
use crate::noise::{FACTOR, quantile, tolerance};
use crate::report::Report;
use crate::sidecar::Sidecar;
use crate::summary::{COLUMNS, Elements, RowDistance, elements, summarise};
use crate::tensors::{judge_values, values};

/// Stored parts that are judged here, not as recorded tensors.
pub(crate) const OWN: [&str; 4] =
    ["stage_stats", "stage_stats_torch_f32", "logits_stride8", "mask_packed"];
/// Columns before the summary row.
const MOMENTS: [&str; 4] = ["mean", "std(biased)", "min", "max"];

/// The logits' own record.
#[derive(Clone, Copy, Debug, Deserialize)]
struct LogitPart {
    mask_fraction: f64,
    f32_max_abs: f64,
    f32_mask_mismatch: f64,
    pixels_margin_lt_1e3: f64,
}

/// What is stored of one image size, possibly nothing.
pub(crate) struct StageStats<'a> {
    prefix: String,
    rows: Vec<String>,
    tables: Option<(&'a Stored, &'a Stored)>,
    strided: Option<&'a Stored>,
    packed: Option<&'a Stored>,
    logit: Option<LogitPart>,
}

/// Finds the statistics of one image size.
pub(crate) fn read<'a>(
    golden: &'a Golden,
    sidecar: &Sidecar,
    side: usize,
) -> Result<StageStats<'a>> {
    let prefix = format!("s{side}.");
    let get = |part: &str| golden.tensors.get(&format!("{prefix}{part}"));
    let mut stats = StageStats {
        rows: Vec::new(),
        tables: None,
        strided: get("logits_stride8"),
        packed: get("mask_packed"),
        logit: golden.json.get(format!("{prefix}logit")).map(LogitPart::deserialize).transpose()?,
        prefix: prefix.clone(),
    };
    if let Some(table) = get("stage_stats") {
        let noise = golden.tensor(&format!("{prefix}stage_stats_torch_f32"))?;
        stats.rows = golden.part(&format!("/{prefix}stage_stats_rows"))?;
        let columns: Vec<&str> = MOMENTS.into_iter().chain(COLUMNS).collect();
        ensure!(
            sidecar.stage_stats_columns == columns,
            "stage_stats_columns {:?} are not known; expected {columns:?}",
            sidecar.stage_stats_columns
        );
        table.expect_matrix("stage_stats", stats.rows.len(), columns.len())?;
        noise.expect_matrix("stage_stats_torch_f32", stats.rows.len(), columns.len())?;
        stats.tables = Some((table, noise));
    }
    Ok(stats)
}

/// Mean, spread and extremes, over the tensor's spread.
fn moments(row: &[f64], reference: &[f64]) -> [f64; 4] {
    std::array::from_fn(|i| (row[i] - reference[i]).abs() / reference[1])
}

fn statistics(values: &[f64], probe: &str) -> Vec<f64> {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [mean, spread, low, high].into_iter().chain(summarise(values, probe)).collect()
}

impl StageStats<'_> {
    /// Whether a recorded tensor has statistics.
    pub(crate) fn has_row(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row == name)
    }

    /// Judges all that is stored.
    pub(crate) fn judge(
        &self,
        sidecar: &Sidecar,
        seen: &BTreeMap<String, Tensor>,
        report: &mut Report,
    ) -> Result<()> {
        if let Some((table, noise)) = self.tables {
            self.judge_table(table, noise, sidecar, seen, report)?;
        }
        let Some(logits) = seen.get("logits") else { return Ok(()) };
        if let Some(stored) = self.strided {
            let (_, _, h, w) = logits.dims4()?;
            let full = values(logits)?;
            let step = full.chunks(h * w).flat_map(|map| {
                (0..h).step_by(8).flat_map(move |y| (0..w).step_by(8).map(move |x| map[y * w + x]))
            });
            let name = format!("{}logits", self.prefix);
            let noise = noise_of(&sidecar.stage_noise, &name);
            judge_values(
                report,
                &format!("{name}_stride8"),
                &step.collect::<Vec<_>>(),
                &stored.values,
                noise,
            );
        }
        self.judge_mask(sidecar, logits, report)
    }

    fn judge_table(
        &self,
        table: &Stored,
        noise: &Stored,
        sidecar: &Sidecar,
        seen: &BTreeMap<String, Tensor>,
        report: &mut Report,
    ) -> Result<()> {
        let own = |i: usize, row: &[f64], n: usize| {
            let reference = table.row(i);
            (
                moments(row, reference),
                RowDistance::between(&row[4..], &reference[4..], n, Elements::Rms, |_| false),
            )
        };
        let count = |name: &String| seen.get(name).map_or(1, Tensor::elem_count);
        let all: Vec<_> = self
            .rows
            .iter()
            .enumerate()
            .map(|(i, name)| own(i, noise.row(i), count(name)))
            .collect();
        for (i, row_name) in self.rows.iter().enumerate() {
            let name = format!("{}{row_name}", self.prefix);
            let Some(tensor) = seen.get(row_name) else {
                report.miss(&name, "our model records nothing of this name");
                continue;
            };
            let ours = in_stored_order(tensor, &table.row(i)[4..])?;
            let rms = noise_of(&sidecar.stage_noise, &name).relative_rms;
            let (m, d) = own(i, &statistics(&ours, &name), ours.len());
            let floor = |pick: fn(&([f64; 4], RowDistance)) -> f64| {
                quantile(all.iter().map(pick), 1.0).max(rms)
            };
            let tolerances = [
                ("mean", m[0], floor(|a| a.0[0])),
                ("std", m[1], floor(|a| a.0[1])),
                ("min", m[2], floor(|a| a.0[2])),
                ("max", m[3], floor(|a| a.0[3])),
                ("l2", d.l2, floor(|a| a.1.l2)),
                // Errors of one sign add up: the mean's noise, n times.
                ("sum", d.sum, floor(|a| a.1.sum).max(rms * (ours.len() as f64).sqrt())),
                ("maxabs", d.maxabs, floor(|a| a.1.maxabs)),
                ("probe", d.probe, floor(|a| a.1.probe)),
                ("elements", d.elements, floor(|a| a.1.elements)),
            ];
            for (what, error, noise) in tolerances {
                report.judge(&format!("{name} {what}"), error, tolerance(noise, report.precision));
            }
        }
        Ok(())
    }

    fn judge_mask(&self, sidecar: &Sidecar, logits: &Tensor, report: &mut Report) -> Result<()> {
        let Some(part) = self.logit else { return Ok(()) };
        let ours = margins(&values(logits)?, sidecar.config.batch);
        // Pixels that may fall either way: those that did for PyTorch, or as many as lie so near the boundary, by the
        // recorded density of margins below 1e-3.
        let near = part.pixels_margin_lt_1e3 * (2.0 * FACTOR * part.f32_max_abs / 1e-3).min(1.0);
        let open = (FACTOR * part.f32_mask_mismatch).max(near);
        let found = ours.iter().filter(|m| **m > 0.0).count() as f64;
        let expected = part.mask_fraction * ours.len() as f64;
        report.judge(
            &format!("{}mask_fraction, in pixels", self.prefix),
            (found - expected).abs(),
            open + 0.5,
        );
        if let Some(packed) = self.packed {
            let bit = |i: usize| {
                packed.values.get(i / 8).is_some_and(|b| (*b as u8) >> (7 - i % 8) & 1 == 1)
            };
            let wrong = ours.iter().enumerate().filter(|&(i, m)| (*m > 0.0) != bit(i)).count();
            report.judge(&format!("{}mask: pixels that differ", self.prefix), wrong as f64, open);
        }
        Ok(())
    }
}

/// Our values in the order in which the reference lays the tensor out: its shape is not stored, so the layout is the one
/// whose single elements are nearest. A wrong one is off by the spread of the values.
fn in_stored_order(t: &Tensor, summary: &[f64]) -> Result<Vec<f64>> {
    let ours = values(t)?;
    let other = match t.rank() {
        3 => values(&t.transpose(1, 2)?)?,
        4 => values(&t.flatten_from(2)?.transpose(1, 2)?)?,
        _ => return Ok(ours),
    };
    let distance =
        |v: &[f64]| elements(v.len()).map(|(c, e)| (v[e] - summary[c]).abs()).sum::<f64>();
    Ok(if distance(&other) < distance(&ours) { other } else { ours })
}
