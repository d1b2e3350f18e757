#![allow(missing_docs, clippy::print_stdout)]
use candle_core::{DType, Device, Result, Tensor};
use dmmi_model::{Dmmi, DmmiConfig};
use nn_ops::ParamStore;
use std::time::Instant;
fn main() -> Result<()> {
    let device = Device::Cpu;
    let store = ParamStore::new(7);
    let cfg = DmmiConfig::swin_base_release();
    Dmmi::new(&cfg, store.builder(DType::F32, &device))?;
    let model = Dmmi::new(&cfg, store.frozen(DType::F32, &device))?;
    let pixels =
        Tensor::arange(0f32, (3 * 480 * 480) as f32, &device)?.sin()?.reshape((1, 3, 480, 480))?;
    let ids = Tensor::new(
        &[[101u32, 14, 15, 16, 102, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
        &device,
    )?;
    let att = ids.ne(0u32)?;
    for _ in 0..4 {
        let t = Instant::now();
        let y = model.segment(&pixels, &ids, &att)?;
        println!("{:.0} ms  {}", t.elapsed().as_secs_f64() * 1e3, y.sqr()?.mean_all()?);
    }
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", s.lines().find(|l| l.starts_with("VmHWM")).unwrap());
    Ok(())
}
