//! Scores a predicted mask picture against a true one; white (above 127) is foreground.
//!
//! `cargo run -p metrics --example score_two_pngs -- PREDICTED.png TRUTH.png`
#![allow(clippy::print_stdout)]

use anyhow::{Context, Result, ensure};
use metrics::Overlap;

fn mask(path: &str) -> Result<((u32, u32), Vec<bool>)> {
    let gray = image::open(path).with_context(|| format!("cannot read {path}"))?.to_luma8();
    Ok((gray.dimensions(), gray.pixels().map(|p| p.0[0] > 127).collect()))
}

fn main() -> Result<()> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    ensure!(paths.len() == 2, "give two pictures: the predicted mask and the true one");
    let (predicted, truth) = (mask(&paths[0])?, mask(&paths[1])?);
    ensure!(
        predicted.0 == truth.0,
        "the pictures are {:?} and {:?} pixels; resize one",
        predicted.0,
        truth.0
    );
    let overlap = Overlap::of(&predicted.1, &truth.1)?;
    println!(
        "intersection {} union {} IoU {:.4}",
        overlap.intersection,
        overlap.union(),
        overlap.iou()
    );
    Ok(())
}
