//! Parameters and operations by part: `cargo run --release -p dmmi-model --example count_parameters [PRESET]`
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, bail};
use dmmi_model::cost::Pass;
use dmmi_model::{Dmmi, DmmiConfig, Part};
use nn_ops::Outline;

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "quickstart".to_owned());
    let Some(cfg) = DmmiConfig::preset(&name, 207) else {
        bail!("{name} is no preset; use one of {:?}", DmmiConfig::PRESETS);
    };
    let outline = Outline::new();
    Dmmi::new(&cfg, outline.builder(DType::F32, &Device::Cpu))?;
    let mut parts: BTreeMap<Part, usize> = BTreeMap::new();
    for (name, dims) in outline.parameters() {
        *parts.entry(Part::of(&name)).or_default() += dims.iter().product::<usize>();
    }
    let costs: BTreeMap<Part, u64> = cfg
        .cost((480, 480), 20, Pass::Segment)
        .into_iter()
        .map(|(part, cost)| (part, cost.flops()))
        .collect();
    for (part, count) in &parts {
        let flops = costs.get(part).copied().unwrap_or_default();
        println!("{part:<24}{count:>12} parameters{:>9.2} GFLOPs", flops as f64 / 1e9);
    }
    println!("{:<24}{:>12} parameters", "in all", parts.values().sum::<usize>());
    Ok(())
}
