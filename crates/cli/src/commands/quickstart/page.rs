//! A run's results as the plain values of a report.

use std::fs;

use anyhow::{Context, Result};
use dmmi_train::{EpochRecord, Evaluation, PretrainRecord, StepRecord, Summary, Tables};
use refzom_dataset::Dataset;

use super::{Done, Example, gallery, plan, predict_command};
use crate::out::shell;
use crate::progress::{count, duration};
use crate::report::data::{
    Course, Headline, ReportData, ScoreLine, ScoreRow, ScoreTable, StepPoint,
};

/// Aims on unseen test scenes: oIoU, mIoU, zero-target accuracy.
const TARGETS: [f64; 3] = [0.75, 0.70, 0.85];

/// Groups in the order of the tables' rows: key in an evaluation, and name.
const GROUPS: [(&str, &str); 4] =
    [("all", "all"), ("one", "one target"), ("many", "many targets"), ("zero", "zero targets")];

/// The report of a run.
///
/// # Errors
/// If the run's metrics or pictures cannot be read any more.
pub(super) fn build(
    done: &Done<'_>,
    dataset: &Dataset,
    example: Option<&Example>,
) -> Result<ReportData> {
    let plan = done.plan;
    let history = history(done)?;
    let pretraining: f64 = history.pretraining.iter().map(|step| step.seconds).sum();
    let training: f64 = history.steps.iter().map(|step| step.seconds).sum();
    let headline = headline(done.evaluation, plan.settings.mini);
    let what = if plan.settings.mini { "DMMI quickstart, in miniature" } else { "DMMI quickstart" };
    Ok(ReportData {
        title: what.to_owned(),
        summary: summary(done, pretraining + training),
        remarks: remarks(done, &headline),
        headline,
        tables: tables(done.evaluation),
        course: course(&history, plan.settings.mini),
        gallery: gallery::sections(done.engine, dataset, done.evaluation)?,
        configuration: plan.train.to_toml()?,
        environment: environment(done, &history, training),
        commands: commands(done, example),
    })
}

fn summary(done: &Done<'_>, training: f64) -> String {
    let plan = done.plan;
    let mini = if plan.settings.mini {
        " This miniature proves that everything works; its scores mean nothing."
    } else {
        ""
    };
    format!(
        "A DMMI of {} parameters, trained from scratch for {} on {} synthetic pictures, first its visual encoder on their objects' categories, then all of it on their sentences; scored on {} pictures it never saw. Nothing was downloaded.{mini}",
        count(done.engine.parameters()),
        duration(training),
        plan.synthetic.train_scenes,
        plan.synthetic.test_scenes,
    )
}

fn headline(evaluation: &Evaluation, mini: bool) -> Vec<Headline> {
    let all = original(evaluation).get("all").map(Tables::summary).unwrap_or_default();
    let rows = [
        (
            "oIoU",
            "intersections over unions, summed over all sentences with a target",
            all.overall_iou,
        ),
        ("mIoU", "mean intersection over union of the sentences with a target", all.mean_iou),
        (
            "zero-target Acc",
            "sentences that mean nothing and got not a single pixel",
            all.zero_accuracy,
        ),
    ];
    let target = |index: usize| (!mini).then_some(TARGETS[index]);
    rows.into_iter()
        .enumerate()
        .map(|(i, (name, meaning, value))| Headline {
            name: name.to_owned(),
            meaning: format!("{meaning}; original size"),
            value,
            target: target(i),
        })
        .collect()
}

fn original(evaluation: &Evaluation) -> &std::collections::BTreeMap<String, Tables> {
    evaluation.at_original_size.as_ref().unwrap_or(&evaluation.at_model_size)
}

