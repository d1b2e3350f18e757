//! `dmmi-cli eval`: a checkpoint and a split to the RIS and the GRES table.

use std::path::PathBuf;

use clap::Args;

use crate::device::DeviceChoice;

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  dmmi-cli eval --checkpoint runs/quickstart/best --data data/synthetic --split test --out eval.json")]
pub(crate) struct EvalArgs {
    /// A checkpoint directory (model.safetensors and config.json), or a run directory (its best checkpoint)
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: PathBuf,
    /// A dataset directory: a refs pickle, instances.json and an image folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Which split to score
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub(crate) split: String,
    /// Expressions a batch
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) batch_size: usize,
    /// Write everything, including one record an expression, as JSON
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
}

/// Runs `eval`.
pub(crate) fn run(_args: EvalArgs) -> anyhow::Result<()> {
    anyhow::bail!("eval is not written yet")
}
