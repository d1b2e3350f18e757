//! `dmmi-cli data doctor`: everything a training run would stumble over, before it does.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use refzom_dataset::{Annotations, DatasetConfig, Doctor, Severity};

use super::source::{OutputPath, PartBar, SourceArgs};
use crate::exit::bad_input;
use crate::out::{is_unread, say};
use crate::report::save;

/// Arguments of `data doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli data doctor data/coco33
  dmmi-cli data doctor data/refzom --against data/refcoco --against data/refcocog --json faults.json

Exit codes: 0 no errors (warnings and notes may be printed), 2 errors: files that cannot be read, records or images that
training would leave out, no split to train on, or images that are trained on and tested on.")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Another data set (a folder, or its annotation file) whose val and test images must not be in this one's train split
    #[arg(long, value_name = "DIR")]
    against: Vec<PathBuf>,
    /// Do not decode the images: quick, but cut-off files and wrong sizes go unseen
    #[arg(long)]
    no_decode: bool,
    /// Examples to show of every fault
    #[arg(long, value_name = "N", default_value_t = 3)]
    examples: usize,
    /// Threads that decode images [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Write the findings as json; `-` prints them instead of the text
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    json: Option<OutputPath>,
}

/// Runs `data doctor`.
///
/// # Errors
/// Bad input: the data set cannot be read, or has errors.
pub(crate) fn run(args: DoctorArgs) -> Result<()> {
    let annotations = args.source.open()?;
    let mut doctor =
        Doctor { decode: !args.no_decode, examples: args.examples, ..Doctor::default() };
    if let Some(threads) = args.threads {
        doctor.threads = usize::from(threads);
    }
    for dir in &args.against {
        let other = Annotations::open(&DatasetConfig::new(dir, "all"))
            .with_context(|| format!("--against {}", dir.display()))?;
        doctor.against.push((dir.display().to_string(), other));
    }
    let mut bar = PartBar::new();
    let diagnosis =
        doctor.examine(&annotations, |part, done, total| bar.show(part, done, total))?;
    drop(bar);

    let json = || serde_json::to_string_pretty(&diagnosis).context("cannot write json");
    if let Some(OutputPath::File(path)) = &args.json {
        save(path, &json()?)?;
    }
    let text = match args.json {
        Some(OutputPath::Stdout) => json()?,
        _ => diagnosis.to_string().trim_end().to_owned(),
    };
    // A reader that has seen enough does not change the verdict.
    if let Err(error) = say!("{text}")
        && !is_unread(&error)
    {
        return Err(error);
    }
    let warnings = if args.strict { diagnosis.kinds(Severity::Warning) } else { 0 };
    match diagnosis.kinds(Severity::Error) + warnings {
        0 => Ok(()),
        kinds => Err(bad_input!(
            "{}: {kinds} {} of fault to mend before training",
            args.source.dir.display(),
            if kinds == 1 { "kind" } else { "kinds" }
        )),
    }
}
