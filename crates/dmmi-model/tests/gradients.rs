//! Every trainable parameter of a whole model gets a finite, non-zero gradient.
#![allow(clippy::unwrap_used)]

use backbones::{BertConfig, ResNetConfig};
use candle_core::{DType, Device, Result, Tensor};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig, DmmiInput, LossConfig, LossTerms, Targets};
use nn_ops::{Gradients, Mode, Noise, ParamStore};

fn batch(b: usize, h: usize, w: usize, l: usize) -> Result<(DmmiInput, Targets)> {
    let device = Device::Cpu;
    let wave = |n: usize, f: usize| -> Vec<f32> {
        (0..n).map(|i| ((i * f % 997) as f32 / 498.5 - 1.0) * 1.5).collect()
    };
    let images = Tensor::from_vec(wave(b * 3 * h * w, 7919), (b, 3, h, w), &device)?;
    let ids: Vec<u32> = (0..b * l).map(|i| 1 + (i * 31 % 39) as u32).collect();
    let attention: Vec<u8> = (0..b * l).map(|i| u8::from(i % l < l - i / l % 4)).collect();
    let ids: Vec<u32> = ids.iter().zip(&attention).map(|(i, a)| i * u32::from(*a)).collect();
    let erased: Vec<u32> =
        ids.iter().enumerate().map(|(i, v)| if i % l == 2 { 0 } else { *v }).collect();
    let masks: Vec<u8> = (0..b * h * w).map(|i| u8::from(i % w > w / 2)).collect();
    let has_target: Vec<u8> = (0..b).map(|i| u8::from(i != 1)).collect();
    Ok((
        DmmiInput {
            images,
            ids: Tensor::from_vec(ids, (b, l), &device)?,
            erased_ids: Some(Tensor::from_vec(erased, (b, l), &device)?),
            attention: Tensor::from_vec(attention, (b, l), &device)?,
        },
        Targets {
            masks: Tensor::from_vec(masks, (b, h, w), &device)?,
            has_target: Tensor::from_vec(has_target, b, &device)?,
        },
    ))
}

/// Names of parameters without a useful gradient.
fn dead(cfg: &DmmiConfig) -> Result<Vec<String>> {
    let store = ParamStore::new(5);
    let model = Dmmi::new(cfg, store.builder(DType::F32, &Device::Cpu))?;
    let (input, targets) = batch(3, 72, 104, 12)?;
    let noise = Noise::new(1, 0);
    let out = model.forward(&input, Mode::Train(&noise))?;
    let loss = LossConfig::release();
    let total = LossTerms::of(&out, &targets, &loss)?.total(&loss)?;
    let params = store.parameters();
    let grads = Gradients::of(&total, &params)?;
    let mut names = Vec::new();
    for (name, _) in &params {
        let size = match grads.get(name) {
            Some(g) => g.abs()?.sum_all()?.to_scalar::<f32>()?,
            None => 0.0,
        };
        assert!(size.is_finite(), "{name} has gradient {size}");
        if size == 0.0 {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// Backpropagation recurses through the graph: it needs a large stack.
fn with_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(64 << 20).spawn(f).unwrap().join().unwrap()
}

fn text() -> BertConfig {
    BertConfig { vocab_size: 40, ..DmmiConfig::quickstart(40).text }
}

#[test]
fn swin_model_has_no_dead_parameter() {
    let dead =
        with_stack(|| dead(&DmmiConfig { text: text(), ..DmmiConfig::quickstart(40) })).unwrap();
    // Nothing reads the sum that the last stage's gate opens: Swin's decoder sees the residual (spec section 3).
    assert_eq!(
        dead,
        ["model.backbone.layers.3.res_gate.0.weight", "model.backbone.layers.3.res_gate.2.weight"]
    );
}

#[test]
fn resnet_model_has_no_dead_parameter() {
    let cfg = DmmiConfig {
        backbone: BackboneConfig::Resnet(ResNetConfig { layers: [1, 1, 2, 1], width: 8 }),
        text: text(),
        ..DmmiConfig::quickstart(40)
    };
    assert_eq!(with_stack(move || dead(&cfg)).unwrap(), Vec::<String>::new());
}
