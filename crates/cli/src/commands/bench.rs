//! `dmmi-cli bench`: how long a mask or a training step takes, in all and by part, and how much memory.
//!
//! Inputs come from a formula that `benches/peer/dmmi_peer.py` repeats, so that the two can be compared number by number;
//! `cargo xtask bench` runs both in turns.

pub(crate) mod inputs;
mod process;
mod report;
pub(crate) mod work;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use dmmi_model::cost::{Pass, total};
use dmmi_train::{TrainConfig, load_vocabulary};
use serde::{Deserialize, Serialize};

use crate::device::{self, Arithmetic, DeviceChoice};
use crate::exit::bad_input;
use crate::file;
use crate::out::{say, tell};
use report::{Measured, Memory};
use work::Work;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BenchMode {
    /// A picture and a sentence to a mask, as `predict` computes it
    Infer,
    /// Forward pass, losses, backward pass and AdamW
    Train,
}

/// Arithmetic of the measured work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Precision {
    /// 32-bit floats
    F32,
    /// 32-bit floats whose matrix products may round their inputs to TF32 (CUDA)
    Tf32,
    /// bfloat16; inference on a CPU: as `predict --dtype bf16`
    Bf16,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli bench                                            Swin-B and BERT-base at 480 pixels, one mask at a time
  dmmi-cli bench --mode train --batch 2 --iters 3
  dmmi-cli bench --preset quickstart --mode train --batch 16 --json bench.json
  dmmi-cli bench --preset resnet101-release --device cuda --dtype bf16 --batch 32

