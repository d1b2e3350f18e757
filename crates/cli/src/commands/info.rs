//! `dmmi-cli info`: what a checkpoint or a configuration holds.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli info --checkpoint runs/quickstart/best
  dmmi-cli info --config run.toml")]
pub(crate) struct InfoArgs {
    /// A checkpoint or run directory
    #[arg(long, value_name = "DIR", required_unless_present = "config", conflicts_with = "config")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// A run configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// List every tensor with its shape
    #[arg(long)]
    pub(crate) tensors: bool,
}

/// Runs `info`.
pub(crate) fn run(_args: InfoArgs) -> anyhow::Result<()> {
    anyhow::bail!("info is not written yet")
}
