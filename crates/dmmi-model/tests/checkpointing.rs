//! Activation checkpointing changes neither losses, gradients nor running statistics.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use backbones::ResNetConfig;
use candle_core::{DType, Device, Tensor};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig, DmmiInput, LossConfig, LossTerms, Targets};
use nn_ops::{Gradients, Mode, Noise, ParamStore};

const B: usize = 2;
const L: usize = 6;
const SIDE: usize = 32;

fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Loss, gradients and buffers of one training pass.
fn pass(cfg: &DmmiConfig, checkpointing: bool) -> BTreeMap<String, Vec<f64>> {
    let device = Device::Cpu;
    let store = ParamStore::new(5);
    let model = Dmmi::new(cfg, store.builder(DType::F64, &device)).unwrap();
    let model = model.checkpointing(checkpointing);
    let pixels: Vec<f64> = (0..B * 3 * SIDE * SIDE).map(|i| (i as f64 * 0.37).sin()).collect();
    let ids: Vec<u32> = (0..B * L).map(|i| 1 + (i * 31 % 39) as u32).collect();
    let ids = Tensor::from_vec(ids, (B, L), &device).unwrap();
    let input = DmmiInput {
        images: Tensor::from_vec(pixels, (B, 3, SIDE, SIDE), &device).unwrap(),
        ids: ids.clone(),
        erased_ids: Some(ids),
        attention: Tensor::ones((B, L), DType::U8, &device).unwrap(),
    };
    let mask: Vec<u8> = (0..B * SIDE * SIDE).map(|i| u8::from(i % 5 == 0)).collect();
    let targets = Targets {
        masks: Tensor::from_vec(mask, (B, SIDE, SIDE), &device).unwrap(),
        has_target: Tensor::new(&[1u8, 0], &device).unwrap(),
    };
    let noise = Noise::new(3, 1);
    let out = model.forward(&input, Mode::Train(&noise)).unwrap();
    let losses = LossConfig::release();
    let total = LossTerms::of(&out, &targets, &losses).unwrap().total(&losses).unwrap();
    let gradients = Gradients::of(&total, &store.parameters()).unwrap();
    let mut found = BTreeMap::from([("loss".to_owned(), flat(&total))]);
    found.extend(gradients.iter().map(|(name, g)| (name.clone(), flat(g))));
    let buffers = store.buffers().into_iter();
    found.extend(buffers.map(|(name, var)| (name, flat(var.as_tensor()))));
    found
}

#[test]
fn the_same_numbers_with_less_memory() {
    let mut swin = DmmiConfig::quickstart(40);
    // No draws: a segment has a noise of its own.
    swin.decoder.dropout = 0.0;
    swin.text.dropout = 0.0;
    if let BackboneConfig::Swin(backbone) = &mut swin.backbone {
        backbone.drop_path = 0.0;
    }
    let resnet = BackboneConfig::Resnet(ResNetConfig { layers: [1, 1, 2, 1], width: 8 });
    let resnet = DmmiConfig { backbone: resnet, ..swin.clone() };
    for (name, cfg) in [("swin", swin), ("resnet", resnet)] {
        let (plain, checked) = (pass(&cfg, false), pass(&cfg, true));
        assert!(plain.len() > 100, "{name}");
        assert_eq!(plain.keys().collect::<Vec<_>>(), checked.keys().collect::<Vec<_>>(), "{name}");
        for (what, a) in &plain {
            let scale = a.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
            let far = a.iter().zip(&checked[what]).map(|(a, b)| (a - b).abs() / scale);
            let far = far.fold(0.0, f64::max);
            assert!(far < 1e-9, "{name}: {what} differs by {far:e}");
        }
    }
}