Weights are drawn unless --weights names a file; values do not change the time. The first pass is not timed. Beside PyTorch,
in turns and with outputs compared: cargo xtask bench.")]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(long, value_enum, default_value = "infer")]
    pub(crate) mode: BenchMode,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Arithmetic
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Precision,
    /// A model preset (see `info --help`)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "swin-base-release",
        conflicts_with = "config"
    )]
    pub(crate) preset: String,
    /// A run configuration (TOML) instead; its data is not opened
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Pictures at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,
    /// Sentences about one picture, answered together as `predict` does, instead of a batch
    #[arg(long, value_name = "S", conflicts_with = "batch", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) sentences: Option<u32>,
    /// Picture size in pixels: S, or WIDTHxHEIGHT [default: the configuration's]
    #[arg(long, value_name = "SIZE", value_parser = super::synth::parse_size)]
    pub(crate) size: Option<(u32, u32)>,
    /// Tokens of a sentence [default: the configuration's]
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(2..=512))]
    pub(crate) tokens: Option<u32>,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// Untimed passes after the first
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) warmup: u32,
    /// Timed passes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) iters: u32,
    /// No separate passes for the time of each part
    #[arg(long)]
    pub(crate) no_parts: bool,
    /// Activation checkpointing, as checkpoint_activations = true: less memory (with --mode train)
    #[arg(long)]
    pub(crate) checkpoint_activations: bool,
    /// Also one pass operation by operation, which waits for the device at each: the 40 longest
    #[arg(long)]
    pub(crate) by_op: bool,
    /// Weights (safetensors) to start from
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Write the weights before the first pass (safetensors, f32)
    #[arg(long, value_name = "FILE")]
    pub(crate) save_weights: Option<PathBuf>,
    /// Write what the first pass gives (safetensors): the logits, or losses and gradient norm without dropout
    #[arg(long, value_name = "FILE")]
    pub(crate) save_outputs: Option<PathBuf>,
    /// Write the measurements to this file; - writes them to standard output instead of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Runs `bench`.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<()> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = args.json.as_deref().filter(|_| !to_stdout) {
        file::check_place("--json", path, b'{')?;
    }
    if args.checkpoint_activations && args.mode == BenchMode::Infer {
        return Err(bad_input!(
            "--checkpoint-activations is for --mode train; a mask keeps no activations"
        ));
    }
    let config = configuration(&args)?;
    let [height, width] = match args.size {
        Some((w, h)) if [w, h].iter().all(|side| (1..=4096).contains(side)) => {
            [h as usize, w as usize]
        }
        Some((w, h)) => {
            return Err(bad_input!("--size {w}x{h}: 1 to 4096 pixels a side are possible"));
        }
        None => config.data.image_size,
    };
    let tokens = args.tokens.map_or(config.data.max_words, |n| n as usize);
    if tokens > config.model.text.max_positions {
        let most = config.model.text.max_positions;
        return Err(bad_input!("--tokens {tokens}: the text encoder has {most} positions"));
    }
    let device = args.device.open()?;
    let (dtype, compute) = precision(&args, &device)?;
    if args.sentences.is_some() && args.mode == BenchMode::Train {
        return Err(bad_input!(
            "--sentences is for --mode infer; training has a picture a sentence"
        ));
    }
    let batch = args.sentences.unwrap_or(args.batch) as usize;
    let steps = 1 + args.warmup + args.iters;

    let bar = crate::progress::bar(u64::from(steps));
    bar.set_prefix("drawing weights");
    let inputs = inputs::Inputs::new(
        batch,
        (height, width),
        tokens,
        config.model.text.vocab_size,
        dtype,
        &device,
    )?;
    let mut work = Work::new(
        &config,
        args.mode,
        (dtype, compute),
        args.checkpoint_activations,
        inputs,
        &device,
    )?;
    work.one_picture = args.sentences.is_some();
    if let Some(path) = &args.weights {
        load(&work, path)?;
    }
    if let Some(path) = &args.save_weights {
        save(path, work.weights()?)?;
    }
    let loaded = process::resident();

    bar.set_prefix("first pass");
    let outputs = work.first()?;
    device.synchronize()?;
    let first_s = process::since_start();
    if let Some(path) = &args.save_outputs {
        save(path, outputs)?;
    }
    bar.inc(1);
    bar.set_prefix("warming up");
    for _ in 0..args.warmup {
        work.step()?;
        bar.inc(1);
    }
    bar.set_prefix("measuring");
    let mut times_ms = Vec::with_capacity(args.iters as usize);
    for _ in 0..args.iters {
        device.synchronize()?;
        let start = Instant::now();
        work.step()?;
        device.synchronize()?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        bar.inc(1);
    }
    let memory = Memory {
        loaded_rss_mib: loaded,
        peak_rss_mib: process::peak_resident(),
        device_peak_mib: process::device_peak(&device)?,
    };
    let mut passes = Vec::new();
    if !args.no_parts {
        bar.set_prefix("parts");
        for _ in 0..args.iters.min(5) {
            passes.push(work.timed_parts()?);
        }
    }
    if args.by_op {
        bar.set_prefix("operations");
        nn_ops::profile::start(&device);
        work.by_operations()?;
        let lines = nn_ops::profile::finish();
        let all: f64 = lines.iter().map(|line| line.ms).sum();
        bar.finish_and_clear();
        let mut table = format!(
            "{:<72} {:>9} {:>6} {:>6}\n",
            "operation and shape of its result", "ms", "times", "%"
        );
        for line in lines.iter().take(40) {
            let share = 100.0 * line.ms / all;
            table +=
                &format!("{:<72} {:>9.3} {:>6} {share:>6.1}\n", line.name, line.ms, line.count);
        }
        table += &format!("{:<72} {all:>9.3}\n", "all, waiting at each");
        // Standard output belongs to the JSON then.
        if to_stdout { tell!("{table}") } else { say!("{table}")? }
    }
    bar.finish_and_clear();

    let pass = if args.mode == BenchMode::Train { Pass::Train } else { Pass::Segment };
    let costs = config.model.cost((height, width), tokens, pass);
    let forward = total(&costs).flops() * batch as u64;
    let mut flops: Vec<(String, u64)> = costs
        .iter()
        .map(|(part, cost)| (part.to_string(), cost.flops() * batch as u64))
        .filter(|(_, flops)| *flops > 0)
        .collect();
    if args.mode == BenchMode::Train {
        // By custom: one product for each operand of a forward product.
        flops.push(("backward".into(), 2 * forward));
    }
    let measured = Measured {
        program: format!("dmmi {}", env!("CARGO_PKG_VERSION")),
        mode: args.mode,
        device: device::name(&device),
        dtype: args.dtype,
        batch,
        sentences: args.sentences,
        height,
        width,
        tokens,
        threads: rayon::current_num_threads(),
        parameters: work.parameters(),
        first_s,
        total_ms: report::median(&times_ms),
        images_per_s: batch as f64 * 1e3 / report::median(&times_ms),
        times_ms,
        order: passes.first().into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        parts_ms: report::medians(&passes),
        flops,
        memory,
        matmul_gflops: process::matmul_peak(&device, compute)?,
        model: config.model,
    };
    let text = serde_json::to_string_pretty(&measured)?;
    match &args.json {
        Some(_) if to_stdout => say!("{text}"),
        // The file first, the table in any case: whoever reads may stop, and the disk may be full.
        Some(path) => {
            let saved = file::save(path, format!("{text}\n").as_bytes());
            let told = say!("{}", measured.table().trim_end());
            saved.and(told)
        }
        None => say!("{}", measured.table().trim_end()),
    }
}

