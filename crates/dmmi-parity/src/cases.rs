//! Finding the cases of a directory, by what their sidecars say.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::data::{DataKind, images, masks, text};
use crate::golden::{Golden, read_json};
use crate::report::{Precision, Printing, Report};
use crate::{network, scores, torch, units};

/// Stack of the thread that runs the cases: Candle's backward pass is recursive.
const STACK: usize = 512 << 20;

/// What a sidecar describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole network: `config.arch` and `weights.table`.
    Network,
    /// Single parts: `adamw`, `loss`, `interp`, `bias_table`, `drop_path` or `hash_samples` beside a `seed`.
    Units,
    /// Metrics: `samples` with `official_test_py` or `rela`.
    Scores,
    /// Pictures, masks or text.
    Data(DataKind),
    /// Checkpoints of the authors' code: `files` beside `model` and `bert_model` with a CRC-32 a tensor.
    Checkpoint,
    /// PyTorch files with odd tensors: each entry has `dtype`, `shape` and `values`.
    Tensors,
    /// Something else.
    NotCovered,
}

impl Kind {
    /// Reads it off the sidecar.
    pub fn of(json: &Value) -> Self {
        let has = |pointer: &str| json.pointer(pointer).is_some();
        let parts = ["/adamw", "/loss", "/interp", "/bias_table", "/drop_path", "/hash_samples"];
        if has("/config/arch") && has("/weights/table") && has("/config/seed") {
            Self::Network
        } else if has("/samples") && (has("/official_test_py") || has("/rela")) {
            Self::Scores
        } else if has("/files") && has("/model") && has("/bert_model") {
            Self::Checkpoint
        } else if json.as_object().is_some_and(|entries| {
            let fields = ["dtype", "shape", "values"];
            let described = |e: &Value| fields.iter().all(|field| e.get(field).is_some());
            !entries.is_empty() && entries.values().all(described)
        }) {
            Self::Tensors
        } else if has("/seed") && parts.iter().any(|part| has(part)) {
            Self::Units
        } else {
            DataKind::of(json).map_or(Self::NotCovered, Self::Data)
        }
    }
}

/// A sidecar: where it is, its content, what it describes.
pub type Found = (PathBuf, Value, Kind);

/// The sidecars of a directory with their kinds, sorted by name, and the files that are no part of any.
///
/// # Errors
/// When the directory or a sidecar cannot be read.
pub fn find(dir: &Path) -> Result<(Vec<Found>, Vec<String>)> {
    let listing = std::fs::read_dir(dir);
    let listing =
        listing.with_context(|| format!("cannot read the directory {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = listing.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let extension = |path: &Path, wanted: &str| path.extension().is_some_and(|e| e == wanted);
    let (mut cases, mut others) = (Vec::new(), Vec::new());
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name == "vectors" {
            let (more, rest) = find(path)?;
            cases.extend(more);
            others.extend(rest.into_iter().map(|file| format!("{name}/{file}")));
        } else if path.is_dir() {
            if !paths.contains(&path.with_extension("json")) {
                others.push(format!("{name}/"));
            }
        } else if extension(path, "json") {
            let json = read_json(path)?;
            let kind = Kind::of(&json);
            if kind == Kind::NotCovered {
                others.push(name);
            } else {
                cases.push((path.clone(), json, kind));
            }
        } else if !extension(path, "safetensors") || !paths.contains(&path.with_extension("json")) {
            others.push(name);
        }
    }
    // PyTorch files and recorded forward passes belong to the sidecars that speak of them.
    let belongs = |name: &str| cases.iter().any(|case| torch::belongs(case, &dir.join(name)));
    others.retain(|name| !belongs(name));
    Ok((cases, others))
}

/// The names of the cases of a directory, sorted.
///
/// # Errors
/// When the directory or a sidecar cannot be read.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    Ok(find(dir)?.0.iter().map(|(path, ..)| stem(path)).collect())
}

/// The name of the case of a sidecar.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Runs every case of a directory. A filter that is part of a case's name picks cases, any other one quantities.
///
/// # Errors
/// When there is nothing to run, or a file is damaged.
pub fn run_directory(
    dir: &Path,
    precision: Precision,
    filter: Option<&str>,
    print: Printing,
) -> Result<Report> {
    run_directory_on(&candle_core::Device::Cpu, dir, precision, filter, print)
}

