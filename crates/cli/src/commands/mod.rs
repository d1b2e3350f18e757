//! One file a subcommand: its arguments, and `run(args) -> anyhow::Result<()>`.

pub(crate) mod ablate;
pub(crate) mod bench;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod info;
pub(crate) mod predict;
pub(crate) mod quickstart;
pub(crate) mod selftest;
pub(crate) mod synth;
pub(crate) mod train;

use crate::args::Command;

/// Runs the chosen subcommand.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Quickstart(args) => quickstart::run(args),
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Ablate(args) => ablate::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Data(args) => data::run(args),
        Command::Info(args) => info::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Selftest(args) => selftest::run(args),
    }
}