fn configuration(args: &BenchArgs) -> anyhow::Result<TrainConfig> {
    let config = match &args.config {
        Some(path) => TrainConfig::from_file(path, &[])?,
        None => super::info::preset(&args.preset, &[])?,
    };
    let (_, vocabulary) = load_vocabulary(&config.data.vocab)?;
    Ok(config.with_vocabulary(vocabulary)?)
}

/// The types of parameters and activations, with what the choice sets for the process.
fn precision(args: &BenchArgs, device: &Device) -> anyhow::Result<(DType, DType)> {
    match args.dtype {
        Precision::F32 => Ok((DType::F32, DType::F32)),
        Precision::Tf32 if device.is_cuda() => {
            nn_ops::device::set_tf32(true);
            Ok((DType::F32, DType::F32))
        }
        Precision::Tf32 => {
            Err(bad_input!("--dtype tf32 is a mode of CUDA; use --dtype f32 or --device cuda"))
        }
        Precision::Bf16 if args.mode == BenchMode::Infer => {
            let dtype = Arithmetic::Bf16.activations(device);
            Ok((dtype, dtype))
        }
        // Training keeps its weights in f32.
        Precision::Bf16 => Ok((DType::F32, DType::BF16)),
    }
}

fn load(work: &Work, path: &Path) -> anyhow::Result<()> {
    let unreadable = |error: &dyn std::fmt::Display| {
        bad_input!("--weights {}: not a readable safetensors file ({error})", path.display())
    };
    std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    let tensors =
        candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| unreadable(&error))?;
    let report = work.load(&tensors.into_iter().collect::<BTreeMap<_, _>>())?;
    if !report.is_complete() {
        let first = |names: &[String]| names.first().map_or("none".to_owned(), String::clone);
        return Err(bad_input!(
            "--weights {}: does not fit this model: {} tensors missing (first: {}), {} unknown (first: {}), {} of another shape; use the --preset or --config they were written with",
            path.display(),
            report.missing.len(),
            first(&report.missing),
            report.unexpected.len(),
            first(&report.unexpected),
            report.mismatched.len(),
        ));
    }
    Ok(())
}

fn save(path: &Path, tensors: BTreeMap<String, Tensor>) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    // A place that cannot be written is told from a full disk here: Candle's error does not say which it was.
    std::fs::File::create(path).with_context(context)?;
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    candle_core::safetensors::save(&tensors, path).with_context(context)
}
