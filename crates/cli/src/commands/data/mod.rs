//! `dmmi-cli data`: look at, check, convert and split data sets. One file a subcommand; the logic lies in `refzom-dataset`.

mod build_zom;
mod convert;
mod doctor;
mod gallery;
pub(crate) mod source;
mod split;
mod stats;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Arguments of `data`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

/// What to do with the data.
#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Check everything a training run would stumble over, and say what to fix
    Doctor(doctor::DoctorArgs),
    /// Count images, objects, expressions and words, by kind of target and split
    Stats(stats::StatsArgs),
    /// Write one HTML file that shows pictures, masks and sentences
    Gallery(gallery::GalleryArgs),
    /// Write the data set in another format
    Convert(convert::ConvertArgs),
    /// Carve a val split out of train, by image
    Split(split::SplitArgs),
    /// Build a set like Ref-ZOM from COCO instances, captions and RefCOCO-style files
    BuildZom(build_zom::BuildZomArgs),
}

/// Runs the chosen subcommand.
///
/// # Errors
/// As the subcommand.
pub(crate) fn run(args: DataArgs) -> Result<()> {
    match args.command {
        DataCommand::Doctor(args) => doctor::run(args),
        DataCommand::Stats(args) => stats::run(args),
        DataCommand::Gallery(args) => gallery::run(args),
        DataCommand::Convert(args) => convert::run(args),
        DataCommand::Split(args) => split::run(args),
        DataCommand::BuildZom(args) => build_zom::run(args),
    }
}
