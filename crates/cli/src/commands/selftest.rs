//! `dmmi-cli selftest`: is what a device computes what the CPU computes?

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use candle_core::{DType, Device};
use clap::{Args, ValueEnum};
use dmmi_parity::report::{Precision, Printing};
use dmmi_train::{TrainConfig, load_vocabulary};

use super::bench::BenchMode;
use super::bench::inputs::Inputs;
use super::bench::work::Work;
use crate::device::{self, DeviceChoice};
use crate::exit::{OrBadInput, bad_input};
use crate::out::say;
use crate::progress::{bar, spinner};

/// Steps of training that are compared.
const STEPS: usize = 20;
/// Largest relative difference of a loss in them, f32. AdamW's first steps divide each gradient by its own size, so that
/// rounding of the smallest decides as much as the largest, and the difference grows from step to step (3e-3 measured).
const LOSS_F32: f64 = 1e-2;
/// The same in mixed precision.
const LOSS_BF16: f64 = 5e-2;

/// Parts of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Every operation and its gradient against the CPU in f64
    Ops,
    /// The recorded reference cases, in f32 and in mixed precision
    Golden,
    /// Twenty training steps beside the CPU's
    Training,
}

/// Arguments of `selftest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli selftest --device cuda
  dmmi-cli selftest --device cuda --only ops
  dmmi-cli selftest --golden tests/golden --case g1_tiny

Exit code 1 on any miss.")]
pub(crate) struct SelftestArgs {
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// One part of the test; may be repeated [default: all]
    #[arg(long, value_enum, value_name = "PART")]
    pub(crate) only: Vec<Part>,
    /// Folder with reference cases [default: tests/golden, skipped where it does not exist]
    #[arg(long, value_name = "DIR")]
    pub(crate) golden: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Option<String>,
}

/// Runs `selftest`.
pub(crate) fn run(args: SelftestArgs) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let name = device::name(&device);
    let wants = |part| args.only.is_empty() || args.only.contains(&part);
    let mut misses = 0;
    if wants(Part::Ops) {
        misses += ops(&device, &name)?;
    }
    if wants(Part::Golden) {
        let wanted = args.golden.is_some() || args.case.is_some() || !args.only.is_empty();
        let dir = args.golden.as_deref().unwrap_or(Path::new("tests/golden"));
        if dir.is_dir() || wanted {
            misses += golden(&device, &name, dir, args.case.as_deref())?;
        } else {
            say!(
                "reference cases: skipped, there is no {} (--golden names another)",
                dir.display()
            )?;
        }
    }
    if wants(Part::Training) {
        misses += training(&device, &name)?;
    }
    if misses > 0 {
        bail!("selftest on {name}: {misses} misses; results of this device are not to be trusted");
    }
    say!("selftest on {name}: all good")?;
    Ok(())
}

fn ops(device: &Device, name: &str) -> anyhow::Result<usize> {
    let started = Instant::now();
    let waiting = spinner("operations");
    let verdicts = nn_ops::selftest::run(device)?;
    drop(waiting);
    let mut misses = 0;
    for verdict in &verdicts {
        if !verdict.ok() {
            misses += 1;
            say!(
                "MISS  {}: {:.2e}, allowed {:.0e}",
                verdict.name,
                verdict.error,
                verdict.tolerance
            )?;
        }
    }
    for dtype in ["f32", "bf16", "f64"] {
        let of = |v: &&nn_ops::selftest::Verdict| v.name.contains(&format!(", {dtype}"));
        let worst = verdicts.iter().filter(of).max_by(|a, b| a.error.total_cmp(&b.error));
        if let Some(worst) = worst {
            say!(
                "ops, {dtype}: worst {:.1e} of {:.0e} ({})",
                worst.error,
                worst.tolerance,
                worst.name
            )?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    say!("ops on {name}: {} comparisons, {misses} misses, {seconds:.1} s", verdicts.len())?;
    Ok(misses)
}

fn golden(device: &Device, name: &str, dir: &Path, case: Option<&str>) -> anyhow::Result<usize> {
    let known = dmmi_parity::names(dir).or_bad_input()?;
    if let Some(case) = case.filter(|case| !known.iter().any(|name| name.contains(case))) {
        return Err(bad_input!(
            "--case {case}: no case of {} has it in its name; there are {}",
            dir.display(),
            known.join(", ")
        ));
    }
    let (mut misses, mut compared) = (0, 0);
    for (title, precision) in [("f32", Precision::F32), ("mixed precision", Precision::Bf16)] {
        let started = Instant::now();
        let waiting = spinner(&format!("reference cases, {title}"));
        let report = dmmi_parity::run_directory_on(device, dir, precision, case, Printing::Misses)?;
        drop(waiting);
        misses += report.misses();
        compared += report.lines.len();
        if report.lines.is_empty() {
            say!("reference cases on {name}, {title}: none of these is compared so")?;
            continue;
        }
        say!("{}", report.summary().trim_end())?;
        say!(
            "reference cases on {name}, {title}: {} quantities, {} misses, {:.1} s",
            report.lines.len(),
            report.misses(),
            started.elapsed().as_secs_f64()
        )?;
    }
    if compared == 0 {
        let dir = dir.display();
        return Err(bad_input!(
            "none of the cases asked for in {dir} computes on {name}; use xtask parity for those"
        ));
    }
    Ok(misses)
}

/// The losses of twenty steps of the quickstart's network; `checkpoint`: with `checkpoint_activations`.
fn losses(
    config: &TrainConfig,
    device: &Device,
    compute: DType,
    checkpoint: bool,
) -> anyhow::Result<Vec<f64>> {
    let tokens = config.data.max_words;
    let inputs =
        Inputs::new(8, (64, 64), tokens, config.model.text.vocab_size, DType::F32, device)?;
    let mut work =
        Work::new(config, BenchMode::Train, (DType::F32, compute), checkpoint, inputs, device)?;
    let bar = bar(STEPS as u64);
    bar.set_prefix(format!("steps on {}", device::name(device)));
    let mut losses = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        losses.extend(work.step()?.map(f64::from));
        bar.inc(1);
    }
    Ok(losses)
}

fn training(device: &Device, name: &str) -> anyhow::Result<usize> {
    let config = super::info::preset("quickstart", &[])?;
    let (_, vocabulary) = load_vocabulary(&config.data.vocab)?;
    let config = config.with_vocabulary(vocabulary)?;
    let exact = losses(&config, &Device::Cpu, DType::F32, false)?;
    let mut misses = 0;
    for (title, compute, checkpoint, allowed) in [
        ("f32", DType::F32, false, LOSS_F32),
        ("f32, activations computed again", DType::F32, true, LOSS_F32),
        ("mixed precision", DType::BF16, false, LOSS_BF16),
        ("mixed precision, activations computed again", DType::BF16, true, LOSS_BF16),
    ] {
        let found = losses(&config, device, compute, checkpoint)?;
        let worst = exact.iter().zip(&found).map(|(a, b)| (a - b).abs() / a.abs());
        let worst = worst.fold(0f64, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        let ok = worst <= allowed && found.len() == exact.len();
        misses += usize::from(!ok);
        let (Some(from), Some(cpu), Some(to)) = (exact.first(), exact.last(), found.last()) else {
            bail!("no training step was made");
        };
        say!(
            "{}training on {name}, {title}: loss {from:.4} -> {to:.4} in {STEPS} steps (CPU {cpu:.4}), largest difference {worst:.1e}, allowed {allowed:.0e}",
            if ok { "" } else { "MISS  " }
        )?;
    }
    Ok(misses)
}
