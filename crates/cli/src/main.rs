//! `dmmi-cli`: train, evaluate and run DMMI (referring image segmentation with zero, one or many targets).
//!
//! Arguments become calls of the library crates; no arithmetic happens here. Exit codes: 0 done, 2 bad input
//! (a file, an argument, a configuration), 1 anything else, 130 interrupted by the user.

#![warn(clippy::print_stderr)] // out::tell: a broken standard error must end nothing

mod args;
mod commands;
mod device;
mod exit;
mod file;
mod out;
mod progress;
mod report;
mod runtime;
mod viz;

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::keep_pages();
    let cli = args::parse();
    let in_parts = matches!(cli.command, args::Command::Quickstart(_) | args::Command::Ablate(_));
    if let args::Command::Bench(bench) = &cli.command {
        runtime::set_threads(bench.threads);
    }
    runtime::run(in_parts, move || commands::run(cli.command))
}
