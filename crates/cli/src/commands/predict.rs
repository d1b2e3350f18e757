//! `dmmi-cli predict`.

use clap::Args;

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {}

/// Runs `predict`.
pub(crate) fn run(_args: PredictArgs) -> anyhow::Result<()> {
    anyhow::bail!("predict is not written yet")
}
