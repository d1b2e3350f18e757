//! Acts between stages: the second stage's output is replaced by zeros, and the later maps change.
//! `cargo run --release -p backbones --example swap_a_stage`
#![allow(clippy::print_stdout)]

use backbones::{FeatureGrid, ResNet, ResNetConfig, StageOutput, StagedBackbone};
use candle_core::{DType, Device, Result, Tensor};
use nn_ops::{Mode, ParamStore};

fn main() -> Result<()> {
    let device = Device::Cpu;
    let cfg = ResNetConfig { layers: [1; 4], width: 8 };
    let resnet = ResNet::new(&cfg, ParamStore::new(3).builder(DType::F32, &device))?;
    let images = Tensor::ones((1, 3, 64, 64), DType::F32, &device)?;
    let plain = resnet.pyramid(&images)?;
    let mut swap = |stage: usize, grid: FeatureGrid| {
        let carry = match stage {
            1 => grid.with_tokens(grid.tokens().zeros_like()?)?,
            _ => grid.clone(),
        };
        Ok(StageOutput { carry, emit: grid })
    };
    let swapped = resnet.forward_stages(&images, &mut swap, Mode::Eval)?;
    for (i, (a, b)) in plain.iter().zip(&swapped).enumerate() {
        let change = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
        println!("stage {i}: largest change {change}");
    }
    Ok(())
}
