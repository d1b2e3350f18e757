//! `cargo xtask parity [DIR]`: hands over to the binary of `dmmi-parity` and passes its exit status on.

use std::path::{PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, Result};

/// What the harness takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory with the cases; the project's own by default.
    dir: Option<PathBuf>,
    /// Arithmetic: f32 (as in training) or f64 (tells wrong equations from rounding).
    #[arg(long, value_parser = ["f32", "f64"], default_value = "f32")]
    dtype: String,
    /// Only cases whose name contains this; or, if there are none, only quantities.
    #[arg(long)]
    filter: Option<String>,
    /// Print misses and the summary only.
    #[arg(long, short)]
    quiet: bool,
    /// Also write all verdicts to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Builds and runs the harness; its exit status.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(crate::root()).args([
        "run",
        "--release",
        "--quiet",
        "-p",
        "dmmi-parity",
        "--bin",
        "parity",
        "--",
    ]);
    command.arg("--dtype").arg(&args.dtype);
    if let Some(filter) = &args.filter {
        command.arg("--filter").arg(filter);
    }
    if args.quiet {
        command.arg("--quiet");
    }
    if let Some(json) = &args.json {
        command.arg("--json").arg(absolute(json)?);
    }
    match &args.dir {
        Some(dir) => command.arg("--").arg(absolute(dir)?),
        None => command.arg(crate::root().join("tests/golden")),
    };
    let status = command.status().context("cannot start cargo")?;
    Ok(crate::exit::code(status))
}
