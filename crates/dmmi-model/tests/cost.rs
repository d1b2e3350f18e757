//! Estimated activation memory against the graphs of real training passes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use backbones::{ResNetConfig, SwinConfig};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use dmmi_model::cost::{Pass, total};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig, DmmiInput, LossConfig, LossTerms, Targets};
use nn_ops::{Mode, Noise, ParamStore};

/// Numbers in all tensors that the graph of a training pass over one sample holds, parameters left out.
fn held(cfg: &DmmiConfig, (h, w): (usize, usize), l: usize) -> u64 {
    let store = ParamStore::new(1);
    let device = Device::Cpu;
    let model = Dmmi::new(cfg, store.builder(DType::F32, &device)).unwrap();
    let pixels = Tensor::arange(0f32, (3 * h * w) as f32, &device).unwrap().sin().unwrap();
    let ids = Tensor::ones((1, l), DType::U32, &device).unwrap();
    let input = DmmiInput {
        images: pixels.reshape((1, 3, h, w)).unwrap(),
        erased_ids: Some(ids.clone()),
        attention: ids.ones_like().unwrap(),
        ids,
    };
    let targets = Targets {
        masks: Tensor::zeros((1, h, w), DType::U8, &device).unwrap(),
        has_target: Tensor::new(&[1u8], &device).unwrap(),
    };
    let noise = Noise::new(1, 0);
    let out = model.forward(&input, Mode::Train(&noise)).unwrap();
    let loss = LossConfig::release();
    let total = LossTerms::of(&out, &targets, &loss).unwrap().total(&loss).unwrap();
    // Views share the storage of what they look at: each storage counts once.
    let mut storages = BTreeMap::new();
    for node in total.sorted_nodes().into_iter().filter(|node| !node.is_variable()) {
        let (guard, _) = node.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(values)) = &*guard else { continue };
        storages.insert(values.as_ptr() as usize, values.len() as u64);
    }
    let params: u64 = store.parameters().iter().map(|(_, v)| v.elem_count() as u64).sum();
    let parameter_views: u64 = store
        .parameters()
        .iter()
        .filter_map(|(_, v)| {
            let (guard, _) = v.storage_and_layout();
            match &*guard {
                Storage::Cpu(CpuStorage::F32(values)) => {
                    storages.get(&(values.as_ptr() as usize)).copied()
                }
                _ => None,
            }
        })
        .sum();
    assert!(parameter_views <= params);
    storages.values().sum::<u64>() - parameter_views
}

#[test]
fn the_estimate_is_near_what_training_holds() {
    let small = |preset: &str| {
        let mut cfg = DmmiConfig::quickstart(50);
        cfg.fusion = DmmiConfig::preset(preset, 0).unwrap().fusion;
        cfg
    };
    let resnet = BackboneConfig::Resnet(ResNetConfig { layers: [1, 2, 1, 1], width: 16 });
    let deep = BackboneConfig::Swin(SwinConfig {
        embed_dim: 32,
        depths: [2, 2, 2, 2],
        num_heads: [2, 4, 8, 16],
        drop_path: 0.2,
        ..SwinConfig::tiny_w7()
    });
    for (what, cfg) in [
        ("quickstart", small("quickstart")),
        ("paper", small("swin-base-paper")),
        ("resnet", DmmiConfig { backbone: resnet, ..small("quickstart") }),
        ("swin with padding", DmmiConfig { backbone: deep, ..small("quickstart") }),
        ("lavt", DmmiConfig::quickstart(50).into_lavt()),
    ] {
        let image = (96, 128);
        let measured = {
            let cfg = cfg.clone();
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            thread.spawn(move || held(&cfg, image, 12)).unwrap().join().unwrap()
        };
        let estimate = total(&cfg.cost(image, 12, Pass::Train)).kept;
        let ratio = estimate as f64 / measured as f64;
        assert!((0.9..1.1).contains(&ratio), "{what}: estimate {estimate}, held {measured}");
    }
}
