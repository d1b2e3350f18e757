//! `cargo xtask cuda-toolchain`: what a build with CUDA needs, from PyPI, where no CUDA is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exit::failed;

/// Where it is laid out and what for.
#[derive(clap::Args)]
#[command(
    after_help = "Linux on x86-64, with bash, cc, ar and a python3 that has pip. About 120 MB from PyPI, verified by hash; run
again, it only checks. Building needs no GPU; the program finds one when it runs.

Examples:
  cargo xtask cuda-toolchain
  . target/cuda-13.0/env.sh && cargo build --release -p dmmi-cli --features cuda,cudnn"
)]
pub(crate) struct Args {
    /// Folder for the toolchain
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Folder for the toolchain, unless another is given.
pub(crate) fn usual_dir() -> PathBuf {
    crate::root().join("target/cuda-13.0")
}

/// Runs the verb.
#[allow(clippy::print_stdout)] // the verb's result
pub(crate) fn run(args: &Args) -> Result<u8> {
    let dir = args.dir.clone().unwrap_or_else(usual_dir);
    lay_out(&dir)?;
    println!("toolchain in {}; next:", dir.display());
    println!(
        "  . {}/env.sh && cargo build --release -p dmmi-cli --features cuda,cudnn",
        dir.display()
    );
    Ok(0)
}

/// Makes or completes the toolchain in `dir`.
pub(crate) fn lay_out(dir: &Path) -> Result<()> {
    let script = crate::root().join("xtask/cuda/toolchain.sh");
    let status = Command::new("bash")
        .arg(&script)
        .arg(dir)
        .arg(crate::root().join("Cargo.toml"))
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot start bash")?;
    if !status.success() {
        return Err(failed!("{} failed ({status}); what it said stands above", script.display()));
    }
    Ok(())
}
