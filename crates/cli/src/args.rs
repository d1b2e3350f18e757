//! The command line: one subcommand a file of [`crate::commands`], each with its own argument struct.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    ablate, bench, convert, data, eval, info, predict, quickstart, selftest, synth, train,
};

/// Referring image segmentation with zero, one or many targets (DMMI, ICCV 2023), in Rust.
///
/// Give it a picture and a sentence; it marks every object the sentence means: one, several, or none at all.
#[derive(Debug, Parser)]
#[command(name = "dmmi-cli", version, about, long_about, arg_required_else_help = true)]
#[command(
    after_help = "Start here:  dmmi-cli quickstart\n\nExit codes: 0 done, 2 bad input, 1 other failure, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make data, train a small model from scratch, evaluate it and write a report: no download, minutes on a CPU
    Quickstart(quickstart::QuickstartArgs),
    /// Train a model from a configuration file, or go on with an interrupted run
    Train(train::TrainArgs),
    /// Score a checkpoint on a split: the RIS table and the GRES table
    Eval(eval::EvalArgs),
    /// Find what a sentence means in a picture: mask, overlay and JSON
    Predict(predict::PredictArgs),
    /// Train and score several configurations on the same synthetic data: one table of ablations
    Ablate(ablate::AblateArgs),
    /// Write a synthetic dataset in Ref-ZOM's on-disk layout
    Synth(synth::SynthArgs),
    /// Turn a PyTorch checkpoint of the authors' code into a checkpoint folder, and back
    Convert(convert::ConvertArgs),
    /// Check, count, show, convert and split data sets
    Data(data::DataArgs),
    /// Describe a checkpoint, configuration or preset: parameters, FLOPs and activation memory by part
    Info(info::InfoArgs),
    /// Measure a mask or a training step: time by part, speed, memory
    Bench(bench::BenchArgs),
    /// Check a device: every operation, the reference cases and some training steps, against the CPU
    Selftest(selftest::SelftestArgs),
}

/// Reads the command line; a fault in it ends the program with a message and exit code 2.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// A folder whose name is written into files: text.
pub(crate) fn folder() -> impl TypedValueParser<Value = PathBuf> {
    let text = |name: OsString| name.into_string().map(PathBuf::from);
    OsStringValueParser::new()
        .try_map(move |name| text(name).map_err(|_| "the name is not UTF-8; choose another"))
}

/// `--seed -1` is a value out of range, not an unknown option `-1`.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| command.allow_negative_numbers(true))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
        let wrong = super::command()
            .try_get_matches_from(["dmmi-cli", "synth", "--out", "x", "--seed", "-1"]);
        assert!(wrong.is_err_and(|error| error.to_string().contains("--seed")));
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_no_file_can_name_is_refused_under_its_option() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"a\xff");
        for command in [["train", "--recipe=quickstart"], ["quickstart", "-q"], ["ablate", "-q"]] {
            let args = ["dmmi-cli"].into_iter().chain(command).chain(["--out"]);
            let args = args.map(std::ffi::OsStr::new).chain([name]);
            let message = super::command().try_get_matches_from(args).unwrap_err().to_string();
            assert!(message.contains("--out") && message.contains("not UTF-8"), "{message}");
        }
    }
}
