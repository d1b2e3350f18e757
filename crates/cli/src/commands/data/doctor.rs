//! `dmmi-cli data doctor`.

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;

/// Arguments of `data doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `data doctor`.
pub(crate) fn run(args: DoctorArgs) -> Result<()> {
    anyhow::bail!("data doctor is not built yet ({})", args.source.dir.display())
}
