//! `dmmi-cli ablate`: several configurations on the same synthetic data, one table.

mod page;
mod plan;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use clap::Args;
use dmmi_train::{
    Ended, Inventory, Observers, RunLog, RunOptions, Split, Tables, evaluate, load_model, recipes,
};
use refzom_dataset::DatasetConfig;
use serde::{Deserialize, Serialize};

use super::{synth, train};
use crate::device::{self, DeviceChoice};
use crate::exit::{Interrupted, OrBadInput};
use crate::file;
use crate::out::tell;
use crate::progress::{Console, bar, since};
use plan::{Entry, Plan, Settings};

/// File of the table that the next command in the folder goes on from.
const JSON: &str = "ablation.json";

/// Arguments of `ablate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli ablate --list                             what there is
  dmmi-cli ablate                                    all of them, at the quickstart's size and schedule
  dmmi-cli ablate dmmi no_mba lavt --epochs 1 --pictures 500
  dmmi-cli ablate dmmi mine.toml                     a configuration of your own beside it
  dmmi-cli ablate --mini --out /tmp/mini             seconds; proves the pipeline, compares nothing

Every run sees the same data, seed and schedule. Interrupted? The same command goes on where it stopped.
Writes data/, a folder a run, and ablation.{txt,md,json,html} into --out.")]
pub(crate) struct AblateArgs {
    /// Names of ablations, or configuration files (.toml); all ablations if none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Where everything goes; made if missing
    #[arg(long, short, value_name = "DIR", default_value = "runs/ablation", value_parser = crate::args::folder())]
    pub(crate) out: PathBuf,
    /// Passes over the training split [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) epochs: Option<u32>,
    /// Training pictures to make [default: the quickstart's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) pictures: Option<u32>,
    /// A few pictures and steps only: whether everything works, in seconds
    #[arg(long, conflicts_with_all = ["epochs", "pictures"])]
    pub(crate) mini: bool,
    /// Seed of data and training
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) seed: u64,
    /// Change one value of every configuration, typed as in TOML; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Print the ablations that ship with this program and stop
    #[arg(long)]
    pub(crate) list: bool,
    /// No progress bar: one line an epoch
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// What one run gave; `result.json` of its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    /// The configuration, to notice that it changed.
    configuration: String,
    /// Numbers in all parameters.
    parameters: usize,
    /// Optimiser steps.
    steps: usize,
    /// Seconds in training steps, those before an interruption included.
    training_seconds: f64,
    /// Scores on the test split at model size.
    test: Tables,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    name: String,
    title: String,
    /// The row whose run this one shares, because the configurations are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_as: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Everything that is written at the end.
#[derive(Serialize)]
struct Written<'a> {
    settings: &'a Settings,
    device: String,
    data: String,
    rows: &'a [Row],
}

/// Runs `ablate`.
///
/// # Errors
/// Bad input: an unknown name, a configuration that is refused, a folder that holds something else. Interrupted: Ctrl-C.
pub(crate) fn run(args: AblateArgs) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    if args.list {
        return write!(stdout, "{}", list()).context("cannot write to standard output");
    }
    let clock = Instant::now();
    let device = args.device.open()?;
    let plan = Plan::new(&args)?;
    plan.claim()?;
    let stop = train::stop_on_ctrl_c()?;
    if !plan.data.exists() {
        tell!("making {} synthetic pictures in {}", plan.synthetic.scenes(), plan.data.display());
        synth::make(plan.synthetic.clone(), &plan.data, &stop)?;
    }
    // All are read before any is run: a damaged one is said at once.
    let before = plan.entries.iter().map(Entry::done).collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<Row> = Vec::new();
    for (i, (entry, before)) in plan.entries.iter().zip(before).enumerate() {
        let place = format!("{}/{}  {}", i + 1, plan.entries.len(), entry.name);
        let twin = plan.entries[..i].iter().position(|other| other.key == entry.key);
        let row = |same_as, outcome| Row {
            name: entry.name.clone(),
            title: entry.title.clone(),
            same_as,
            outcome,
        };
        if let Some(twin) = twin {
            let name = plan.entries[twin].name.clone();
            tell!("{place}: the same configuration as {name}, taken from there");
            rows.push(row(Some(name), rows[twin].outcome.clone()));
            continue;
        }
        let outcome = match before {
            Some(outcome) => {
                tell!("{place}: done before");
                outcome
            }
            None => {
                tell!("{place}: {}", entry.title);
                one(entry, &device, &stop, args.quiet)?
            }
        };
        rows.push(row(None, outcome));
    }
    // Rows of earlier commands with the same settings stay.
    rows.extend(
        earlier(&plan.out)?
            .into_iter()
            .filter(|old| !plan.entries.iter().any(|entry| entry.name == old.name)),
    );
    let written = Written {
        settings: &plan.settings,
        device: device::name(&device),
        data: plan.data.display().to_string(),
        rows: &rows,
    };
    let text = table::text(&rows);
    for (name, content) in [
        ("ablation.txt", text.clone()),
        ("ablation.md", table::markdown(&rows)),
        (JSON, serde_json::to_string_pretty(&written)?),
        ("ablation.html", page::render(&written)),
    ] {
        file::save(&plan.out.join(name), content.as_bytes())?;
    }
    write!(
        stdout,
        "\n{text}\ntook {}; written to {}\n",
        since(clock),
        plan.out.join("ablation.{txt,md,json,html}").display()
    )
    .context("cannot write to standard output")
}

