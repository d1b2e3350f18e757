//! `dmmi-cli data stats`.

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;

/// Arguments of `data stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `data stats`.
pub(crate) fn run(args: StatsArgs) -> Result<()> {
    anyhow::bail!("data stats is not built yet ({})", args.source.dir.display())
}
