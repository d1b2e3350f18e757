//! `dmmi-cli data convert`: a data set in another format.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use refzom_dataset::{Export, Format, ImagePlacement, MaskForm};

use super::source::{PartBar, SourceArgs};
use crate::exit::bad_input;

/// Arguments of `data convert`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli data convert data/coco33 --to grefcoco --out data/coco33-g
  dmmi-cli data convert mine/labels.csv --to ref_zom --out mine-zom --place-images copy
  dmmi-cli data convert data/refcoco --to jsonl --masks png --out refcoco-lines

Formats: refer (RefCOCO's refs(unc).p), ref_zom (refs(final).p), grefcoco (grefs(unc).json), grefcoco_pickle, jsonl, csv.
Pickles are of protocol 2, as the originals: Python 2 and 3 read them. What the new format cannot hold is listed; if that
includes expressions (zero or several targets in RefCOCO's format), nothing is written without --allow-loss.")]
pub(crate) struct ConvertArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Format to write
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// Folder to write; must not exist yet, or be empty
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// How masks are written in jsonl and csv; the other formats have one form each [default: keep]
    #[arg(long, value_enum)]
    masks: Option<Masks>,
    /// What happens to the images
    #[arg(long, value_enum, default_value_t = Images::Link)]
    place_images: Images,
    /// Go on even if the new format cannot hold all expressions
    #[arg(long)]
    allow_loss: bool,
}

/// Form of masks, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Masks {
    /// Polygons stay polygons, run lengths stay run lengths
    Keep,
    /// Compressed run lengths, as pycocotools writes them
    Rle,
    /// A PNG an object, in the folder masks
    Png,
}

/// Place of images, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Images {
    /// A symbolic link to their folder
    Link,
    /// Copies of those that expressions speak of
    Copy,
    /// They stay where they are; name their folder with --images when reading
    Leave,
}

/// Runs `data convert`.
///
/// # Errors
/// Bad input: the data set cannot be read, the folder holds something, or expressions would be lost.
pub(crate) fn run(args: ConvertArgs) -> Result<()> {
    if args.masks.is_some() && !matches!(args.to, Format::Jsonl | Format::Csv) {
        return Err(bad_input!(
            "--masks: {} has one form of masks; leave it out, or write jsonl or csv",
            args.to
        ));
    }
    let annotations = args.source.open()?;
    let export = Export {
        masks: match args.masks.unwrap_or(Masks::Keep) {
            Masks::Keep => MaskForm::Keep,
            Masks::Rle => MaskForm::Rle,
            Masks::Png => MaskForm::Png,
        },
        images: match args.place_images {
            Images::Link => ImagePlacement::Link,
            Images::Copy => ImagePlacement::Copy,
            Images::Leave => ImagePlacement::Leave,
        },
        allow_loss: args.allow_loss,
        ..Export::new(args.to)
    };
    let mut bar = PartBar::new();
    let done =
        export.write(&annotations, &args.out, |part, done, total| bar.show(part, done, total))?;
    drop(bar);
    let mut text =
        format!("{} records written to {} ({})\n", done.records, done.file.display(), args.to);
    if done.losses.is_empty() {
        text += "nothing was lost\n";
    } else {
        text += "not held by the new format:\n";
        for (loss, count) in done.losses.iter() {
            text += &format!("{count:>8}  {}\n", loss.label_of(count));
        }
    }
    write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
}
