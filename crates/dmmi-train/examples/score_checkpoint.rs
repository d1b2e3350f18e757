//! Loads a checkpoint, scores a split and lists the expressions it does worst on.
//!
//! `cargo run --release -p dmmi-train --example score_checkpoint -- RUN_OR_CHECKPOINT DATA_DIR [SPLIT]`

#![allow(clippy::print_stdout)]

use candle_core::Device;
use dmmi_train::{Split, evaluate, load_model};
use refzom_dataset::DatasetConfig;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, data, rest @ ..] = args.as_slice() else {
        anyhow::bail!("usage: score_checkpoint RUN_OR_CHECKPOINT DATA_DIR [SPLIT]");
    };
    let split_name = rest.first().map_or("test", String::as_str);
    let loaded = load_model(checkpoint, &Device::Cpu)?;
    let split = Split::for_model(&DatasetConfig::new(data, split_name), &loaded.file, 8)?;
    println!("{}: {}", loaded.path.display(), split.dataset().summary());

    let scored = evaluate(&loaded.model, &loaded.device, &split, true, &mut |_, _| Ok(()))?;
    for (group, tables) in &scored.at_model_size {
        println!("{group:>5}  {:?}", tables.summary());
    }
    let mut records = scored.records;
    records.sort_by(|a, b| a.iou.unwrap_or(1.0).total_cmp(&b.iou.unwrap_or(1.0)));
    for record in records.iter().take(10) {
        let iou = record.iou.map_or("-".to_owned(), |iou| format!("{iou:.2}"));
        println!("{iou:>5}  {} ({})", record.expression, record.image);
    }
    Ok(())
}
