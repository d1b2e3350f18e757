//! `dmmi-cli quickstart`: data, training, evaluation and report in one command, with nothing to download.

mod gallery;
mod page;
mod plan;
mod select;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use dmmi_train::{Ended, Evaluation, Observers, Outcome, RunLog, RunOptions, Split};
use refzom_dataset::DatasetConfig;

use super::predict::{self, engine::Engine};
use super::{synth, train};
use crate::device::{self, Arithmetic, DeviceChoice};
use crate::exit::Interrupted;
use crate::file;
use crate::out::{shell, tell};
use crate::progress::{Console, bar, duration, percent};
use crate::report::{self, ReportData};
use plan::{Plan, Settings, State};

/// Arguments of `quickstart`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli quickstart
  dmmi-cli quickstart --out runs/long --minutes 30
  dmmi-cli quickstart --mini --out /tmp/mini        seconds; proves the pipeline, learns nothing

Interrupted (Ctrl-C, or killed)? The same command again goes on where it stopped. A complete run is never
overwritten. Writes data/, checkpoints/, test.json, predictions/ and report.html into --out.")]
pub(crate) struct QuickstartArgs {
    /// Where everything goes; made if missing
    #[arg(long, short, value_name = "DIR", default_value = "runs/quickstart", value_parser = crate::args::folder())]
    pub(crate) out: PathBuf,
    /// A few pictures and steps only: whether everything works, in seconds
    #[arg(long)]
    pub(crate) mini: bool,
    /// Length of the training schedule: 10 is made for at most 10 minutes on 2 CPU cores, 20 trains twice as long
    #[arg(long, value_name = "M", default_value_t = 10.0, value_parser = parse_minutes, conflicts_with = "mini")]
    pub(crate) minutes: f64,
    /// Seed of data and training
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) seed: u64,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// No progress bar: one line an epoch
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Runs `quickstart`.
///
/// # Errors
/// Bad input: a folder that holds something else, or a complete run. Interrupted: Ctrl-C.
pub(crate) fn run(args: QuickstartArgs) -> Result<()> {
    let clock = Instant::now();
    let device = args.device.open()?;
    let settings = Settings { mini: args.mini, minutes: args.minutes, seed: args.seed };
    let mut plan = Plan::new(&args.out, settings)?;
    if device.is_cuda() {
        // It is not to wait for the next batch.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        plan.train.data.workers = cores.min(4);
    }
    let resume = match plan.claim()? {
        State::New => false,
        State::Begun => {
            tell!("going on with the unfinished run in {}", args.out.display());
            true
        }
    };
    device::set_parts(&mut plan.train, &device);

    let stop = train::stop_on_ctrl_c()?;
    let data = plan.data_dir();
    if !data.exists() {
        tell!("1/4  making {} synthetic pictures in {}", plan.synthetic.scenes(), data.display());
        synth::make(plan.synthetic.clone(), &data, &stop)?;
    }
    tell!("2/4  training from scratch");
    let options = RunOptions { device: device.clone(), resume, stop: stop.clone() };
    let outcome = {
        let mut console = Console::new(args.quiet, &device);
        let mut log = RunLog::new(&args.out);
        dmmi_train::train(
            plan.train.clone(),
            &options,
            &mut Observers(vec![&mut log, &mut console]),
        )?
    };
    if outcome.ended == Ended::Interrupted {
        let text = format!("step {} is saved; the same command goes on from there", outcome.step);
        return Err(anyhow::Error::new(Interrupted(text)));
    }

    tell!("3/4  scoring the test scenes, which training never saw");
    let engine = Engine::load(&outcome.checkpoint, &device, Arithmetic::F32)?;
    let test = engine.open(&DatasetConfig::new(&data, "test"), plan.train.eval.batch_size)?;
    let evaluation = score(&engine, &test, &stop)?;
    let json = serde_json::to_vec_pretty(&evaluation).context("cannot write the scores")?;
    file::save(&args.out.join("test.json"), &json)?;

    tell!("4/4  report and example");
    let done = Done {
        plan: &plan,
        outcome: &outcome,
        evaluation: &evaluation,
        engine: &engine,
        device: device::name(&device),
        seconds: clock.elapsed().as_secs_f64(),
        resumed: resume,
    };
    let example = example(&evaluation);
    let page = page::build(&done, test.dataset(), example.as_ref())?;
    if let Some(example) = &example {
        predict::answer_to(
            &engine,
            &done.device,
            &example.image,
            &example.texts,
            &plan.predictions_dir(),
        )?;
    }
    if stop.load(Ordering::Relaxed) {
        return Err(unreported());
    }
    // Last: the report's presence says that the run is complete.
    report::write(&page, &plan.report())?;
    finish(&page, &plan, example.as_ref(), clock.elapsed())
}

