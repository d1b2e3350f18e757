//! `dmmi-cli train`: a configuration to a trained checkpoint, resumable at any moment.

use std::path::PathBuf;

use clap::Args;

use crate::device::DeviceChoice;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli train --config run.toml
  dmmi-cli train --config run.toml --set optimizer.lr=1e-4 --set schedule.epochs=10
  dmmi-cli train --config run.toml --resume          go on after an interruption, bit for bit on CPU
  dmmi-cli train --recipe quickstart --dump          print the complete configuration and stop

Ctrl-C finishes the step, writes a checkpoint and ends; a second Ctrl-C ends at once.")]
pub(crate) struct TrainArgs {
    /// The run's configuration (TOML); paths in it are relative to the current directory
    #[arg(long, short, value_name = "FILE", required_unless_present = "recipe")]
    pub(crate) config: Option<PathBuf>,
    /// Start from an embedded configuration instead: quickstart, coco33_overfit, refzom_swin_base
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) recipe: Option<String>,
    /// Change one value of the configuration, typed as in TOML; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where checkpoints, metrics and the resolved configuration go [default: the configuration's `out`]
    #[arg(long, short, value_name = "DIR")]
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
pub(crate) fn run(_args: TrainArgs) -> anyhow::Result<()> {
    anyhow::bail!("train is not written yet")
}
