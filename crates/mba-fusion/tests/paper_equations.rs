//! The paper variant against a direct loop over the equations (spec section 3, paper), in f64.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use mba_fusion::{FusionConfig, Lambda, MbaConfig, MbaStage};
use nn_ops::{ParamStore, Probe};

const B: usize = 2;
const H: usize = 3;
const W: usize = 5;
const N: usize = H * W;
const L: usize = 6;
const C: usize = 8;
const D: usize = 6;
/// Real words of each sample.
const REAL: [usize; B] = [6, 4];

type Rows = Vec<Vec<f64>>;

/// Rows of one sample of a `(B, rows, columns)` tensor.
fn rows(t: &Tensor, sample: usize) -> Rows {
    t.get(sample).unwrap().to_vec2::<f64>().unwrap()
}

fn project(weight: &Tensor, xs: &Rows) -> Rows {
    let w = weight.flatten_from(1).unwrap().to_vec2::<f64>().unwrap();
    let row = |x: &Vec<f64>| w.iter().map(|w| dot(w, x)).collect();
    xs.iter().map(row).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let exps: Vec<f64> = scores.iter().map(|s| s.exp()).collect();
    let total: f64 = exps.iter().sum();
    exps.iter().map(|e| e / total).collect()
}

/// `Ω_r(i)` of the vision side: the cells of the square of side `k` around cell `i`.
fn square(i: usize, k: usize) -> Vec<usize> {
    let near = |a: usize, b: usize| a.abs_diff(b) <= k / 2;
    (0..N).filter(|m| near(m / W, i / W) && near(m % W, i % W)).collect()
}

/// `Ω_r(i)` of the text side: `k` consecutive tokens from token `i`, the real ones among them.
fn run(i: usize, k: usize, real: usize) -> Vec<usize> {
    (i..(i + k).min(L)).filter(|t| *t < real).collect()
}

/// `Σ_r λ_r softmax(Σ_{m in Ω_r(i)} (W_q x_m)ᵀ (W_k y_j) / √Ĉ)`, over the first `answering` of `y`.
fn attention(
    (queries, keys): (&Rows, &Rows),
    answering: usize,
    lambda: &[f64],
    window: impl Fn(usize, usize) -> Vec<usize>,
) -> Rows {
    let one = |i: usize| {
        let mut row = vec![0.0; keys.len()];
        for (r, l) in lambda.iter().enumerate() {
            let score = |key: &Vec<f64>| {
                window(i, r).iter().map(|m| dot(&queries[*m], key)).sum::<f64>() / (C as f64).sqrt()
            };
            let scores: Vec<f64> = keys[..answering].iter().map(score).collect();
            for (j, a) in softmax(&scores).into_iter().enumerate() {
                row[j] += l * a;
            }
        }
        row
    };
    (0..queries.len()).map(one).collect()
}

fn gather(map: &Rows, values: &Rows) -> Rows {
    let row = |weights: &Vec<f64>| {
        let column = |c: usize| weights.iter().zip(values).map(|(w, v)| w * v[c]).sum();
        (0..values[0].len()).map(column).collect()
    };
    map.iter().map(row).collect()
}

/// The output projection, then (on the vision side) an instance norm over the cells.
fn out(weight: &Tensor, bias: &Tensor, xs: &Rows, norm: bool) -> Rows {
    let bias = bias.to_vec1::<f64>().unwrap();
    let mut ys = project(weight, xs);
    ys.iter_mut().for_each(|y| y.iter_mut().zip(&bias).for_each(|(y, b)| *y += b));
    if norm {
        let n = ys.len() as f64;
        for c in 0..bias.len() {
            let mean = ys.iter().map(|y| y[c]).sum::<f64>() / n;
            let var = ys.iter().map(|y| (y[c] - mean).powi(2)).sum::<f64>() / n;
            ys.iter_mut().for_each(|y| y[c] = (y[c] - mean) / (var + 1e-5).sqrt());
        }
    }
    ys
}

fn inputs() -> (Tensor, Tensor, Tensor) {
    let wave = |n: usize, f: f64| -> Vec<f64> {
        (0..n).map(|i| ((i as f64 + 1.0) * f).sin() * 1.5).collect()
    };
    let device = Device::Cpu;
    let visual = Tensor::from_vec(wave(B * N * C, 0.37), (B, N, C), &device).unwrap();
    let words = Tensor::from_vec(wave(B * L * D, 0.91), (B, L, D), &device).unwrap();
    let mask: Vec<u8> = REAL.iter().flat_map(|n| (0..L).map(move |t| u8::from(t < *n))).collect();
    (visual, words, Tensor::from_vec(mask, (B, L), &device).unwrap())
}

