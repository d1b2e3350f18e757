//! `dmmi-cli synth`.

use clap::Args;

/// Arguments of `synth`.
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {}

/// Runs `synth`.
pub(crate) fn run(_args: SynthArgs) -> anyhow::Result<()> {
    anyhow::bail!("synth is not written yet")
}
