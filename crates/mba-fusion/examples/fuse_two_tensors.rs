//! Fuses cells and words of arbitrary origin: `cargo run --release -p mba-fusion --example fuse_two_tensors`
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Result, Tensor};
use mba_fusion::{GateInit, MbaConfig, MbaStage};
use nn_ops::ParamStore;

fn main() -> Result<()> {
    let device = Device::Cpu;
    let cfg = MbaConfig { gate: GateInit::OpensFromZero, ..MbaConfig::release(32, 48) };
    let stage = MbaStage::new(&cfg, ParamStore::new(1).builder(DType::F32, &device))?;
    let cells = Tensor::arange(0f32, (6 * 9 * 32) as f32, &device)?.sin()?.reshape((1, 54, 32))?;
    let words = Tensor::arange(0f32, (7 * 48) as f32, &device)?.cos()?.reshape((1, 7, 48))?;
    let mask = Tensor::new(&[[1f32, 1., 1., 1., 1., 0., 0.]], &device)?;
    let fused = stage.forward(&cells, (6, 9), &words, &mask)?;
    let moved = (&fused.visual - &cells)?.abs()?.max_all()?.to_scalar::<f32>()?;
    println!("residual {:?}, text {:?}", fused.residual.dims(), fused.text.dims());
    println!("a gate that opens from zero leaves the cells alone at first: largest change {moved}");
    Ok(())
}
