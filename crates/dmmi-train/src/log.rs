//! Metrics on disk: `metrics.jsonl` (every step, of `[pretrain]` too, epoch and note), `steps.csv` and `epochs.csv`.
//! A record is written at once and whole, for whoever follows the files.
//!
//! A resumed run first drops the lines behind its checkpoint, so that every step is there once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::observe::{EpochRecord, Observer, PretrainRecord, Start, StepRecord};

const JSONL: &str = "metrics.jsonl";
const STEPS: &str = "steps.csv";
const EPOCHS: &str = "epochs.csv";

/// Writes a run's metrics into its folder.
#[derive(Debug)]
pub struct RunLog {
    root: PathBuf,
    files: Option<Files>,
    /// Notes from before the start.
    early: Vec<String>,
}

#[derive(Debug)]
struct Files {
    jsonl: File,
    steps: File,
    epochs: File,
}

/// One line of `metrics.jsonl`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Pretrain(&'a PretrainRecord),
    Step(&'a StepRecord),
    Epoch(&'a EpochRecord),
    Note { text: &'a str },
}

impl RunLog {
    /// A log in `root`; files are opened when the run starts.
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_path_buf(), files: None, early: Vec::new() }
    }

    fn line(&mut self, line: &Line<'_>) -> Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let path = self.root.join(JSONL);
        let mut text =
            serde_json::to_vec(line).map_err(|error| Error::write(&path)(error.into()))?;
        text.push(b'\n');
        files.jsonl.write_all(&text).map_err(Error::write(&path))
    }
}

impl Observer for RunLog {
    fn started(&mut self, start: &Start) -> Result<()> {
        let (jsonl, steps, epochs) =
            (self.root.join(JSONL), self.root.join(STEPS), self.root.join(EPOCHS));
        let jsonl = reopen(&jsonl, "", |line| json_kept(line, start))?;
        let steps = reopen(&steps, STEP_HEADER, |line| csv_field(line, 0) <= start.step)?;
        let epochs = reopen(&epochs, EPOCH_HEADER, |line| csv_field(line, 0) <= start.epoch)?;
        self.files = Some(Files { jsonl, steps, epochs });
        std::mem::take(&mut self.early).iter().try_for_each(|text| self.line(&Line::Note { text }))
    }

    fn pretraining(&mut self, record: &PretrainRecord) -> Result<()> {
        self.line(&Line::Pretrain(record))
    }

    fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.line(&Line::Step(record))?;
        let s = &record.stats;
        let row = format!(
            "{},{},{:e},{},{},{},{},{},{},{:.4},{:.4}\n",
            record.step,
            record.epoch,
            record.lr,
            s.segmentation,
            s.similarity,
            s.contrastive,
            s.total,
            s.grad_norm,
            record.samples,
            record.seconds,
            record.data_seconds
        );
        let path = self.root.join(STEPS);
        let Some(files) = &mut self.files else { return Ok(()) };
        files.steps.write_all(row.as_bytes()).map_err(Error::write(path))
    }

    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        self.line(&Line::Epoch(record))?;
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let val = record.val.as_ref();
        let row = format!(
            "{},{},{},{},{},{},{:.3},{},{},{},{},{},{},{:.5}\n",
            record.epoch,
            record.step,
            record.segmentation,
            record.similarity,
            record.contrastive,
            record.total,
            record.samples_per_second,
            number(val.and_then(|v| v.overall_iou)),
            number(val.and_then(|v| v.mean_iou)),
            number(val.and_then(|v| v.zero_accuracy)),
            number(val.and_then(|v| v.giou)),
            number(val.and_then(|v| v.ciou)),
            number(record.score),
            record.data_wait,
        );
        let path = self.root.join(EPOCHS);
        let Some(files) = &mut self.files else { return Ok(()) };
        files.epochs.write_all(row.as_bytes()).map_err(Error::write(path))
    }

    fn note(&mut self, text: &str) -> Result<()> {
        if self.files.is_none() {
            self.early.push(text.to_owned());
        }
        self.line(&Line::Note { text })
    }
}

const STEP_HEADER: &str = "step,epoch,lr,segmentation,similarity,contrastive,total,grad_norm,samples,seconds,data_seconds\n";
const EPOCH_HEADER: &str = "epoch,step,segmentation,similarity,contrastive,total,samples_per_second,val_oiou,val_miou,val_zero_acc,val_giou,val_ciou,score,data_wait\n";

/// Opens a file for appending after dropping the lines that `keep` refuses; a half line of a killed process goes too.
fn reopen(path: &Path, header: &str, keep: impl Fn(&str) -> bool) -> Result<File> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::write(path)(error)),
    };
    let mut kept = header.to_owned();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n') && *line != header) {
        if keep(line.trim_end()) {
            kept.push_str(line);
        }
    }
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, kept).map_err(Error::write(&temporary))?;
    fs::rename(&temporary, path).map_err(Error::write(path))?;
    OpenOptions::new().append(true).open(path).map_err(Error::write(path))
}

/// Steps and epochs that the run has behind it stay, and notes.
fn json_kept(line: &str, start: &Start) -> bool {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return false };
    let number = |key: &str| value[key].as_u64().unwrap_or(0) as usize;
    match value["kind"].as_str() {
        Some("pretrain") => start.pretrain_steps == 0 || number("step") <= start.pretrained,
        Some("step") => number("step") <= start.step,
        Some("epoch") => number("epoch") <= start.epoch,
        _ => true,
    }
}

fn csv_field(line: &str, column: usize) -> usize {
    line.split(',').nth(column).and_then(|field| field.parse().ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::StepStats;

    fn start(step: usize) -> Start {
        Start {
            train_samples: 4,
            val_samples: None,
            trained: 1,
            parameters: 1,
            steps_per_epoch: 2,
            total_steps: 4,
            step,
            epoch: 0,
            epochs: 2,
            pretrain_steps: 0,
            pretrained: 0,
        }
    }

    fn record(step: usize) -> StepRecord {
        let stats = StepStats {
            segmentation: 0.5,
            similarity: 0.25,
            contrastive: 1.0,
            total: 0.5125,
            grad_norm: 2.0,
        };
        StepRecord { step, epoch: 1, lr: 5e-5, stats, samples: 2, seconds: 0.1, data_seconds: 0.0 }
    }

    #[test]
    fn resuming_drops_what_lies_behind_the_checkpoint() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let mut log = RunLog::new(root.path());
        log.started(&start(0))?;
        log.note("hello")?;
        for step in 1..=3 {
            log.step(&record(step))?;
        }
        drop(log);
        // A killed process left half a line.
        let path = root.path().join(STEPS);
        fs::write(&path, fs::read_to_string(&path)? + "4,1,5e")?;

        let mut log = RunLog::new(root.path());
        log.started(&start(2))?;
        log.step(&record(3))?;
        // Read while the log is open.
        let steps = fs::read_to_string(path)?;
        let numbers: Vec<&str> =
            steps.lines().map(|line| line.split(',').next().unwrap_or("")).collect();
        assert_eq!(numbers, ["step", "1", "2", "3"]);
        let jsonl = fs::read_to_string(root.path().join(JSONL))?;
        assert_eq!(jsonl.lines().count(), 4, "{jsonl}");
        assert!(jsonl.lines().next().is_some_and(|line| line.contains("hello")));
        Ok(())
    }
}
