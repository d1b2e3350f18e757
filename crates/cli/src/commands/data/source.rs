//! Which data set a `data` command reads, and where it writes: the arguments they share.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use refzom_dataset::{Annotations, Dataset, DatasetConfig, Format, Rejected};

use crate::progress::bar;

/// Where a data set lies.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Folder of the data set, or its annotation file
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) files: FileArgs,
}

/// What a data set's files are and where they lie, if their names do not tell.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileArgs {
    /// What the annotations are, if their names do not tell: refer (RefCOCO/+/g), ref_zom, grefcoco, grefcoco_pickle, jsonl, csv
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// The file with the expressions, if the folder holds several; relative to DIR
    #[arg(long, value_name = "FILE")]
    pub(crate) refs: Option<PathBuf>,
    /// COCO's instances file, if it is not DIR/instances.json; relative to DIR
    #[arg(long, value_name = "FILE")]
    pub(crate) instances: Option<PathBuf>,
    /// Image folder, if it is not images, trainval2014 or train2014 in DIR; relative to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
}

impl FileArgs {
    /// A split of the data set in `dir`, as the library's readers want it.
    pub(crate) fn config(&self, dir: &Path, split: &str) -> DatasetConfig {
        DatasetConfig {
            format: self.format,
            refs: self.refs.clone(),
            instances: self.instances.clone(),
            images: self.images.clone(),
            ..DatasetConfig::new(dir, split)
        }
    }
}

impl SourceArgs {
    /// As the library's readers want it.
    pub(crate) fn config(&self, split: &str) -> DatasetConfig {
        self.files.config(&self.dir, split)
    }

    /// Reads a split, and what had to be left out.
    ///
    /// # Errors
    /// Bad input.
    pub(crate) fn load(&self, split: &str) -> Result<(Dataset, Vec<Rejected>)> {
        Ok(Dataset::load(&self.config(split))?)
    }

    /// Reads everything the annotation files hold, faults and all.
    ///
    /// # Errors
    /// Bad input.
    pub(crate) fn open(&self) -> Result<Annotations> {
        Ok(Annotations::open(&self.config("all"))?)
    }
}

/// A share of a whole, none and all among them.
///
/// # Errors
/// It is no number, or not from 0 to 1.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a number from 0 to 1".to_owned()),
    }
}

/// A bar that follows work in several parts: the library names the part, how much is done, and of how much.
pub(crate) struct PartBar {
    bar: ProgressBar,
    part: &'static str,
}

impl PartBar {
    /// Nothing is shown before the first part.
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::hidden(), part: "" }
    }

    /// Shows the state of the work.
    pub(crate) fn show(&mut self, part: &'static str, done: usize, total: usize) {
        if part != self.part {
            self.bar.finish_and_clear();
            self.bar = bar(total as u64);
            self.bar.set_prefix(part);
            self.part = part;
        }
        // Counting is cheaper than drawing.
        if done.is_multiple_of(64) || done == total || total < 1000 {
            self.bar.set_position(done as u64);
        }
    }
}

impl Drop for PartBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A file, or standard output for `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputPath {
    /// `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl FromStr for OutputPath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_from_none_to_all() {
        assert_eq!((parse_share("0"), parse_share("1")), (Ok(0.0), Ok(1.0)));
        for wrong in ["1.5", "2", "-0.1", "nan", "all"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