/// Both sides of a stage against the loop; `lambdas` of the vision and the text side.
fn check(fusion: FusionConfig, lambdas: [&[f64]; 2]) {
    let store = ParamStore::new(11);
    let learned = fusion.lambda == Lambda::Learned;
    let cfg = MbaConfig { fusion, ..MbaConfig::release(C, D) };
    let stage = MbaStage::new(&cfg, store.builder(DType::F64, &Device::Cpu)).unwrap();
    for (side, values) in ["vis_lambda", "lan_lambda"].into_iter().zip(lambdas) {
        let var = store.get(&format!("fusion.image_lang_att.{side}"));
        assert_eq!(var.is_some(), learned);
        if let Some(var) = var {
            let first = var.to_vec1::<f64>().unwrap();
            assert!(first.iter().all(|l| (l - 1.0 / first.len() as f64).abs() < 1e-7));
            var.set(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
        }
    }
    let params = store.tensors();
    let get = |name: &str| params[&format!("fusion.image_lang_att.{name}")].clone();
    let (visual, words, mask) = inputs();
    let mut probe = Probe::recording();
    stage.forward_probed(&visual, (H, W), &words, &mask, &mut probe).unwrap();
    let seen = probe.into_seen();
    for (sample, real) in REAL.into_iter().enumerate() {
        let (v, e) = (rows(&visual, sample), rows(&words, sample));
        let project = |name: &str, xs: &Rows| project(&get(name), xs);
        let windows = &cfg.fusion.vision_windows;
        let (q, k) = (project("vision.w_q.weight", &v), project("vision.w_k.weight", &e));
        let map = attention((&q, &k), real, lambdas[0], |i, r| square(i, windows[r]));
        let gathered = gather(&map, &project("vision.w_v.weight", &e));
        let expected = out(&get("W.0.weight"), &get("W.0.bias"), &gathered, true);
        near(&rows(&seen["out_v"], sample), &expected);

        let windows = &cfg.fusion.text_windows;
        let (q, k) = (project("text.w_q.weight", &e), project("text.w_k.weight", &v));
        let map = attention((&q, &k), N, lambdas[1], |i, r| run(i, windows[r], real));
        let gathered = gather(&map, &project("text.w_v.weight", &v));
        let expected = out(&get("W2.0.weight"), &get("W2.0.bias"), &gathered, false);
        near(&rows(&seen["out_l"], sample), &expected);
    }
}

#[track_caller]
fn near(found: &Rows, expected: &Rows) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((f - e).abs() < 1e-11, "{f} for {e}");
    }
}

#[test]
fn learned_weights_are_used_as_they_are() {
    check(FusionConfig::paper(), [&[0.7, -0.2, 1.1], &[0.1, 0.5, 0.9]]);
}

#[test]
fn fixed_weights_and_other_windows() {
    let fusion = FusionConfig {
        vision_windows: vec![3, 7],
        text_windows: vec![1, 2, 4, 9],
        lambda: Lambda::Fixed,
        ..FusionConfig::paper()
    };
    check(fusion, [&[0.5; 2], &[0.25; 4]]);
}

#[test]
fn a_side_that_gathers_nothing_passes_through() {
    use mba_fusion::Directions;
    let (visual, words, mask) = inputs();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    for fusion in [FusionConfig::paper(), FusionConfig::release()] {
        for directions in [Directions::TextToVision, Directions::VisionToText, Directions::None] {
            let store = ParamStore::new(3);
            let fusion = FusionConfig { directions, ..fusion.clone() };
            let cfg = MbaConfig { fusion, ..MbaConfig::release(C, D) };
            let stage = MbaStage::new(&cfg, store.builder(DType::F64, &Device::Cpu)).unwrap();
            let fused = stage.forward(&visual, (H, W), &words, &mask).unwrap();
            let same = |a: &Tensor, b: &Tensor| values(a) == values(b);
            assert_eq!(same(&fused.visual, &visual), !directions.to_vision());
            assert_eq!(same(&fused.residual, &visual), !directions.to_vision());
            assert_eq!(same(&fused.text, &words), !directions.to_text());
            assert_eq!(store.parameters().is_empty(), directions == Directions::None);
        }
    }
}
