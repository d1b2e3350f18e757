//! `dmmi-cli data gallery`.

use anyhow::Result;
use clap::Args;

use super::source::SourceArgs;

/// Arguments of `data gallery`.
#[derive(Debug, Args)]
pub(crate) struct GalleryArgs {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `data gallery`.
pub(crate) fn run(args: GalleryArgs) -> Result<()> {
    anyhow::bail!("data gallery is not built yet ({})", args.source.dir.display())
}
