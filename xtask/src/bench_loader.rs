//! `cargo xtask bench-loader`: pictures a second of the loader against Pillow + torchvision + pycocotools, in turns on one core.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exit::failed;

/// What the comparison takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Python with pillow, torch, torchvision, pycocotools and numpy.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// A folder with refs(final).p, instances.json and images.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Side of the network's input, pixels.
    #[arg(long, default_value_t = 480)]
    size: u32,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Turns of each side.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The core both are bound to (with taskset, where there is one).
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// What one turn prints as JSON.
struct Turn {
    samples: f64,
    seconds: f64,
    cpu_seconds: f64,
    mask_pixels: f64,
}

/// Builds the loader's side and runs the turns.
#[allow(clippy::print_stdout)] // the result
pub(crate) fn run(args: &Args) -> Result<u8> {
    let root = crate::root();
    let build =
        ["build", "--release", "--quiet", "-p", "refzom-dataset", "--example", "bench_loader"];
    let status = Command::new(env!("CARGO")).current_dir(&root).args(build).status()?;
    if !status.success() {
        return Err(failed!("the loader's side does not build"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let ours = target.join("release/examples/bench_loader");
    let peer = root.join("crates/refzom-dataset/benches/loader_peer.py");
    let data = args.data.clone().unwrap_or_else(|| root.join("data/coco33"));
    let numbers = [args.size.to_string(), args.seconds.to_string()];
    let (mut sums, names) = ([Vec::new(), Vec::new()], ["dmmi", "peer"]);
    for round in 0..args.rounds.max(1) {
        for (side, name) in names.iter().enumerate() {
            let words = match side {
                0 => vec![ours.as_os_str()],
                _ => vec![args.python.as_os_str(), peer.as_os_str()],
            };
            let turn = one(args.core, &words, &data, &numbers)
                .with_context(|| format!("turn {round} of {name}"))?;
            let Turn { samples, seconds, cpu_seconds, mask_pixels } = turn;
            println!(
                "{name}  {samples:>6} samples  {:>7.1}/s  {:>7.1} per second of processor time  masks {mask_pixels} pixels",
                samples / seconds,
                samples / cpu_seconds,
            );
            sums[side].push(turn);
        }
    }
    let rate = |turns: &[Turn], time: fn(&Turn) -> f64| {
        turns.iter().map(|t| t.samples).sum::<f64>() / turns.iter().map(time).sum::<f64>()
    };
    let [ours, peer] = &sums;
    if ours[0].mask_pixels != peer[0].mask_pixels {
        return Err(failed!("the two sides drew different masks: they do not do the same work"));
    }
    let wall = |t: &Turn| t.seconds;
    let cpu = |t: &Turn| t.cpu_seconds;
    println!(
        "in all: dmmi {:.1}/s, peer {:.1}/s: {:.2} times; by processor time {:.1}/s and {:.1}/s: {:.2} times",
        rate(ours, wall),
        rate(peer, wall),
        rate(ours, wall) / rate(peer, wall),
        rate(ours, cpu),
        rate(peer, cpu),
        rate(ours, cpu) / rate(peer, cpu),
    );
    Ok(0)
}

fn one(core: usize, words: &[&std::ffi::OsStr], data: &Path, numbers: &[String]) -> Result<Turn> {
    let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
    let mut command = match has_taskset {
        true => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(words[0]);
            command
        }
        false => Command::new(words[0]),
    };
    let output = command.args(&words[1..]).arg(data).args(numbers).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(failed!("{}", String::from_utf8_lossy(&output.stderr)));
    }
    let number = |key: &str| -> Result<f64> {
        let from =
            text.find(&format!("\"{key}\": ")).with_context(|| format!("no {key} in {text}"))?;
        let rest = &text[from + key.len() + 4..];
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        rest[..end].trim().parse().with_context(|| format!("{key} in {text}"))
    };
    Ok(Turn {
        samples: number("samples")?,
        seconds: number("seconds")?,
        cpu_seconds: number("cpu_seconds")?,
        mask_pixels: number("mask_pixels")?,
    })
}
