//! Scores a few samples on two threads, merges, and prints both tables and the JSON.
//!
//! `cargo run -p metrics --example tables`
#![allow(clippy::print_stdout)]

use metrics::{Evaluation, Kind, Overlap};

fn main() -> anyhow::Result<()> {
    let samples = [
        (Kind::One, Overlap { intersection: 90, predicted: 100, truth: 95 }),
        (Kind::Many, Overlap { intersection: 40, predicted: 60, truth: 120 }),
        (Kind::Zero, Overlap { intersection: 0, predicted: 0, truth: 0 }),
        (Kind::Zero, Overlap { intersection: 0, predicted: 12, truth: 0 }),
    ];
    let (left, right) = samples.split_at(2);
    let score = |part: &[(Kind, Overlap)]| {
        let mut evaluation = Evaluation::new();
        part.iter().for_each(|&(kind, overlap)| evaluation.add(kind, overlap));
        evaluation
    };
    let mut all = Evaluation::new();
    std::thread::scope(|scope| {
        for handle in [scope.spawn(|| score(left)), scope.spawn(|| score(right))] {
            if let Ok(part) = handle.join() {
                all.merge(&part);
            }
        }
    });
    let report = all.report();
    println!("{}\n{}", report.ris_markdown(), report.gres_markdown());
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
