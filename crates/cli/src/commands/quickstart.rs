//! `dmmi-cli quickstart`.

use clap::Args;

/// Arguments of `quickstart`.
#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {}

/// Runs `quickstart`.
pub(crate) fn run(_args: QuickstartArgs) -> anyhow::Result<()> {
    anyhow::bail!("quickstart is not written yet")
}
