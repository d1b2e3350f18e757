//! `dmmi-cli eval`: a checkpoint and a split to the RIS and the GRES table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use dmmi_train::{Evaluation, LoadedModel, Split, Tables, evaluate};
use serde::Serialize;

use super::data::source::FileArgs;
use super::predict::engine::load;
use crate::device::{Arithmetic, DeviceChoice, name};
use crate::exit::bad_input;
use crate::file;
use crate::out::say;
use crate::progress::{bar, duration, percent, spinner};

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli eval --checkpoint runs/quickstart --data data/synthetic --split test
  dmmi-cli eval --checkpoint runs/coco33 --data data/coco33 --split train --out eval.json

Scores are percentages. At model size the truth is resized to the network's input (nearest), as the
released code does; at original size the logits are resized to the picture (bilinear).
A sample counts as answered when any pixel is marked.")]
pub(crate) struct EvalArgs {
    /// A checkpoint directory, a run directory (its best checkpoint, else its newest), or the authors' .pth
    #[arg(long, value_name = "PATH")]
    pub(crate) checkpoint: PathBuf,
    /// Folder of the data set, or its annotation file
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Which split to score
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub(crate) split: String,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Expressions a batch
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) batch_size: u32,
    /// Write everything as JSON, with one record an expression, and the Markdown row beside it as .md
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Where to compute: cpu, cuda, cuda:N or auto
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Arithmetic; bf16 is less exact, and quicker on a GPU and on processors that multiply it
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Arithmetic,
}

/// What `--out` holds.
#[derive(Serialize)]
struct Written<'a> {
    checkpoint: String,
    step: usize,
    data: String,
    left_out: &'a BTreeMap<String, usize>,
    device: String,
    dtype: Arithmetic,
    markdown: &'a str,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

/// Runs `eval`.
pub(crate) fn run(args: EvalArgs) -> anyhow::Result<()> {
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    let out = args.out.as_deref().filter(|_| !to_stdout);
    let beside = out.map(beside).transpose()?.flatten();
    let device = args.device.open()?;
    let loaded = load(&args.checkpoint, &device, args.dtype)?;
    let cfg = args.files.config(&args.data, &args.split);
    let checking = spinner("reading annotations, checking pictures");
    let split = Split::for_model(&cfg, &loaded.file, args.batch_size as usize)?;
    drop(checking);
    let progress = bar(split.len() as u64);
    progress.set_prefix("scoring");
    let evaluation = evaluate(&loaded.model, &device, &split, true, &mut |done, _| {
        progress.set_position(done as u64);
        Ok(())
    })
    .map_err(|error| error.of_checkpoint(&loaded.path))?;
    progress.finish_and_clear();
    let data = format!("{}, {}", args.data.display(), args.split);
    let markdown = markdown(&loaded.path.display().to_string(), &data, &evaluation);
    let written = Written {
        checkpoint: loaded.path.display().to_string(),
        step: loaded.file.step,
        data,
        left_out: split.left_out(),
        device: name(&device),
        dtype: args.dtype,
        markdown: &markdown,
        evaluation: &evaluation,
    };
    if to_stdout {
        return say!("{}", serde_json::to_string_pretty(&written)?);
    }
    // The files first: whoever reads the tables may stop reading. The tables in any case: files can be made of them.
    let saved = out.map_or(Ok(()), |out| save(out, beside.as_deref(), &written));
    let told = tell_scores(&args, &loaded, &split, &written);
    saved.and(told)?;
    match (out, &beside) {
        (Some(out), Some(beside)) => {
            say!("written     {} and {}", out.display(), beside.display())
        }
        (Some(out), None) => say!("written     {}", out.display()),
        _ => Ok(()),
    }
}

/// The JSON, and the Markdown row beside it.
fn save(out: &Path, beside: Option<&Path>, written: &Written<'_>) -> anyhow::Result<()> {
    file::save(out, &serde_json::to_vec_pretty(written)?)?;
    beside.map_or(Ok(()), |path| file::save(path, format!("{}\n", written.markdown).as_bytes()))
}

/// What was scored, and the tables.
fn tell_scores(
    args: &EvalArgs,
    loaded: &LoadedModel,
    split: &Split,
    written: &Written<'_>,
) -> anyhow::Result<()> {
    say!(
        "checkpoint  {} ({} steps, {} epochs)",
        loaded.path.display(),
        loaded.file.step,
        loaded.file.epoch
    )?;
    say!(
        "data        {}, split {}: {}",
        args.data.display(),
        args.split,
        split.dataset().summary()
    )?;
    for (reason, n) in split.left_out() {
        say!("left out    {n}: {reason}")?;
    }
    if split.unknown() > 0 {
        say!(
            "unknown     {} expressions hold words that the checkpoint's vocabulary does not know",
            split.unknown()
        )?;
    }
    let evaluation = written.evaluation;
    let [h, w] = evaluation.model_size;
    say!("{}", tables(&format!("at model size, {h} x {w}"), &evaluation.at_model_size))?;
    if let Some(original) = &evaluation.at_original_size {
        say!("{}", tables("at original size", original))?;
    }
    say!("\n{}\n", written.markdown)?;
    say!(
        "{} expressions in {} on {}",
        evaluation.records.len(),
        duration(evaluation.seconds),
        written.device
    )
}

/// Where the Markdown row goes, beside the JSON in `out`; nowhere if that is a device or a pipe.
fn beside(out: &Path) -> anyhow::Result<Option<PathBuf>> {
    file::check_place("--out", out, b'{')?;
    if file::is_stream(out) {
        return Ok(None);
    }
    let beside = out.with_extension("md");
    if beside == out {
        return Err(bad_input!(
            "--out {}: name the JSON file; the Markdown row goes beside it, as .md",
            out.display()
        ));
    }
    file::keep_others(&beside, b'|')?;
    Ok(Some(beside))
}

/// Both protocols, a row a group of samples.
fn tables(title: &str, groups: &BTreeMap<String, Tables>) -> String {
    let mut text = String::new();
    for (protocol, scores) in PROTOCOLS {
        let _ = write!(text, "\n{:<32}{:>7}", format!("{protocol} {title}"), "n");
        for (name, _) in groups.values().next().map(scores).unwrap_or_default() {
            let _ = write!(text, "{name:>8}");
        }
        for group in ["all", "zero", "one", "many"] {
            let Some(tables) = groups.get(group) else { continue };
            let _ = write!(text, "\n  {group:<30}{:>7}", tables.samples);
            for (_, score) in scores(tables) {
                let _ = write!(text, "{:>8}", percent(score));
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

type Scores = fn(&Tables) -> Vec<(&'static str, Option<f64>)>;
const PROTOCOLS: [(&str, Scores); 2] = [("RIS", Tables::ris_scores), ("GRES", Tables::gres_scores)];

/// A table of one row with the columns of the papers, at model size over all samples.
fn markdown(checkpoint: &str, data: &str, evaluation: &Evaluation) -> String {
    let Some(all) = evaluation.at_model_size.get("all") else { return String::new() };
    let scores: Vec<_> = all.ris_scores().into_iter().chain(all.gres_scores()).collect();
    let names: Vec<&str> = scores.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = scores.iter().map(|(_, score)| percent(*score)).collect();
    format!(
        "| checkpoint | data, split | {} |\n|---|---|{}\n| {checkpoint} | {data} | {} |",
        names.join(" | "),
        "---|".repeat(names.len()),
        values.join(" | ")
    )
}
