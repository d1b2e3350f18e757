//! Prints which word each cell attends to most: `cargo run --release -p mba-fusion --example look_at_maps`
#![allow(clippy::print_stdout)]

use candle_core::{D, DType, Device, Result, Tensor};
use mba_fusion::{MbaConfig, MbaStage};
use nn_ops::{ParamStore, Probe};

fn main() -> Result<()> {
    let device = Device::Cpu;
    let cfg = MbaConfig::release(16, 16);
    let stage = MbaStage::new(&cfg, ParamStore::new(2).builder(DType::F32, &device))?;
    let cells = Tensor::arange(0f32, (4 * 6 * 16) as f32, &device)?.sin()?.reshape((1, 24, 16))?;
    let words = Tensor::arange(0f32, (5 * 16) as f32, &device)?.cos()?.reshape((1, 5, 16))?;
    let mask = Tensor::ones((1, 5), DType::F32, &device)?;
    let mut probe = Probe::recording();
    stage.forward_probed(&cells, (4, 6), &words, &mask, &mut probe)?;
    for (name, map) in probe.into_seen() {
        if name.starts_with("refineimg") {
            let best = map.argmax(D::Minus1)?.flatten_all()?.to_vec1::<u32>()?;
            println!("{name}: {:?}", best.chunks(6).collect::<Vec<_>>());
        }
    }
    Ok(())
}
