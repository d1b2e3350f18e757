//! `dmmi-cli data split`: a val split for data that comes without one.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use refzom_dataset::Carving;

use super::source::SourceArgs;

/// Arguments of `data split`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli data split data/refzom --out 'data/refzom/refs(final-val).p'
  dmmi-cli data split data/refzom --share 0.1 --seed 7 --out data/refzom/refs-val.p

Whole pictures move: no picture is in both splits. Only the names of splits change; the original file stays as it is.
Use the new file with --refs, which counts from the data set's folder (--refs refs-val.p). A configuration with `val = { carve = SHARE, seed = N }` carves the same pictures without a file.")]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Annotation file to write, in the format of the original; must not exist yet
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Share of the pictures that move, between 0 and 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = parse_part)]
    share: f64,
    /// Seed of the choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Split that gives
    #[arg(long, value_name = "NAME", default_value = "train")]
    from: String,
    /// Split that takes
    #[arg(long, value_name = "NAME", default_value = "val")]
    to: String,
}

/// Runs `data split`.
///
/// # Errors
/// Bad input: the data set cannot be read, has the new split already, or pictures in several splits.
pub(crate) fn run(args: SplitArgs) -> Result<()> {
    let SplitArgs { source, out, share, seed, from, to } = args;
    let carving = Carving { from, to, share, seed };
    let carved = carving.write(&source.config("all"), &out)?;
    let mut text = format!(
        "pictures moved from {} to {}: {} (records: {})\n",
        carving.from, carving.to, carved.pictures, carved.records
    );
    for (split, records) in &carved.splits {
        text += &format!("{split:<8}{records:>9} records\n");
    }
    text += &format!("written to {}\n", out.display());
    write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
}

/// A share that leaves something on both sides.
fn parse_part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("give a number between 0 and 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lie_between_none_and_all() {
        assert_eq!(parse_part("0.1"), Ok(0.1));
        for wrong in ["0", "1", "2", "-0.1", "nan", "inf", "tenth", ""] {
            assert!(parse_part(wrong).is_err(), "{wrong}");
        }
    }
}
