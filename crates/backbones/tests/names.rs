//! Tiny random encoders of timm, torchvision and Hugging Face, loaded by their own names, compute what their own code computed
//! (`tests/data/generate.py`); and no name of a file gets lost.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use backbones::names::{BERT, RESNET, SWIN};
use backbones::{
    BertConfig, BertEncoder, ResNet, ResNetConfig, StagedBackbone, SwinConfig, SwinTransformer,
};
use candle_core::{DType, Device, Tensor};
use nn_ops::names::{Plan, Scheme};
use nn_ops::{LoadReport, Mode, ParamStore, Transfer};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(data("features.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].take()
}

fn sizes<const N: usize>(value: &Value) -> [usize; N] {
    serde_json::from_value::<Vec<usize>>(value.clone()).unwrap().try_into().unwrap()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Loads a file into `store`, and checks that every name of it is in one list.
fn load(store: &ParamStore, schemes: &[Scheme], name: &str) -> LoadReport {
    let file = torch_files::load(data(&format!("{name}.pth")), &Device::Cpu).unwrap();
    let file: BTreeMap<String, Tensor> = file.into_iter().collect();
    let plan = Plan::of(schemes, file.keys().map(String::as_str)).unwrap();
    let used: usize = plan.moves.values().map(Vec::len).sum();
    let total = used + plan.ignored.len() + plan.unexpected.len();
    assert_eq!(total, file.len(), "{name}: a name is lost");
    let transfer = Transfer::plan(store, "", &file, plan, &[]);
    transfer.run().unwrap().strict().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The formula of generate.py.
fn image(side: usize) -> Tensor {
    let values: Vec<f32> = (0..3 * side * side).map(|i| (i as f64 * 0.37).sin() as f32).collect();
    Tensor::from_vec(values, (1, 3, side, side), &Device::Cpu).unwrap()
}

#[track_caller]
fn agree(name: &str, ours: &Tensor, expected: &Value) {
    let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
    assert_eq!(ours.dims(), shape, "{name}");
    let values =
        ours.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    let stored: Vec<f64> = serde_json::from_value(expected["every7th"].clone()).unwrap();
    let largest = stored.iter().fold(0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in values.iter().step_by(7).zip(&stored).enumerate() {
        assert!((a - b).abs() <= 1e-4 * largest, "{name}: value {i}: {a} where {b} is recorded");
    }
    let (sum, stored) = (values.iter().sum::<f64>(), expected["sum"].as_f64().unwrap());
    let scale = 1e-4 * largest * (values.len() as f64).sqrt();
    assert!((sum - stored).abs() <= scale, "{name}: sum {sum} where {stored} is recorded");
}

#[test]
fn swins_of_four_libraries() {
    for name in [
        "swin_official",
        "swin_timm",
        "swin_timm_features",
        "swin_transformers",
        "swin_transformers_saved",
    ] {
        let about = expected(name);
        let cfg = SwinConfig {
            patch_size: 4,
            embed_dim: size(&about["embed_dim"]),
            depths: sizes(&about["depths"]),
            num_heads: sizes(&about["num_heads"]),
            window_size: size(&about["window"]),
            mlp_ratio: 4,
            drop_path: 0.0,
            ..SwinConfig::tiny_w7()
        };
        let store = ParamStore::new(0);
        SwinTransformer::new(&cfg, store.builder(DType::F32, &Device::Cpu)).unwrap();
        let report = load(&store, SWIN, name);
        assert_eq!(report.kept.len(), 8, "{name}: {report}");
        let swin = SwinTransformer::new(&cfg, store.frozen(DType::F32, &Device::Cpu)).unwrap();
        let maps = swin.pyramid(&image(size(&about["side"]))).unwrap();
        for (i, map) in maps.iter().enumerate() {
            agree(&format!("{name} stage {i}"), map, &about["outputs"][i]);
        }
    }
}

#[test]
fn a_swin_of_another_window_is_resized_and_said_so() {
    let about = expected("swin_timm");
    let cfg = SwinConfig {
        patch_size: 4,
        embed_dim: 8,
        depths: sizes(&about["depths"]),
        num_heads: sizes(&about["num_heads"]),
        window_size: 3,
        mlp_ratio: 4,
        drop_path: 0.0,
        ..SwinConfig::tiny_w7()
    };
    let store = ParamStore::new(0);
    SwinTransformer::new(&cfg, store.builder(DType::F32, &Device::Cpu)).unwrap();
    let report = load(&store, SWIN, "swin_timm");
    assert_eq!(report.adapted.len(), 5);
    assert!(report.to_string().contains("from window 2 to 3"), "{report}");
}

#[test]
fn resnets_of_two_libraries() {
    for name in ["resnet_torchvision", "resnet_parallel", "resnet_transformers"] {
        let about = expected(name);
        let cfg = ResNetConfig { layers: sizes(&about["layers"]), width: size(&about["width"]) };
        let store = ParamStore::new(0);
        ResNet::new(&cfg, store.builder(DType::F32, &Device::Cpu)).unwrap();
        let report = load(&store, RESNET, name);
        assert!(report.kept.is_empty() && !report.ignored.is_empty(), "{name}: {report}");
        let resnet = ResNet::new(&cfg, store.frozen(DType::F32, &Device::Cpu)).unwrap();
        let maps = resnet.pyramid(&image(size(&about["side"]))).unwrap();
        for (i, map) in maps.iter().enumerate() {
            agree(&format!("{name} stage {i}"), map, &about["outputs"][i]);
        }
    }
}

#[test]
fn berts_with_and_without_prefix_gamma_and_beta() {
    for name in ["bert_prefixed", "bert_bare_gamma"] {
        let about = expected(name);
        let cfg = BertConfig {
            vocab_size: size(&about["vocab_size"]),
            hidden_size: size(&about["hidden_size"]),
            num_layers: size(&about["num_layers"]),
            num_heads: size(&about["num_heads"]),
            intermediate_size: size(&about["intermediate_size"]),
            max_positions: size(&about["max_positions"]),
            dropout: 0.0,
            ..BertConfig::base_uncased()
        };
        let store = ParamStore::new(0);
        BertEncoder::new(&cfg, store.builder(DType::F32, &Device::Cpu)).unwrap();
        load(&store, BERT, name);
        let bert = BertEncoder::new(&cfg, store.frozen(DType::F32, &Device::Cpu)).unwrap();
        let ids = Tensor::new(&[[2u32, 5, 7, 3, 0, 0]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[1u32, 1, 1, 1, 0, 0]], &Device::Cpu).unwrap();
        let out = bert.forward_t(&ids, &mask, Mode::Eval).unwrap();
        agree(name, &out, &about["outputs"][0]);
    }
}

#[test]
fn what_a_table_does_not_know_is_refused() {
    let file = torch_files::load(data("swin_timm.pth"), &Device::Cpu).unwrap();
    let mut file: BTreeMap<String, Tensor> = file.into_iter().collect();
    let norm = file.remove("layers.2.blocks.0.norm1.weight").unwrap();
    file.insert("layers.2.blocks.0.norm3.weight".into(), norm);
    let plan = Plan::of(SWIN, file.keys().map(String::as_str)).unwrap();
    let cfg = SwinConfig {
        patch_size: 4,
        embed_dim: 8,
        depths: [1, 2, 1, 1],
        num_heads: [1, 2, 4, 8],
        window_size: 2,
        mlp_ratio: 4,
        drop_path: 0.0,
        ..SwinConfig::tiny_w7()
    };
    let store = ParamStore::new(0);
    SwinTransformer::new(&cfg, store.builder(DType::F32, &Device::Cpu)).unwrap();
    let transfer = Transfer::plan(&store, "", &file, plan, &[]);
    let report = transfer.report();
    assert_eq!(report.missing, ["layers.2.blocks.0.norm1.weight"]);
    assert_eq!(report.unexpected, ["layers.2.blocks.0.norm3.weight"]);
    let error = report.clone().strict().unwrap_err().to_string();
    assert!(error.contains("norm1") && error.contains("norm3"), "{error}");
    let nothing = BTreeMap::from([("a", 1)]);
    assert_eq!(Plan::of(RESNET, nothing.keys().copied()), None);
}
