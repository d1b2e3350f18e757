//! Parameters by part: `cargo run --release -p dmmi-model --example count_parameters`
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result};
use dmmi_model::{Dmmi, DmmiConfig};
use nn_ops::ParamStore;

fn main() -> Result<()> {
    let store = ParamStore::new(0);
    Dmmi::new(&DmmiConfig::quickstart(207), store.builder(DType::F32, &Device::Cpu))?;
    let mut parts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, var) in store.parameters() {
        let part = name.split('.').take(2).collect::<Vec<_>>().join(".");
        *parts.entry(part).or_default() += var.elem_count();
    }
    for (part, count) in &parts {
        println!("{count:>10}  {part}");
    }
    println!("{:>10}  in all", parts.values().sum::<usize>());
    Ok(())
}
