//! `dmmi-cli data convert`.

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;

/// Arguments of `data convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `data convert`.
pub(crate) fn run(args: ConvertArgs) -> Result<()> {
    anyhow::bail!("data convert is not built yet ({})", args.source.dir.display())
}
