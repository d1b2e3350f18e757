//! Every trainable parameter of every preset and ablation gets a finite, non-zero gradient, but those that provably cannot.
#![allow(clippy::unwrap_used)]

use backbones::{BertConfig, ResNetConfig, SwinConfig};
use candle_core::{DType, Device, Result, Tensor};
use dmmi_model::{
    BackboneConfig, Branch, DecoderConfig, DecoderWords, Directions, Dmmi, DmmiConfig, DmmiInput,
    Lambda, LossConfig, LossTerms, Targets, Variant, zero_gradient,
};
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

/// The configuration at tiny width: the same kinds of parameters, of the same names.
fn tiny(cfg: DmmiConfig) -> DmmiConfig {
    let backbone = match cfg.backbone {
        BackboneConfig::Swin(c) => BackboneConfig::Swin(SwinConfig {
            embed_dim: 12,
            depths: [1, 1, 2, 1],
            num_heads: [2, 2, 4, 4],
            window_size: 3,
            drop_path: 0.0, // a block that is dropped for a whole batch has no gradient
            ..c
        }),
        BackboneConfig::Resnet(_) => {
            BackboneConfig::Resnet(ResNetConfig { layers: [1, 1, 2, 1], width: 6 })
        }
    };
    let text = BertConfig {
        vocab_size: 40,
        hidden_size: 24,
        num_layers: 2,
        num_heads: 4,
        intermediate_size: 32,
        ..cfg.text
    };
    let decoder = DecoderConfig { num_heads: 4, feed_forward: 16, ..cfg.decoder };
    DmmiConfig { backbone, text, decoder, ..cfg }
}

/// The largest gradient of every parameter, in f64, where zero can be told from small.
fn gradients(cfg: &DmmiConfig, loss: &LossConfig) -> Result<Vec<(String, f64)>> {
    let store = ParamStore::new(5);
    let model = Dmmi::new(cfg, store.builder(DType::F64, &Device::Cpu))?;
    let (mut input, targets) = batch(3, 40, 72, 10)?;
    input.images = input.images.to_dtype(DType::F64)?;
    let noise = Noise::new(1, 0);
    let out = model.forward(&input, Mode::Train(&noise))?;
    let total = LossTerms::of(&out, &targets, loss)?.total(loss)?;
    let params = store.parameters();
    let grads = Gradients::of(&total, &params)?;
    let largest = |name: &String| match grads.get(name) {
        Some(g) => g.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>(),
        None => Ok(0.0),
    };
    params.iter().map(|(name, _)| Ok((name.clone(), largest(name)?))).collect()
}

/// Backpropagation recurses through the graph: it needs a large stack.
fn with_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(64 << 20).spawn(f).unwrap().join().unwrap()
}

/// What rounding leaves of an exact zero lies below, every other gradient above.
const ROUNDING: f64 = 1e-12;

#[track_caller]
fn check(what: &str, cfg: DmmiConfig, loss: LossConfig) {
    let cfg = tiny(cfg);
    assert_eq!(cfg.validate(), Ok(()), "{what}");
    let found = with_stack({
        let cfg = cfg.clone();
        move || gradients(&cfg, &loss)
    });
    let mut faults = Vec::new();
    for (name, size) in found.unwrap() {
        let zero = zero_gradient(&cfg, &name);
        if !size.is_finite() || (size > ROUNDING) == zero.is_some() {
            faults.push(format!("{name}: {size:e}, expected zero: {zero:?}"));
        }
    }
    assert!(faults.is_empty(), "{what}: {faults:#?}");
}

fn losses(cfg: &DmmiConfig) -> LossConfig {
    match cfg.variant() {
        Variant::Release => LossConfig::release(),
        Variant::Paper => LossConfig::paper(),
    }
}

#[test]
fn every_preset() {
    let more = ["swin-tiny-release", "swin-large-w7-paper", "resnet50-paper", "resnet50-lavt"];
    for name in DmmiConfig::PRESETS.into_iter().chain(more) {
        let cfg = DmmiConfig::preset(name, 40).unwrap();
        let loss = losses(&cfg);
        check(name, cfg, loss);
    }
}

/// One change to a model.
type Change = fn(&mut DmmiConfig);

#[test]
fn every_ablation_of_both_variants_and_backbones() {
    let changes: [(&str, Change); 10] = [
        ("no MBA", |c| c.fusion.directions = Directions::None),
        ("text to vision", |c| c.fusion.directions = Directions::TextToVision),
        ("vision to text", |c| c.fusion.directions = Directions::VisionToText),
        ("one scale", |c| {
            c.fusion.vision_windows = vec![1];
            c.fusion.text_windows = vec![1];
        }),
        ("two scales", |c| {
            c.fusion.vision_windows = vec![1, 3];
            c.fusion.text_windows = vec![1, 2];
        }),
        ("fixed weights", |c| c.fusion.lambda = Lambda::Fixed),
        ("no CCR", |c| c.reconstruction = Branch::Off),
        ("no contrast", |c| c.contrast = Branch::Off),
        ("words ignored by the decoder", |c| c.decoder.words = DecoderWords::Ignored),
        ("LAVT", |c| *c = c.clone().into_lavt()),
    ];
    for base in ["quickstart", "swin-base-paper", "resnet101-release"] {
        for (what, change) in changes {
            let mut cfg = DmmiConfig::preset(base, 40).unwrap();
            let loss = losses(&cfg);
            change(&mut cfg);
            check(&format!("{base}, {what}"), cfg, loss);
        }
    }
}
