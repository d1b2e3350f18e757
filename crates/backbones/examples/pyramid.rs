//! The shapes of a Swin and a ResNet pyramid: `cargo run --release -p backbones --example pyramid`
#![allow(clippy::print_stdout)]

use backbones::{ResNet, ResNetConfig, StagedBackbone, SwinConfig, SwinTransformer};
use candle_core::{DType, Device, Result, Tensor};
use nn_ops::ParamStore;

fn main() -> Result<()> {
    let device = Device::Cpu;
    let builder = |seed| ParamStore::new(seed).builder(DType::F32, &device);
    let swin = SwinConfig { embed_dim: 24, depths: [1; 4], ..SwinConfig::tiny_w7() };
    let swin = SwinTransformer::new(&swin, builder(1))?;
    let resnet = ResNet::new(&ResNetConfig { layers: [1; 4], width: 16 }, builder(2))?;
    let images = Tensor::zeros((1, 3, 96, 160), DType::F32, &device)?;
    let both: [(&str, &dyn StagedBackbone); 2] = [("swin", &swin), ("resnet", &resnet)];
    for (name, backbone) in both {
        for (info, map) in backbone.stages().iter().zip(backbone.pyramid(&images)?) {
            println!("{name}: stride {:2}, map {:?}", info.stride, map.dims());
        }
    }
    Ok(())
}