/// For each missed target: by how much, and where the points are lost.
fn remarks(done: &Done<'_>, headline: &[Headline]) -> Vec<String> {
    let groups = original(done.evaluation);
    let of = |group: &str| groups.get(group).map(Tables::summary).unwrap_or_default();
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{:.2}", v * 100.0));
    let mut remarks = Vec::new();
    for (index, number) in headline.iter().enumerate() {
        let (Some(false), Some(target), Some(value)) =
            (number.reached(), number.target, number.value)
        else {
            continue;
        };
        let records = &done.evaluation.records;
        let lost = match index {
            0 => format!(
                "one-target sentences reach {}, many-target ones {}",
                shown(of("one").overall_iou),
                shown(of("many").overall_iou)
            ),
            1 => {
                let targeted = records.iter().filter(|r| r.kind != "zero");
                let silent = targeted.clone().filter(|r| !r.found).count();
                format!(
                    "one-target sentences reach {}, many-target ones {}; {silent} of {} sentences with a target got no pixel at all",
                    shown(of("one").mean_iou),
                    shown(of("many").mean_iou),
                    targeted.count()
                )
            }
            _ => {
                let zero = records.iter().filter(|r| r.kind == "zero");
                let answered =
                    zero.clone().filter(|r| r.original.unwrap_or(r.model).predicted > 0).count();
                format!(
                    "{answered} of {} sentences that mean nothing were answered; each differs from a true one by a single attribute",
                    zero.count()
                )
            }
        };
        remarks.push(format!(
            "{} is {:.2} points below its target: {lost}.",
            number.name,
            (target - value) * 100.0
        ));
    }
    remarks
}

