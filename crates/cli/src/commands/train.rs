//! `dmmi-cli train`: a configuration to a trained checkpoint, resumable at any moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{ArgGroup, Args};
use dmmi_train::{Ended, Observers, Outcome, RunLog, RunOptions, Score, TrainConfig, recipes};

use crate::device::DeviceChoice;
use crate::exit::{INTERRUPTED, Interrupted, bad_input};
use crate::out::{say, shell, tell};
use crate::progress::{Console, percent, since};

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["config", "recipe"]))]
#[command(after_help = "Examples:
  dmmi-cli train --config run.toml
  dmmi-cli train --config run.toml --set optimizer.lr=1e-4 --set schedule.epochs=10
  dmmi-cli train --config run.toml --resume          go on after an interruption, bit for bit on CPU
  dmmi-cli train --recipe quickstart --dump          print the complete configuration and stop

Ctrl-C finishes the step, writes a checkpoint and ends; a second Ctrl-C ends at once.")]
pub(crate) struct TrainArgs {
    /// The run's configuration (TOML); paths in it are relative to the current directory
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Start from an embedded configuration instead: quickstart, coco33_overfit, refzom_swin_base, refzom_swin_base_paper,
    /// refzom_resnet101, refzom_resnet101_paper, refzom_lavt, or ablation/NAME (see `ablate --list`)
    #[arg(long, value_name = "NAME")]
    pub(crate) recipe: Option<String>,
    /// Change one value of the configuration, typed as in TOML, or take it out with KEY=; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where checkpoints, metrics and the resolved configuration go [default: the configuration's `out`]
    #[arg(long, short, value_name = "DIR", value_parser = crate::args::folder())]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the newest intact checkpoint of the run's directory
    #[arg(long)]
    pub(crate) resume: bool,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Print the complete configuration (defaults and --set applied) as TOML and stop
    #[arg(long)]
    pub(crate) dump: bool,
    /// No progress bar: one line an epoch
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Runs `train`.
pub(crate) fn run(args: TrainArgs) -> anyhow::Result<()> {
    let mut config = match (&args.config, &args.recipe) {
        (Some(path), _) => TrainConfig::from_file(path, &args.set)?,
        (None, Some(name)) => {
            let text = recipes::get(name).ok_or_else(|| {
                let known = recipes::NAMES.join(", ");
                bad_input!("--recipe {name} is not known; use one of {known}, or ablation/NAME (see ablate --list)")
            })?;
            TrainConfig::from_toml(text, &format!("recipe {name}"), &args.set)?
        }
        (None, None) => return Err(bad_input!("give --config FILE or --recipe NAME")),
    };
    if let Some(out) = &args.out {
        config.out.clone_from(out);
    }
    if args.dump {
        say!("{}", config.to_toml()?.trim_end())?;
        return Ok(());
    }
    let device = args.device.open()?;
    if device.is_cuda() && config.schedule.parts > 1 {
        tell!(
            "schedule.parts = {} serves CPU cores; on a GPU steps in one part are faster, because they are recorded",
            config.schedule.parts
        );
    }
    let mut console = Console::new(args.quiet, &device);
    let options = RunOptions { device, resume: args.resume, stop: stop_on_ctrl_c()? };
    let mut log = RunLog::new(&config.out);
    let clock = Instant::now();
    let (out, score) = (config.out.clone(), config.eval.best_by);
    let mut observers = Observers(vec![&mut log, &mut console]);
    let outcome = dmmi_train::train(config, &options, &mut observers)?;
    drop(console);
    finish(&outcome, &out, score, &since(clock))
}

/// Sets a flag on the first Ctrl-C (or termination request); the second ends the process at once.
pub(crate) fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        tell!(
            "\nstopping as soon as what is done can be kept; once more to stop at once and lose it"
        );
    })?;
    Ok(stop)
}

/// Says how the run ended and what to do next.
fn finish(outcome: &Outcome, out: &Path, score: Score, took: &str) -> anyhow::Result<()> {
    let at = format!("{} steps, {} epochs", outcome.step, outcome.epoch);
    match outcome.ended {
        Ended::Interrupted => {
            let text =
                format!("{at} done, checkpoint {}; go on with --resume", outcome.last.display());
            return Err(anyhow::Error::new(Interrupted(text)));
        }
        Ended::Complete => say!("complete: {at} in {took}")?,
        Ended::Patience => {
            say!("ended early: no better score for stop.patience evaluations; {at} in {took}")?
        }
        Ended::Steps => {
            say!("stop.steps reached: {at} in {took}; go on with --resume and a larger stop.steps")?
        }
        Ended::Minutes if outcome.step == 0 => {
            return say!("stop.minutes over before the first step ({took}); go on with --resume");
        }
        Ended::Minutes => say!("stop.minutes over: {at} in {took}; go on with --resume")?,
    }
    match outcome.best {
        Some(best) => say!(
            "best: validation {score} {} after epoch {}: {}",
            percent(Some(best.score)),
            best.epoch,
            outcome.checkpoint.display()
        )?,
        None => say!("checkpoint: {}", outcome.checkpoint.display())?,
    }
    say!(
        "next: dmmi-cli predict --checkpoint {} --image PICTURE --text SENTENCE --out DIR",
        shell(&out.display().to_string())
    )?;
    Ok(())
}
