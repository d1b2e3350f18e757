//! What a dataset folder holds: counts of every split, faults, and a few rows.
//! `cargo run --release -p refzom-dataset --example inspect -- [DIR] [REFS]`

#![allow(clippy::print_stdout)] // printing is what it is for

use std::path::PathBuf;

use refzom_dataset::{Dataset, DatasetConfig, count_reasons, load_refs};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33");
    let dir = args.next().unwrap_or_else(|| shipped.into());
    let cfg =
        DatasetConfig { refs: args.next().map(PathBuf::from), ..DatasetConfig::new(dir, "all") };

    let mut splits: Vec<String> =
        load_refs(cfg.refs_path()?)?.into_iter().map(|r| r.split).collect();
    splits.sort();
    splits.dedup();
    for split in splits {
        let (dataset, rejected) =
            Dataset::load(&DatasetConfig { split: split.clone(), ..cfg.clone() })?;
        println!("{split}: {}", dataset.summary());
        for (reason, count) in count_reasons(&rejected) {
            println!("  left out: {reason}, {count} times");
        }
        for sample in dataset.samples().iter().step_by((dataset.len() / 5).max(1)).take(5) {
            let mask = sample.rle()?;
            let place = match mask.bounding_box() {
                Some(b) => format!("{} x {} pixels at ({}, {})", b.width, b.height, b.x, b.y),
                None => "nothing".into(),
            };
            println!("  {:4} {:?}: {place}", sample.kind.to_string(), sample.expression);
        }
    }
    Ok(())
}