fn tables(evaluation: &Evaluation) -> Vec<ScoreTable> {
    let [h, w] = evaluation.model_size;
    let mut tables = Vec::new();
    let sizes = [
        ("original size".to_owned(), evaluation.at_original_size.as_ref()),
        (format!("model size, {h} x {w}"), Some(&evaluation.at_model_size)),
    ];
    for (size, groups) in sizes.into_iter().filter_map(|(size, groups)| Some((size, groups?))) {
        let rows = |scores: fn(&Tables) -> Vec<Option<f64>>| -> Vec<ScoreRow> {
            let row = |(key, name): &(&str, &str)| {
                let samples =
                    evaluation.records.iter().filter(|r| *key == "all" || r.kind == *key).count();
                groups.get(*key).map(|t| ScoreRow {
                    group: (*name).to_owned(),
                    samples,
                    scores: scores(t),
                })
            };
            GROUPS.iter().filter_map(row).collect()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        tables.push(ScoreTable {
            title: format!("RIS protocol, {size}"),
            columns: names(&["oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9", "Acc"]),
            rows: rows(ris),
        });
        tables.push(ScoreTable {
            title: format!("GRES protocol, {size}"),
            columns: names(&["gIoU", "cIoU", "N-acc", "T-acc", "P@0.7", "P@0.8", "P@0.9"]),
            rows: rows(gres),
        });
    }
    tables
}

fn ris(tables: &Tables) -> Vec<Option<f64>> {
    let ris = &tables.ris;
    let mut scores = vec![ris.overall_iou, ris.mean_iou];
    scores.extend(ris.precision);
    scores.push(ris.zero_accuracy);
    scores
}

fn gres(tables: &Tables) -> Vec<Option<f64>> {
    let gres = &tables.gres;
    let mut scores = vec![gres.g_iou, gres.c_iou, gres.no_target_accuracy, gres.target_accuracy];
    scores.extend(gres.precision);
    scores
}

fn course(history: &History, mini: bool) -> Course {
    let step = |record: &StepRecord| StepPoint {
        step: record.step as u64,
        total: record.stats.total,
        segmentation: record.stats.segmentation,
        similarity: record.stats.similarity,
        contrastive: record.stats.contrastive,
        learning_rate: record.lr,
    };
    let targets = (!mini).then_some(TARGETS);
    let line = |index: usize, name: &str, value: fn(&Summary) -> Option<f64>| {
        let point = |e: &EpochRecord| Some((e.epoch as f64, value(e.val.as_ref()?)?));
        ScoreLine {
            name: name.to_owned(),
            points: history.epochs.iter().filter_map(point).collect(),
            target: targets.map(|targets| targets[index]),
        }
    };
    Course {
        steps: history.steps.iter().map(step).collect(),
        scores: vec![
            line(0, "oIoU", |s| s.overall_iou),
            line(1, "mIoU", |s| s.mean_iou),
            line(2, "zero-target Acc", |s| s.zero_accuracy),
        ],
    }
}

/// All steps and epochs of the run, those before an interruption included.
#[derive(Default)]
struct History {
    pretraining: Vec<PretrainRecord>,
    steps: Vec<StepRecord>,
    epochs: Vec<EpochRecord>,
}

fn history(done: &Done<'_>) -> Result<History> {
    let path = done.plan.out.join("metrics.jsonl");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut history = History::default();
    for line in text.lines() {
        let bad = || format!("{} has a line that is no record", path.display());
        let mut value: serde_json::Value = serde_json::from_str(line).with_context(bad)?;
        let kind = value.as_object_mut().and_then(|o| o.remove("kind")).unwrap_or_default();
        match kind.as_str() {
            Some("pretrain") => {
                history.pretraining.push(serde_json::from_value(value).with_context(bad)?);
            }
            Some("step") => history.steps.push(serde_json::from_value(value).with_context(bad)?),
            Some("epoch") => history.epochs.push(serde_json::from_value(value).with_context(bad)?),
            _ => {}
        }
    }
    Ok(history)
}

/// How far the visual encoder came with the categories: the mean over the last steps.
fn categories(pretraining: &[PretrainRecord]) -> String {
    let last = &pretraining[pretraining.len().saturating_sub(100)..];
    if last.is_empty() {
        return "not trained on them".to_owned();
    }
    let right: f64 = last.iter().map(|step| step.accuracy).sum::<f64>() / last.len() as f64;
    format!(
        "{}, {} steps; at the end {:.1} % of the objects' cells right",
        duration(pretraining.iter().map(|step| step.seconds).sum()),
        pretraining.len(),
        100.0 * right
    )
}

fn environment(done: &Done<'_>, history: &History, training: f64) -> Vec<(String, String)> {
    let cores =
        std::thread::available_parallelism().map_or("unknown".to_owned(), |n| n.to_string());
    let threads = std::env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| cores.clone());
    let sessions = if done.resumed { " (taken up again after an interruption)" } else { "" };
    let best =
        done.outcome.best.map_or("-".to_owned(), |b| format!("epoch {}, step {}", b.epoch, b.step));
    [
        ("device", done.device.clone()),
        ("processor cores", cores),
        ("threads", threads),
        ("training", format!("{}, {} steps{sessions}", duration(training), done.outcome.step)),
        ("before it, the visual encoder on categories", categories(&history.pretraining)),
        (
            "scoring",
            format!(
                "{}, {} sentences",
                duration(done.evaluation.seconds),
                done.evaluation.records.len()
            ),
        ),
        ("this command so far", duration(done.seconds)),
        ("checkpoint used", best),
        ("parameters", count(done.engine.parameters())),
        ("seed", done.plan.settings.seed.to_string()),
        ("dmmi-cli", env!("CARGO_PKG_VERSION").to_owned()),
        ("candle", "0.11.1".to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn commands(done: &Done<'_>, example: Option<&Example>) -> Vec<(String, String)> {
    let plan = done.plan;
    let program = "cargo run --release --bin dmmi-cli --";
    let out = shell(&plan.out.display().to_string());
    let data = shell(&plan.data_dir().display().to_string());
    let mut commands = vec![
        (
            "The whole run again, into another folder; on a CPU the same data and the same weights.".to_owned(),
            format!("{program} quickstart --out runs/again {}", plan::flags(plan.settings)),
        ),
        (
            "The tables of this page again, from the checkpoint.".to_owned(),
            format!("{program} eval --checkpoint {out} --data {data} --split test"),
        ),
    ];
    if let Some(example) = example {
        commands.push((
            "Masks, overlay and JSON for a picture and sentences of your own choice.".to_owned(),
            predict_command(plan, example),
        ));
    }
    commands
}
