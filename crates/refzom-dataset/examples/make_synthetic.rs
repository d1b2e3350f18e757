//! Writes a small synthetic Ref-ZOM and prints what is in it.
//!
//! `cargo run --release -p refzom-dataset --example make_synthetic -- FOLDER [SCENES] [SIDE]`
#![allow(clippy::print_stdout)]

use anyhow::{Context, Result};
use refzom_dataset::synthetic::{SyntheticConfig, SyntheticRefZom};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().context("give the folder to write, for example /tmp/synthetic")?;
    let scenes: usize = args.next().map_or(Ok(200), |n| n.parse()).context("SCENES is a number")?;
    let side: u32 = args.next().map_or(Ok(96), |n| n.parse()).context("SIDE is in pixels")?;
    let config = SyntheticConfig {
        width: side,
        height: side,
        train_scenes: scenes * 8 / 10,
        val_scenes: scenes / 10,
        test_scenes: scenes - scenes * 8 / 10 - scenes / 10,
        ..SyntheticConfig::quickstart()
    };
    let start = std::time::Instant::now();
    let summary = SyntheticRefZom::new(config)?.write_to(&folder)?;
    for (split, counts) in &summary.sentences {
        println!(
            "{split:>5}: {} scenes, {} sentences ({} one, {} many, {} zero)",
            summary.scenes[split],
            counts.total(),
            counts.one,
            counts.many,
            counts.zero
        );
    }
    println!("{} objects, near misses {:?}", summary.objects, summary.near_misses);
    println!("{folder} written in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