/// Everything a report is made from.
struct Done<'a> {
    plan: &'a Plan,
    outcome: &'a Outcome,
    evaluation: &'a Evaluation,
    engine: &'a Engine,
    device: String,
    seconds: f64,
    resumed: bool,
}

fn score(engine: &Engine, split: &Split, stop: &AtomicBool) -> Result<Evaluation> {
    let bar = bar(split.len() as u64);
    bar.set_prefix("test");
    let evaluation = engine.evaluate(split, |done| {
        bar.set_position(done as u64);
        if stop.load(Ordering::Relaxed) { Err(dmmi_train::Error::Interrupted) } else { Ok(()) }
    });
    bar.finish_and_clear();
    match evaluation {
        Err(dmmi_train::Error::Interrupted) => Err(unreported()),
        other => Ok(other?),
    }
}

/// The end that the user asked for after the training.
fn unreported() -> anyhow::Error {
    let text = "the training is complete; the same command goes on with scores and report";
    anyhow::Error::new(Interrupted(text.to_owned()))
}

/// A picture and sentences that show the program's use.
struct Example {
    image: PathBuf,
    texts: Vec<String>,
}

/// The first test picture that has a well answered targeted sentence and a rightly refused one; else the
/// first picture with any sentence.
fn example(evaluation: &Evaluation) -> Option<Example> {
    let records = &evaluation.records;
    let iou = |r: &dmmi_train::Record| r.original.unwrap_or(r.model).iou();
    let good = |r: &&dmmi_train::Record| r.kind != "zero" && iou(r) >= 0.8;
    let refused = |r: &&dmmi_train::Record| r.kind == "zero" && !r.found;
    let pair = records.iter().filter(good).find_map(|g| {
        let zero = records.iter().filter(refused).find(|z| z.image == g.image)?;
        Some((g, Some(zero)))
    });
    let (first, second) = pair
        .or_else(|| records.iter().find(|r| good(r)).map(|r| (r, None)))
        .or_else(|| records.first().map(|r| (r, None)))?;
    let texts = std::iter::once(first).chain(second).map(|r| r.expression.clone()).collect();
    Some(Example { image: PathBuf::from(&first.image), texts })
}

/// The command that answers the example.
fn predict_command(plan: &Plan, example: &Example) -> String {
    let mut command = format!(
        "cargo run --release --bin dmmi-cli -- predict --checkpoint {} --image {}",
        shell(&plan.out.display().to_string()),
        shell(&example.image.display().to_string())
    );
    for text in &example.texts {
        command += &format!(" --text {}", shell(text));
    }
    command + &format!(" --out {}", shell(&plan.predictions_dir().display().to_string()))
}

fn finish(page: &ReportData, plan: &Plan, example: Option<&Example>, took: Duration) -> Result<()> {
    let mut text = format!("\n{}\n\n", page.summary);
    for number in &page.headline {
        text += &format!("  {:<16}{:>7}", number.name, percent(number.value));
        if let (Some(target), Some(reached)) = (number.target, number.reached()) {
            let verdict = if reached { "reached" } else { "missed" };
            text += &format!("   target {:.2} {verdict}", target * 100.0);
        }
        text.push('\n');
    }
    for remark in &page.remarks {
        text += &format!("\n{remark}\n");
    }
    text += &format!(
        "\ntook {}\nreport      {}\ncheckpoint  {}\n",
        duration(took.as_secs_f64()),
        plan.report().display(),
        plan.out.display()
    );
    if let Some(example) = example {
        text += &format!(
            "predictions {}\n\ntry:\n  {}\n",
            plan.predictions_dir().display(),
            predict_command(plan, example)
        );
    }
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes.is_finite() && minutes > 0.0 && minutes <= 10_000.0 => Ok(minutes),
        _ => Err("give minutes above 0, and at most 10000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_positive() {
        assert_eq!(parse_minutes("0.5"), Ok(0.5));
        for text in ["0", "-1", "x", "inf", "NaN"] {
            assert!(parse_minutes(text).is_err(), "{text}");
        }
    }
}
