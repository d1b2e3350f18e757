//! Builds a small set in Ref-ZOM's layout from COCO files and prints some of its sentences:
//! `cargo run --release -p refzom-dataset --example build_zom -- data/coco33 /tmp/zom33`.

use anyhow::Context;
use refzom_dataset::build_zom::{Placing, ZomConfig, ZomInputs, ZomPlan};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: build_zom FOLDER_OF_COCO_FILES FOLDER_TO_WRITE";
    let from = std::path::PathBuf::from(args.next().context(usage)?);
    let out = args.next().context(usage)?;
    let inputs = ZomInputs {
        instances: vec![from.join("instances.json")],
        captions: vec![from.join("captions.json")],
        refs: vec![from.join("refs(final).p")],
        images: vec![from.join("images")],
        ..ZomInputs::default()
    };
    let plan = ZomPlan::make(ZomConfig::ref_zom(), &inputs, |_| {})?;
    for chosen in plan.chosen.iter().step_by(10) {
        let candidate = &chosen.candidate;
        eprintln!(
            "{:<5} {:<16} {}",
            candidate.kind(),
            candidate.origin.label(),
            candidate.sentence
        );
    }
    plan.write_to(&out, Placing::Link, |_| {})?;
    eprintln!("{} expressions in {out}", plan.chosen.len());
    Ok(())
}