/// The same on `device`. On a GPU, and in mixed precision, the cases of networks and their parts only: the others compute
/// on the CPU whatever the device. Where none of the cases is one of them the report is empty.
///
/// # Errors
/// When there is nothing to run, or a file is damaged.
pub fn run_directory_on(
    device: &candle_core::Device,
    dir: &Path,
    precision: Precision,
    filter: Option<&str>,
    print: Printing,
) -> Result<Report> {
    let (mut cases, others) = find(dir)?;
    let picks_cases = filter.is_some_and(|f| cases.iter().any(|(path, ..)| stem(path).contains(f)));
    if let (true, Some(f)) = (picks_cases, filter) {
        cases.retain(|(path, ..)| stem(path).contains(f));
    }
    if cases.is_empty() {
        bail!("no golden case in {}; expected sidecars such as g1_tiny_swin.json", dir.display());
    }
    if precision == Precision::Bf16 {
        cases.retain(|(.., kind)| *kind == Kind::Network);
    } else if !device.is_cpu() {
        cases.retain(|(.., kind)| matches!(kind, Kind::Network | Kind::Units));
    }
    if cases.is_empty() {
        return Ok(Report::new(precision, None, print).on(device));
    }
    let quantities = filter.filter(|_| !picks_cases).map(str::to_string);
    let mut report = Report::new(precision, quantities, print).on(device);
    if !others.is_empty() {
        report.remark(format!("not covered: {}", others.join(", ")));
    }
    let run = || -> Result<Report> {
        for (path, json, kind) in cases {
            let needs_tensors = matches!(kind, Kind::Network | Kind::Units);
            let golden = Golden::open(&path, json, needs_tensors)?;
            report.enter(&golden.name);
            let started = std::time::Instant::now();
            match kind {
                Kind::Network => network::run(&golden, &mut report),
                Kind::Units => units::run(&golden, &mut report),
                Kind::Scores => scores::run(&golden, &mut report),
                Kind::Data(DataKind::Images) => images::run(&golden, &path, &mut report),
                Kind::Data(DataKind::Masks) => masks::run(&golden, &mut report),
                Kind::Data(DataKind::Polygons) => masks::run_polygons(&golden, &mut report),
                Kind::Data(DataKind::Text) => text::run(&golden, &mut report),
                Kind::Data(DataKind::Tags) => text::run_tags(&golden, &mut report),
                Kind::Checkpoint => torch::checkpoint(&golden, &path, &mut report),
                Kind::Tensors => torch::tensors(&golden, &path, &mut report),
                Kind::NotCovered => Ok(()),
            }
            .with_context(|| format!("case {}", golden.name))?;
            report.remark(format!("{}: {:.1} s", golden.name, started.elapsed().as_secs_f64()));
        }
        Ok(report)
    };
    let report = std::thread::scope(|scope| -> Result<Report> {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run)?;
        match thread.join() {
            Ok(report) => report,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    if report.lines.is_empty() {
        bail!(
            "no quantity of {} contains {:?} in its name",
            dir.display(),
            filter.unwrap_or_default()
        );
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_are_read_off_the_content() {
        let network = json!({"config": {"arch": "swin", "seed": 1}, "weights": {"table": []}});
        assert_eq!(Kind::of(&network), Kind::Network);
        assert_eq!(Kind::of(&json!({"seed": 1, "interp": []})), Kind::Units);
        assert_eq!(Kind::of(&json!({"samples": [], "rela": {}})), Kind::Scores);
        let checkpoint = json!({"files": [], "model": {}, "bert_model": {}, "seed": 1});
        assert_eq!(Kind::of(&checkpoint), Kind::Checkpoint);
        let tensor = json!({"a": {"dtype": "torch.bool", "shape": [], "values": [1.0]}});
        assert_eq!(Kind::of(&tensor), Kind::Tensors);
        assert_eq!(Kind::of(&json!({})), Kind::NotCovered);
        assert_eq!(Kind::of(&json!({"records": []})), Kind::NotCovered);
        assert_eq!(Kind::of(&json!([1, 2])), Kind::NotCovered);
    }
}
