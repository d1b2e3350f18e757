//! The pass without gradients takes other kernels (attention without scores, normalisation inside convolutions, projections
//! that are never written down): it must give what the pass with gradients gives.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig, DmmiInput};
use nn_ops::{Mode, ParamStore};

#[test]
fn frozen_and_trainable_models_agree() {
    let device = Device::Cpu;
    let swin = DmmiConfig::cpu_small();
    let resnet = backbones::ResNetConfig { layers: [1, 2, 1, 1], width: 16 };
    let resnet =
        DmmiConfig { backbone: BackboneConfig::Resnet(resnet), ..DmmiConfig::quickstart(90) };
    for (cfg, dtype, tolerance) in [
        (&swin, DType::F64, 1e-11),
        (&swin, DType::F32, 1e-4),
        (&resnet, DType::F64, 1e-11),
        (&resnet, DType::F32, 1e-4),
    ] {
        let store = ParamStore::new(5);
        let trainable = Dmmi::new(cfg, store.builder(dtype, &device)).unwrap();
        // Gates start at zero: opened, so that the fusion counts.
        for (name, v) in store.parameters().iter().filter(|(n, _)| n.contains("res_gate")) {
            let (rows, cols) = v.dims2().unwrap();
            let t = Tensor::arange(0f64, (rows * cols) as f64, &device).unwrap();
            let t = ((t * 0.7).unwrap().sin().unwrap() * 0.1).unwrap();
            v.set(&t.reshape((rows, cols)).unwrap().to_dtype(dtype).unwrap())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let frozen = Dmmi::new(cfg, store.frozen(dtype, &device)).unwrap();
        // No multiple of the window at any stage.
        let (h, w) = (152, 200);
        let pixels = Tensor::arange(0f64, (2 * 3 * h * w) as f64, &device).unwrap();
        let pixels = (pixels * 0.37).unwrap().sin().unwrap().reshape((2, 3, h, w)).unwrap();
        let ids = Tensor::new(&[[2u32, 14, 15, 16, 3, 0], [2, 17, 18, 3, 0, 0]], &device).unwrap();
        let input = DmmiInput {
            images: pixels.to_dtype(dtype).unwrap(),
            erased_ids: Some(ids.clone()),
            attention: ids.ne(0u32).unwrap(),
            ids,
        };
        let a = trainable.forward(&input, Mode::Eval).unwrap();
        let b = frozen.forward(&input, Mode::Eval).unwrap();
        let far = |a: &Tensor, b: &Tensor| {
            let top = |t: &Tensor| {
                let t = t.abs().unwrap().max_all().unwrap().to_dtype(DType::F64).unwrap();
                t.to_scalar::<f64>().unwrap()
            };
            top(&(a - b).unwrap()) / top(a)
        };
        assert!(a.logits.track_op() && !b.logits.track_op());
        for (what, x, y) in [
            ("logits", &a.logits, &b.logits),
            ("words", &a.words, &b.words),
            ("reconstructed", a.reconstructed.as_ref().unwrap(), b.reconstructed.as_ref().unwrap()),
        ] {
            let d = far(&x.detach(), y);
            assert!(d < tolerance, "{what} in {dtype:?}: {d:e}");
        }
    }
}
