//! `dmmi-cli`: train, evaluate and run DMMI (referring image segmentation with zero, one or many targets).
//!
//! Arguments become calls of the library crates; no arithmetic happens here. Exit codes: 0 done, 2 bad input
//! (a file, an argument, a configuration), 1 anything else, 130 interrupted by the user.

mod args;
mod commands;
mod device;
mod exit;
mod progress;
mod report;
mod viz;

use std::process::ExitCode;

use clap::Parser;

/// Freed blocks are kept: fresh pages from the system cost as much as the arithmetic on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Candle's backward pass recurses over the graph; the default 8 MB (2 MB on a thread) is too small for it.
/// Only the pages that are used cost memory.
const STACK_BYTES: usize = 512 << 20;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let worker = std::thread::Builder::new()
        .name("dmmi".into())
        .stack_size(STACK_BYTES)
        .spawn(move || exit::report(commands::run(cli.command)));
    match worker {
        // A panic has printed its own message; it is a defect of ours, never the user's.
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(exit::FAILURE)),
        Err(error) => exit::report(Err(anyhow::Error::from(error).context(
            "cannot start the working thread; allow this process 512 MB of address space",
        ))),
    }
}
