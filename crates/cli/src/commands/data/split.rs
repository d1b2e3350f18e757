//! `dmmi-cli data split`.

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;

/// Arguments of `data split`.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `data split`.
pub(crate) fn run(args: SplitArgs) -> Result<()> {
    anyhow::bail!("data split is not built yet ({})", args.source.dir.display())
}
