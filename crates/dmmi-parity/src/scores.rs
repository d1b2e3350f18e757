//! Evaluation metrics: the official test loop (RIS) and ReLA's evaluator (GRES) on recorded masks.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use metrics::{GRES_THRESHOLDS, GresMetrics, Overlap, RIS_THRESHOLDS, RisMetrics};
use serde::Deserialize;

use crate::golden::Golden;
use crate::report::Report;

/// One recorded sample: masks are hex of packed bits, most significant first.
#[derive(Clone, Debug, Deserialize)]
struct Sample {
    h: usize,
    w: usize,
    source: String,
    pred: String,
    gt: String,
    #[serde(default)]
    pred_nt_flag: bool,
    #[serde(default)]
    rela_source2: String,
}

/// What the official loop prints.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Official {
    #[serde(rename = "overall_IoU")]
    overall_iou: Option<f64>,
    #[serde(rename = "mIoU")]
    mean_iou: Option<f64>,
    precision: BTreeMap<String, Option<f64>>,
    #[serde(rename = "mean_acc")]
    mean_acc: Option<f64>,
    #[serde(rename = "seg_total")]
    seg_total: u64,
    #[serde(rename = "n_zero")]
    n_zero: u64,
    #[serde(rename = "cum_I")]
    intersection: u64,
    #[serde(rename = "cum_U")]
    union: u64,
    #[serde(rename = "per_sample_iou", default)]
    per_sample_iou: Vec<f64>,
}

struct Scored {
    sample: Sample,
    overlap: Overlap,
}

/// Judges all that is recorded.
pub(crate) fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    let samples: Vec<Sample> = golden.part("/samples")?;
    let scored: Vec<Scored> = samples
        .into_iter()
        .enumerate()
        .map(|(i, sample)| score(sample).with_context(|| format!("{}: sample {i}", golden.name)))
        .collect::<Result<_>>()?;
    if golden.json.get("official_test_py").is_some() {
        official(&golden.part("/official_test_py")?, &scored, report);
    }
    if golden.json.get("rela").is_some() {
        rela(&golden.part("/rela")?, &scored, report);
    }
    Ok(())
}

fn score(sample: Sample) -> Result<Scored> {
    let pixels = sample.h * sample.w;
    let overlap = Overlap::of(&unpack(&sample.pred, pixels)?, &unpack(&sample.gt, pixels)?)?;
    Ok(Scored { sample, overlap })
}

fn unpack(hex: &str, pixels: usize) -> Result<Vec<bool>> {
    ensure!(
        hex.is_ascii() && hex.len() == 2 * pixels.div_ceil(8),
        "a mask of {pixels} pixels has {} hex digits",
        hex.len()
    );
    let byte = |i: usize| {
        u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).with_context(|| format!("hex digits {i}"))
    };
    let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect::<Result<_>>()?;
    Ok((0..pixels).map(|i| bytes[i / 8] >> (7 - i % 8) & 1 == 1).collect())
}

/// Both sides compute in f64 and may sum in another order: `n` roundings. `null` is a score of nothing.
fn close(report: &mut Report, name: &str, ours: Option<f64>, expected: Option<f64>, n: usize) {
    let error = match (ours, expected) {
        (ours, expected) if ours == expected => 0.0,
        (Some(v), Some(expected)) => (v - expected).abs() / expected.abs().max(f64::MIN_POSITIVE),
        _ => f64::INFINITY,
    };
    report.judge(name, error, n as f64 * f64::EPSILON);
}

