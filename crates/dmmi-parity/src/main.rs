//! `parity [DIR]`: runs every golden case of a directory and prints one line a quantity.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use dmmi_parity::report::{Precision, Printing, Report};
use dmmi_parity::run_directory;

/// Compares dmmi with recorded results of the reference: case, quantity, error, tolerance, verdict. Exit status 1 on any
/// miss, 2 when a file is missing or damaged.
#[derive(Parser)]
#[command(name = "parity", version)]
struct Args {
    /// Directory with the cases (JSON sidecars and safetensors).
    #[arg(default_value = "tests/golden")]
    dir: PathBuf,
    /// Arithmetic of the run.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Arithmetic,
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

#[derive(Clone, Copy, ValueEnum)]
enum Arithmetic {
    /// As in training.
    F32,
    /// Tells wrong equations from rounding.
    F64,
    /// Mixed precision: bf16 activations, f32 parameters (networks only).
    Bf16,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(report) if report.misses() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stdout)] // the program's result
fn run(args: &Args) -> Result<Report> {
    let started = Instant::now();
    let precision = match args.dtype {
        Arithmetic::F32 => Precision::F32,
        Arithmetic::F64 => Precision::F64,
        Arithmetic::Bf16 => Precision::Bf16,
    };
    let print = if args.quiet { Printing::Misses } else { Printing::All };
    let report = run_directory(&args.dir, precision, args.filter.as_deref(), print)?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("\n{}", report.summary().trim_end());
    let (all, misses) = (report.lines.len(), report.misses());
    println!("{all} quantities, {misses} misses, {:.1} s", started.elapsed().as_secs_f64());
    Ok(report)
}