/// The rows that an earlier command wrote into the folder.
fn earlier(out: &Path) -> Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Table {
        rows: Vec<Row>,
    }
    let path = out.join(JSON);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let damaged = || format!("{} is damaged; delete it, the runs are kept", path.display());
    let text = std::fs::read_to_string(&path).with_context(damaged).or_bad_input()?;
    let table: Table = serde_json::from_str(&text).with_context(damaged).or_bad_input()?;
    Ok(table.rows)
}

/// Trains and scores one configuration, going on where an earlier command stopped.
fn one(entry: &Entry, device: &Device, stop: &Arc<AtomicBool>, quiet: bool) -> Result<Outcome> {
    let folder = &entry.config.out;
    let mut config = entry.config.clone();
    device::set_parts(&mut config, device);
    let resume = folder.join("checkpoints").exists();
    let options = RunOptions { device: device.clone(), resume, stop: stop.clone() };
    let trained = {
        let (mut console, mut log) = (Console::new(quiet, device), RunLog::new(folder));
        let mut observers = Observers(vec![&mut log, &mut console]);
        dmmi_train::train(config, &options, &mut observers)?
    };
    let interrupted = |what: String| {
        let text = format!("{what} of {}; the same command goes on from there", entry.name);
        Err(anyhow::Error::new(Interrupted(text)))
    };
    match trained.ended {
        Ended::Interrupted => return interrupted(format!("step {}", trained.step)),
        Ended::Minutes if trained.step == 0 => {
            return interrupted("stop.minutes over before the first step".to_owned());
        }
        _ => {}
    }
    let loaded = load_model(&trained.checkpoint, device)?;
    let data = entry.config.data.test.clone().unwrap_or_else(|| DatasetConfig {
        split: "test".to_owned(),
        ..entry.config.data.train.clone()
    });
    let split = Split::for_model(&data, &loaded.file, entry.config.eval.batch_size)?;
    let progress = bar(split.len() as u64);
    progress.set_prefix("test");
    let evaluation = evaluate(&loaded.model, device, &split, false, &mut |done, _| {
        progress.set_position(done as u64);
        if stop.load(Ordering::Relaxed) { Err(dmmi_train::Error::Interrupted) } else { Ok(()) }
    });
    progress.finish_and_clear();
    let evaluation = match evaluation {
        Err(dmmi_train::Error::Interrupted) => return interrupted("scoring".to_owned()),
        other => other.map_err(|error| error.of_checkpoint(&loaded.path))?,
    };
    let test = evaluation.at_model_size.get("all").cloned();
    let outcome = Outcome {
        configuration: entry.key.clone(),
        parameters: Inventory::of(&loaded.store).total(),
        steps: trained.step,
        training_seconds: training_seconds(&folder.join("steps.csv")),
        test: test.context("the test split gave no scores")?,
    };
    file::save(&folder.join(plan::RESULT), &serde_json::to_vec_pretty(&outcome)?)?;
    Ok(outcome)
}

/// Sum of the column `seconds` of a run's `steps.csv`.
fn training_seconds(steps: &Path) -> f64 {
    let text = std::fs::read_to_string(steps).unwrap_or_default();
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split(',').position(|name| name == "seconds") else { return 0.0 };
    lines.filter_map(|line| line.split(',').nth(column)?.parse::<f64>().ok()).sum()
}

/// Name and title of every ablation.
fn list() -> String {
    let line = |name: &str| {
        let title = recipes::ablation(name).map(plan::title).unwrap_or_default();
        format!("{name:<18}{title}\n")
    };
    recipes::ABLATIONS.into_iter().map(line).collect()
}
