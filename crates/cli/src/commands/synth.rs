//! `dmmi-cli synth`: a synthetic dataset in Ref-ZOM's on-disk layout.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use dmmi_train::TrainConfig;
use refzom_dataset::DataError;
use refzom_dataset::synthetic::{KindCounts, SyntheticConfig, SyntheticRefZom, SyntheticSummary};

use crate::exit::{Interrupted, OrBadInput};
use crate::progress::bar;

/// Arguments of `synth`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli synth --out data/shapes
  dmmi-cli synth --out data/large --size 128 --train 10000 --val 500 --test 1000 --seed 7

The same settings give the same bytes. The folder is what `train` and `eval` read: refs(synthetic).p,
instances.json, images/, and beside them vocab.txt, config.json and meaning.json.")]
pub(crate) struct SynthArgs {
    /// Where to write; must not exist yet, or be empty
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Settings to start from
    #[arg(long, value_enum, default_value_t = Preset::Quickstart)]
    pub(crate) preset: Preset,
    /// Pictures of the train split
    #[arg(long, value_name = "N")]
    pub(crate) train: Option<usize>,
    /// Pictures of the val split
    #[arg(long, value_name = "N")]
    pub(crate) val: Option<usize>,
    /// Pictures of the test split
    #[arg(long, value_name = "N")]
    pub(crate) test: Option<usize>,
    /// Sentences about each picture
    #[arg(long, value_name = "N")]
    pub(crate) sentences: Option<usize>,
    /// Picture size in pixels: S, or WIDTHxHEIGHT
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) size: Option<(u32, u32)>,
    /// Seed of every random choice
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// Named settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// What `quickstart` trains on
    Quickstart,
    /// A few pictures, made in a second: to try a pipeline
    Mini,
}

impl Preset {
    /// The settings it stands for.
    pub(crate) fn config(self) -> SyntheticConfig {
        match self {
            Self::Quickstart => SyntheticConfig::quickstart(),
            Self::Mini => SyntheticConfig {
                train_scenes: 8,
                val_scenes: 3,
                test_scenes: 8,
                ..SyntheticConfig::quickstart()
            },
        }
    }
}

/// A training of a few steps, for the data of [`Preset::Mini`].
pub(crate) fn in_miniature(train: &mut TrainConfig, epochs: usize) {
    train.schedule.epochs = epochs;
    train.schedule.batch_size = 8;
    train.schedule.warmup_steps = train.schedule.warmup_steps.min(2);
    train.eval.batch_size = 8;
    if let Some(pretrain) = &mut train.pretrain {
        (pretrain.steps, pretrain.batch_size) = (4, 4);
    }
}

/// Runs `synth`.
///
/// # Errors
/// Bad input: settings that cannot be drawn, or a folder that holds something.
pub(crate) fn run(args: SynthArgs) -> Result<()> {
    let mut config = args.preset.config();
    config.train_scenes = args.train.unwrap_or(config.train_scenes);
    config.val_scenes = args.val.unwrap_or(config.val_scenes);
    config.test_scenes = args.test.unwrap_or(config.test_scenes);
    config.sentences_per_scene = args.sentences.unwrap_or(config.sentences_per_scene);
    config.seed = args.seed.unwrap_or(config.seed);
    if let Some((width, height)) = args.size {
        (config.width, config.height) = (width, height);
    }
    let out = args.out;
    let stop = super::train::stop_on_ctrl_c()?;
    let summary = make(config, &out, &stop)?;
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{}", table(&summary))
        .and_then(|()| writeln!(stdout, "\nwritten to {}", out.display()))
        .context("cannot write to standard output")
}

/// Writes the dataset with a progress bar on the terminal, until `stop` is set.
///
/// # Errors
/// As [`SyntheticRefZom::write_to`], as bad input where the settings or the folder are at fault. Interrupted: `stop`.
pub(crate) fn make(
    config: SyntheticConfig,
    out: &Path,
    stop: &AtomicBool,
) -> Result<SyntheticSummary> {
    if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))
            .or_bad_input()?;
    }
    let bar = bar(config.scenes() as u64);
    bar.set_prefix("pictures");
    let synthetic = SyntheticRefZom::new(config).or_bad_input()?;
    let summary = synthetic.write_with_progress(out, |done, _| {
        bar.set_position(done as u64);
        if stop.load(Ordering::Relaxed) { Err(DataError::Stopped) } else { Ok(()) }
    });
    bar.finish_and_clear();
    if let Err(DataError::Stopped) = summary {
        let text = "no picture is kept; the same command makes them anew".to_owned();
        return Err(anyhow::Error::new(Interrupted(text)));
    }
    Ok(summary?)
}

/// Pictures and sentences by split and kind.
fn table(summary: &SyntheticSummary) -> String {
    let mut text = format!(
        "{:<8}{:>10}{:>11}{:>8}{:>8}{:>8}\n",
        "split", "pictures", "sentences", "one", "many", "zero"
    );
    let mut line = |name: &str, scenes: usize, kinds: KindCounts| {
        text += &format!(
            "{name:<8}{scenes:>10}{:>11}{:>8}{:>8}{:>8}\n",
            kinds.total(),
            kinds.one,
            kinds.many,
            kinds.zero
        );
    };
    let mut all = (0, KindCounts::default());
    for split in ["train", "val", "test"] {
        let scenes = summary.scenes.get(split).copied().unwrap_or(0);
        let kinds = summary.sentences.get(split).copied().unwrap_or_default();
        line(split, scenes, kinds);
        all.0 += scenes;
        all.1.one += kinds.one;
        all.1.many += kinds.many;
        all.1.zero += kinds.zero;
    }
    line("all", all.0, all.1);
    let misses: Vec<String> =
        summary.near_misses.iter().map(|(changed, count)| format!("{changed} {count}")).collect();
    text += &format!(
        "\n{} objects, {} records, {} vocabulary pieces\nzero-target sentences are near misses; changed: {}\n",
        summary.objects,
        summary.refs,
        summary.vocab_size,
        if misses.is_empty() { "none".to_owned() } else { misses.join(", ") }
    );
    text
}

pub(crate) fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let side = |part: &str| {
        part.trim()
            .parse::<u32>()
            .map_err(|_| "give S or WIDTHxHEIGHT, as in 96 or 128x96".to_owned())
    };
    match text.split_once(['x', 'X']) {
        Some((width, height)) => Ok((side(width)?, side(height)?)),
        None => side(text).map(|s| (s, s)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_side_or_two() {
        assert_eq!(parse_size("96"), Ok((96, 96)));
        assert_eq!(parse_size("128x96"), Ok((128, 96)));
        for text in ["", "x", "a", "1x", "-4", "1x2x3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn presets_can_be_drawn() {
        for preset in [Preset::Quickstart, Preset::Mini] {
            preset.config().validate().unwrap();
        }
    }

    #[test]
    fn table_sums_splits() {
        let kinds = KindCounts { one: 6, many: 3, zero: 1 };
        let summary = SyntheticSummary {
            scenes: [("train".to_owned(), 4), ("test".to_owned(), 2)].into(),
            sentences: [("train".to_owned(), kinds), ("test".to_owned(), kinds)].into(),
            ..SyntheticSummary::default()
        };
        let text = table(&summary);
        assert!(text.contains("all              6         20      12       6       2"), "{text}");
    }
}
