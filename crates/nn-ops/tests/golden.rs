//! Against PyTorch 2.15 (tests/golden/g1b_units: bilinear and bicubic resizing, drop-path rates, AdamW).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor, Var};
use nn_ops::{
    AdamW, AdamWConfig, Align, Gradients, ParamGroup, drop_path_rates, resize_bias_table,
    resize_bilinear,
};
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/golden", name].iter().collect()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn sizes(v: &Value) -> Vec<usize> {
    numbers(v).into_iter().map(|x| x as usize).collect()
}

struct Golden {
    json: Value,
    tensors: std::collections::HashMap<String, Tensor>,
    seed: u32,
}

impl Golden {
    fn open() -> Self {
        let text = std::fs::read_to_string(file("g1b_units.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let seed = json["seed"].as_u64().unwrap() as u32;
        let path = file("g1b_units.safetensors");
        let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        Self { json, tensors, seed }
    }

    /// The generator's hash values: CRC-32 of the name and the seed, mixed with the index.
    fn hash(&self, name: &str, shape: &[usize], scale: f32) -> Tensor {
        let key = crc32fast::hash(name.as_bytes()) ^ self.seed.wrapping_mul(0x27D4_EB2F);
        let value = |i: u32| {
            let mut x = i.wrapping_mul(0x9E37_79B9) ^ key;
            x ^= x >> 16;
            x = x.wrapping_mul(0x85EB_CA6B);
            x ^= x >> 13;
            x = x.wrapping_mul(0xC2B2_AE35);
            x ^= x >> 16;
            ((x >> 8) as i32 - 8_388_608) as f32 * (1.0 / 8_388_608.0) * scale
        };
        let n = shape.iter().product::<usize>() as u32;
        Tensor::from_vec((0..n).map(value).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    /// Largest difference from a golden tensor, relative to its largest value.
    fn distance(&self, name: &str, found: &Tensor) -> f64 {
        let want = self.tensors[name].to_dtype(DType::F64).unwrap();
        assert_eq!(want.dims(), found.dims(), "{name}");
        let flat = |t: &Tensor| {
            t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let (want, found) = (flat(&want), flat(found));
        let scale = want.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
        want.iter().zip(&found).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max)
    }
}

#[test]
fn bilinear_resizing_and_its_gradient() -> Result<()> {
    let golden = Golden::open();
    for case in golden.json["interp"].as_array().unwrap() {
        let [h, w, to_h, to_w] = sizes(case)[..] else { panic!("four sizes") };
        let x = golden.hash(&format!("unit.interp.{h}x{w}"), &[2, 3, h, w], 1.0);
        let cot = golden.hash(&format!("unit.interp.cot.{h}x{w}"), &[2, 3, to_h, to_w], 1.0);
        let key = format!("interp.{h}x{w}_to_{to_h}x{to_w}");
        for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 1e-6)] {
            let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
            let y = resize_bilinear(&x, (to_h, to_w), Align::Corners)?;
            let grads = y.mul(&cot.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let d = golden.distance(&key, &y);
            assert!(d < tolerance, "{key}: {d:e} in {dtype:?}");
            let d = golden.distance(&format!("{key}.grad"), grads.get(&x).unwrap());
            assert!(d < tolerance, "{key}: gradient {d:e} in {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn relative_position_tables() -> Result<()> {
    let golden = Golden::open();
    let shape = sizes(&golden.json["bias_table"]["src"]);
    let to = sizes(&golden.json["bias_table"]["dst"])[0].isqrt();
    let table = golden.hash("unit.bias_table", &shape, 1.0);
    let d = golden.distance("bias_table_resized", &resize_bias_table(&table, to)?);
    assert!(d < 1e-6, "{d:e}");
    Ok(())
}

#[test]
fn rates_of_stochastic_depth() {
    let golden = Golden::open();
    let want = numbers(&golden.json["drop_path"]["swin_base"]);
    for (a, b) in drop_path_rates(0.3, want.len()).iter().zip(&want) {
        // One unit of f32: PyTorch rounds a few of them by the width of its vectors.
        assert!((a - b).abs() <= f64::from(f32::EPSILON) * b, "{a} {b}");
    }
    assert_eq!(drop_path_rates(0.3, 0), [0.0; 0]);
    assert_eq!(drop_path_rates(0.3, 1), [0.0]);
}

#[test]
fn adamw_steps_and_state() -> Result<()> {
    let golden = Golden::open();
    let spec = &golden.json["adamw"];
    let rates = numbers(&spec["lr_used"]);
    for (dtype, tag, tolerance) in [(DType::F64, "f64", 1e-14), (DType::F32, "f32", 3e-7)] {
        let mut groups: BTreeMap<u64, ParamGroup> = BTreeMap::new();
        let mut scales = BTreeMap::new();
        for t in spec["tensors"].as_array().unwrap() {
            let name = t["name"].as_str().unwrap().to_string();
            let shape = sizes(&t["shape"]);
            let init = golden.hash(&format!("unit.param.{name}"), &shape, 0.5);
            let group = groups.entry(t["group"].as_u64().unwrap()).or_insert_with(|| ParamGroup {
                name: t["group"].to_string(),
                params: Vec::new(),
                weight_decay: t["weight_decay"].as_f64().unwrap(),
                lr_scale: 1.0,
            });
            group.params.push((name.clone(), Var::from_tensor(&init.to_dtype(dtype)?)?));
            scales.insert(name, (shape, t["grad_scale"].as_f64()));
        }
        let groups: Vec<ParamGroup> = groups.into_values().collect();
        let params: Vec<_> = groups.iter().flat_map(|g| g.params.clone()).collect();
        let mut adamw = AdamW::new(groups, AdamWConfig::default())?;
        for (k, lr) in rates.iter().enumerate() {
            let mut grads = BTreeMap::new();
            for (name, (shape, scale)) in &scales {
                if let Some(scale) = scale {
                    let g = golden.hash(&format!("unit.grad.{name}.{k}"), shape, *scale as f32);
                    grads.insert(name.clone(), g.to_dtype(dtype)?);
                }
            }
            adamw.step(&Gradients::from_map(grads), *lr)?;
            for (name, var) in &params {
                let d = golden.distance(&format!("adamw.{tag}.{name}.step{}", k + 1), var);
                assert!(d < tolerance, "{tag} {name} step {}: {d:e}", k + 1);
            }
        }
        let state = adamw.state()?;
        assert!(!state.keys().any(|k| k.starts_with("frozen")), "untouched without a gradient");
        for (key, t) in state.iter().filter(|(k, _)| !k.ends_with(".step")) {
            let d = golden.distance(&format!("adamw.{tag}.{key}"), t);
            assert!(d < tolerance, "{tag} {key}: {d:e}");
        }
        for (_, t) in state.iter().filter(|(k, _)| k.ends_with(".step")) {
            assert_eq!(t.to_scalar::<f64>()?, rates.len() as f64);
        }
    }
    Ok(())
}
