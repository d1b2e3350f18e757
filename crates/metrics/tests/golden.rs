//! Every number of g8: the official `test.py` of Ref-ZOM and ReLA's `refer_evaluation.py` on 300 samples.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use metrics::{Evaluation, GresMetrics, Kind, Overlap, RIS_THRESHOLDS, RisMetrics};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    official_test_py: Official,
    rela: BTreeMap<String, BTreeMap<String, Rela>>,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
#[allow(non_snake_case)]
struct Official {
    cum_I: u64,
    cum_U: u64,
    overall_IoU: f64,
    mIoU: f64,
    precision: BTreeMap<String, f64>,
    precision_counts: Vec<u64>,
    seg_total: u64,
    mean_acc: f64,
    n_zero: u64,
    per_sample_iou: Vec<f64>,
}

#[derive(Deserialize)]
#[allow(non_snake_case)]
struct Rela {
    gIoU: f64,
    cIoU: f64,
    T_acc: Option<f64>,
    N_acc: Option<f64>,
    #[serde(rename = "Pr@0.7")]
    p7: f64,
    #[serde(rename = "Pr@0.8")]
    p8: f64,
    #[serde(rename = "Pr@0.9")]
    p9: f64,
}

#[derive(Deserialize)]
struct Sample {
    h: usize,
    w: usize,
    source: String,
    pred: String,
    gt: String,
    pred_nt_flag: bool,
    rela_source2: String,
}

impl Sample {
    fn overlap(&self) -> Overlap {
        let bits = |hex: &str| -> Vec<bool> {
            let bytes =
                (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
            let bits: Vec<bool> =
                bytes.flat_map(|b| (0..8).rev().map(move |k| b >> k & 1 == 1)).collect();
            bits[..self.h * self.w].to_vec()
        };
        Overlap::of(&bits(&self.pred), &bits(&self.gt)).unwrap()
    }

    fn kind(&self) -> Kind {
        match self.source.as_str() {
            "zero" => Kind::Zero,
            "one" => Kind::One,
            _ => Kind::Many,
        }
    }
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/g8_metrics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn close(ours: Option<f64>, theirs: f64) {
    let ours = ours.unwrap();
    assert!((ours - theirs).abs() < 1e-9, "{ours} is not {theirs}");
}

#[test]
fn ris_equals_the_official_test() {
    let golden = golden();
    let official = &golden.official_test_py;
    let mut metrics = RisMetrics::new();
    let (mut intersection, mut union, mut ious) = (0, 0, official.per_sample_iou.iter());
    for sample in &golden.samples {
        let overlap = sample.overlap();
        if sample.kind() == Kind::Zero {
            metrics.add_zero(overlap.predicted);
            continue;
        }
        intersection += overlap.intersection;
        union += overlap.union();
        close(Some(overlap.iou()), *ious.next().unwrap());
        metrics.add_target(overlap);
    }
    assert_eq!((intersection, union), (official.cum_I, official.cum_U));
    assert_eq!((metrics.targets(), metrics.zeros()), (official.seg_total, official.n_zero));
    close(metrics.overall_iou().map(|x| 100.0 * x), official.overall_IoU);
    close(metrics.mean_iou().map(|x| 100.0 * x), official.mIoU);
    close(metrics.zero_accuracy().map(|x| 100.0 * x), official.mean_acc);
    for (i, threshold) in RIS_THRESHOLDS.iter().enumerate() {
        close(
            metrics.precision_at(*threshold).map(|x| 100.0 * x),
            official.precision[&threshold.to_string()],
        );
        let count = metrics.precision()[i].unwrap() * metrics.targets() as f64;
        close(Some(count), official.precision_counts[i] as f64);
    }
}

#[test]
fn gres_equals_rela() {
    let golden = golden();
    let mut compared = 0;
    for (mode, sources) in &golden.rela {
        for (source, expected) in sources {
            let mut metrics = GresMetrics::new();
            for sample in &golden.samples {
                if mode.contains("two_sources")
                    && source != "full"
                    && sample.rela_source2 != *source
                {
                    continue;
                }
                let overlap = sample.overlap();
                let rejected = if mode.contains("mask_empty") {
                    overlap.predicts_nothing()
                } else {
                    sample.pred_nt_flag
                };
                match sample.kind() {
                    Kind::Zero => metrics.add_zero(overlap.predicted, rejected),
                    _ => metrics.add_target(overlap, rejected),
                }
            }
            close(metrics.g_iou().map(|x| 100.0 * x), expected.gIoU);
            close(metrics.c_iou().map(|x| 100.0 * x), expected.cIoU);
            for (ours, theirs) in
                metrics.precision().into_iter().zip([expected.p7, expected.p8, expected.p9])
            {
                close(ours.map(|x| 100.0 * x), theirs);
            }
            // ReLA counts neither accuracy for sources other than grefcoco and prints 0
            if source == "grefcoco" {
                close(metrics.target_accuracy(), expected.T_acc.unwrap());
                close(metrics.no_target_accuracy(), expected.N_acc.unwrap());
            } else if source == "refcoco" {
                assert_eq!((expected.T_acc, expected.N_acc), (Some(0.0), Some(0.0)));
                assert_eq!(metrics.no_target_accuracy(), None);
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 5);
}

#[test]
fn evaluation_is_both_at_once() {
    let golden = golden();
    let (mut mask, mut flag) = (Evaluation::new(), Evaluation::new());
    for sample in &golden.samples {
        mask.add(sample.kind(), sample.overlap());
        flag.add_answer(sample.kind(), sample.overlap(), sample.pred_nt_flag);
    }
    close(
        mask.report().overall.ris.overall_iou.map(|x| 100.0 * x),
        golden.official_test_py.overall_IoU,
    );
    close(
        mask.report().overall.gres.g_iou.map(|x| 100.0 * x),
        golden.rela["pred_nt=mask_empty"]["grefcoco"].gIoU,
    );
    close(
        flag.report().overall.gres.c_iou.map(|x| 100.0 * x),
        golden.rela["pred_nt=flag"]["grefcoco"].cIoU,
    );
    assert_eq!(mask.ris(), flag.ris());
    let kinds = mask.report();
    assert_eq!(kinds.one.samples + kinds.many.samples + kinds.zero.samples, 300);
}