fn official(expected: &Official, scored: &[Scored], report: &mut Report) {
    let mut ris = RisMetrics::new();
    let mut each = Vec::new();
    let (mut intersection, mut union) = (0, 0);
    for s in scored {
        if s.sample.source == "zero" {
            ris.add_zero(s.overlap.predicted);
        } else {
            ris.add_target(s.overlap);
            each.push(s.overlap.iou());
            intersection += s.overlap.intersection;
            union += s.overlap.union();
        }
    }
    let n = scored.len();
    let percent = |v: Option<f64>| v.map(|v| 100.0 * v);
    let counts = [
        ("targeted samples", ris.targets(), expected.seg_total),
        ("zero-target samples", ris.zeros(), expected.n_zero),
        ("intersection", intersection, expected.intersection),
        ("union", union, expected.union),
    ];
    for (name, ours, expected) in counts {
        report.judge(&format!("ris {name}"), ours.abs_diff(expected) as f64, 0.0);
    }
    close(report, "ris overall IoU", percent(ris.overall_iou()), expected.overall_iou, n);
    close(report, "ris mean IoU", percent(ris.mean_iou()), expected.mean_iou, n);
    close(report, "ris zero-target accuracy", percent(ris.zero_accuracy()), expected.mean_acc, n);
    for (threshold, expected) in &expected.precision {
        let known = RIS_THRESHOLDS.into_iter().find(|t| t.to_string() == *threshold);
        let ours = known.and_then(|t| ris.precision_at(t));
        close(report, &format!("ris precision@{threshold}"), percent(ours), *expected, n);
    }
    if !expected.per_sample_iou.is_empty() {
        let wrong = each
            .iter()
            .zip(&expected.per_sample_iou)
            .filter(|(a, b)| (*a - *b).abs() > f64::EPSILON)
            .count();
        let wrong = wrong + each.len().abs_diff(expected.per_sample_iou.len());
        report.judge("ris IoU of each sample: samples that differ", wrong as f64, 0.0);
    }
}

/// Ways of rejecting, then sources, then scores. Sources named here are all samples unless the samples name sources too.
type Rela = BTreeMap<String, BTreeMap<String, BTreeMap<String, Option<f64>>>>;

fn rela(expected: &Rela, scored: &[Scored], report: &mut Report) {
    for (way, sources) in expected {
        let by_flag = way.contains("pred_nt=flag");
        for (source, scores) in sources {
            let mut gres = GresMetrics::new();
            let mut zeros = 0;
            for s in scored {
                if way.contains("two_sources")
                    && source != "full"
                    && s.sample.rela_source2 != *source
                {
                    continue;
                }
                let rejected =
                    if by_flag { s.sample.pred_nt_flag } else { s.overlap.predicts_nothing() };
                if s.sample.source == "zero" {
                    zeros += 1;
                    gres.add_zero(s.overlap.predicted, rejected);
                } else {
                    gres.add_target(s.overlap, rejected);
                }
            }
            for (score, expected) in scores {
                let name = format!("gres [{way}] {source} {score}");
                let percent = |v: Option<f64>| v.map(|v| 100.0 * v);
                let ours = match score.as_str() {
                    "gIoU" => percent(gres.g_iou()),
                    "cIoU" => percent(gres.c_iou()),
                    // The evaluator counts rejections only where there is something to reject, and prints 0 elsewhere.
                    "T_acc" | "N_acc" if zeros == 0 => {
                        report.remark(format!(
                            "  {name} not compared: {source} has no zero-target sample"
                        ));
                        continue;
                    }
                    "T_acc" => gres.target_accuracy(),
                    "N_acc" => gres.no_target_accuracy(),
                    other => {
                        let at = GRES_THRESHOLDS.iter().position(|t| other == format!("Pr@{t}"));
                        percent(at.and_then(|i| gres.precision()[i]))
                    }
                };
                close(report, &name, ours, *expected, scored.len());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_packed_most_significant_bit_first() {
        let t = true;
        let f = false;
        assert_eq!(unpack("a180", 9).unwrap(), [t, f, t, f, f, f, f, t, t]);
        assert!(unpack("a1", 9).is_err());
        assert!(unpack("zz", 8).is_err());
        assert!(unpack("é", 8).is_err());
    }
}
