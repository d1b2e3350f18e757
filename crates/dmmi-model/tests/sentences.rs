//! Several sentences about one image give what each gives alone, whichever parts they share.
#![allow(clippy::unwrap_used)]

use backbones::ResNetConfig;
use candle_core::{DType, Device, Tensor};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig, FusionConfig, GateInit};
use nn_ops::ParamStore;

const SENTENCES: usize = 3;
const L: usize = 7;

fn check(name: &str, cfg: &DmmiConfig) {
    let device = Device::Cpu;
    let store = ParamStore::new(5);
    let model = Dmmi::new(cfg, store.builder(DType::F64, &device)).unwrap();
    let pixels: Vec<f64> = (0..3 * 32 * 40).map(|i| (i as f64 * 0.37).sin()).collect();
    let image = Tensor::from_vec(pixels, (1, 3, 32, 40), &device).unwrap();
    let ids: Vec<u32> = (0..SENTENCES * L).map(|i| 1 + (i * 31 % 39) as u32).collect();
    let real: Vec<u8> = (0..SENTENCES * L).map(|i| u8::from(i % L < L - i / L)).collect();
    let ids = Tensor::from_vec(ids, (SENTENCES, L), &device).unwrap();
    let real = Tensor::from_vec(real, (SENTENCES, L), &device).unwrap();
    let together = model.segment_sentences(&image, &ids, &real).unwrap();
    let mut logits = Vec::new();
    for i in 0..SENTENCES {
        let cut = |tensor: &Tensor| tensor.narrow(0, i, 1).unwrap().contiguous().unwrap();
        let alone = model.segment(&image, &cut(&ids), &cut(&real)).unwrap();
        let difference = (cut(&together) - &alone).unwrap().abs().unwrap();
        let largest = difference.flatten_all().unwrap().max(0).unwrap();
        let largest = largest.to_scalar::<f64>().unwrap();
        assert!(largest < 1e-11, "{name}, sentence {i}: {largest}");
        logits.push(alone.flatten_all().unwrap().to_vec1::<f64>().unwrap());
    }
    assert_ne!(logits[0], logits[1], "{name}: the sentences must matter");
    assert!(model.segment_sentences(&image, &ids.narrow(0, 0, 0).unwrap(), &real).is_err());
    let two = image.repeat((2, 1, 1, 1)).unwrap();
    assert!(model.segment_sentences(&two, &ids, &real).is_err());
}

#[test]
fn together_is_as_alone() {
    let swin = DmmiConfig::quickstart(40);
    let resnet = BackboneConfig::Resnet(ResNetConfig { layers: [1, 1, 2, 1], width: 8 });
    let paper = FusionConfig::paper();
    for gate in [GateInit::Default, GateInit::OpensFromZero, GateInit::Zero] {
        for backbone in [swin.backbone.clone(), resnet.clone()] {
            let cfg = DmmiConfig { gate, backbone, ..swin.clone() };
            check(&format!("release, {gate:?}"), &cfg);
            check("paper", &DmmiConfig { fusion: paper.clone(), ..cfg.clone() });
            if matches!(cfg.backbone, BackboneConfig::Swin(_)) {
                check("lavt", &cfg.into_lavt());
            }
        }
    }
}
