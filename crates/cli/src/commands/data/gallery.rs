//! `dmmi-cli data gallery`: one HTML file with pictures, masks and sentences, to be browsed without a server.

mod page;
mod pictures;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use refzom_dataset::TargetKind;

use super::source::SourceArgs;
use crate::exit::bad_input;
use crate::out::tell;
use crate::report::save;

/// Arguments of `data gallery`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli data gallery data/coco33 --out gallery.html
  dmmi-cli data gallery data/refzom --split test --kind zero --limit 500 --seed 7 --out zero.html

The page needs no network and no other file. In it: filter by number of targets, split, source and words;
click a picture to enlarge it. 200 expressions on photos of 360 pixels make about 5 MB.")]
pub(crate) struct GalleryArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Where to write the page
    #[arg(long, short, value_name = "FILE", default_value = "gallery.html")]
    out: PathBuf,
    /// One split only: train, val, test (testA and testB too), testA, testB
    #[arg(long, value_name = "NAME", default_value = "all")]
    split: String,
    /// Only expressions with this number of targets
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Most expressions to show, drawn at random; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
    /// Seed of the drawing: the same seed shows the same expressions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Longer side of the pictures in the page, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 360, value_parser = clap::value_parser!(u32).range(32..=4096))]
    size: u32,
}

/// Number of targets, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Nothing is meant
    Zero,
    /// One object
    One,
    /// Several objects
    Many,
}

impl From<Kind> for TargetKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Zero => Self::Zero,
            Kind::One => Self::One,
            Kind::Many => Self::Many,
        }
    }
}

/// Runs `data gallery`.
///
/// # Errors
/// Bad input: the data set cannot be read or holds nothing of the kind. Or the page cannot be written.
pub(crate) fn run(args: GalleryArgs) -> Result<()> {
    let (dataset, rejected) = args.source.load(&args.split)?;
    let whole = dataset.len();
    let kind = args.kind.map(TargetKind::from);
    let dataset = dataset.filtered(|sample| kind.is_none_or(|kind| sample.kind == kind));
    if dataset.is_empty() {
        let kind = kind.map_or_else(String::new, |kind| format!(" of kind {kind}"));
        return Err(bad_input!(
            "{}: split {:?} has no expression{kind}; leave out --kind, or choose another",
            args.source.dir.display(),
            args.split
        ));
    }
    let count = if args.limit == 0 { dataset.len() } else { args.limit };
    let dataset = dataset.drawn(count, args.seed);
    let shown = pictures::show(&dataset, args.size)?;
    let facts = page::Facts {
        title: args.source.dir.display().to_string(),
        shown: dataset.len(),
        of: whole,
        seed: args.seed,
    };
    save(&args.out, &page::render(&facts, &shown)?)?;
    for fault in &shown.faults {
        tell!("not shown: {fault}");
    }
    if !rejected.is_empty() {
        tell!(
            "{} faulty records or sentences are not shown; `dmmi-cli data doctor` lists them",
            rejected.len()
        );
    }
    tell!("{} expressions written to {}", shown.samples.len(), args.out.display());
    Ok(())
}
