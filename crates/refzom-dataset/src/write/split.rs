//! A val split carved out of train, by picture, written as a new annotation file: Ref-ZOM comes without one.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::save_records;
use crate::dataset::{Format, Leaks, split_of_name};
use crate::refer::with_splits;
use crate::{Annotations, DataError, Dataset, DatasetConfig, RefRecord};

/// How a split is carved out of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Carving {
    /// The split that gives.
    pub from: String,
    /// The new split.
    pub to: String,
    /// Share of the pictures, between 0 and 1.
    pub share: f64,
    /// Seed of the choice; with the same share and seed, training carves the same pictures.
    pub seed: u64,
}

/// What was carved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Carved {
    /// Pictures that are now of the new split.
    pub pictures: usize,
    /// Their records.
    pub records: usize,
    /// Records by split in the new file.
    pub splits: BTreeMap<String, usize>,
}

impl Carving {
    /// Writes the annotations that `cfg` names to `out`, in their own format and with everything else kept; only names of
    /// splits change.
    ///
    /// # Errors
    /// The set has the new split already, a picture is in several splits, `out` exists or has the ending of another
    /// format, a pickle holds what is no plain data, or a file cannot be read or written.
    pub fn write(&self, cfg: &DatasetConfig, out: &Path) -> Result<Carved, DataError> {
        let located = cfg.located()?;
        let ending = |path: &Path| path.extension().map(|e| e.to_ascii_lowercase());
        let source = located.files.first().and_then(|file| ending(file));
        if ending(out) != source {
            let wanted = source.unwrap_or_default();
            let message = format!("has another ending than its source, .{}", wanted.display());
            return Err(DataError::format(out, message));
        }
        if out.exists() {
            return Err(DataError::format(out, "exists already; choose a new name"));
        }
        let annotations = Annotations::open(cfg)?;
        let splits = annotations.splits();
        if splits.contains_key(&self.to) {
            let message = format!("has a split {:?} already; nothing is to be carved", self.to);
            return Err(DataError::format(annotations.file(), message));
        }
        if !splits.contains_key(&self.from) {
            let has: Vec<&str> = splits.keys().map(String::as_str).collect();
            let message = format!("has no split {:?}; it has {}", self.from, has.join(", "));
            return Err(DataError::format(annotations.file(), message));
        }
        let whole = DatasetConfig { split: "all".into(), ..cfg.clone() };
        let (whole, _) = Dataset::from_annotations(annotations.clone(), &whole)?;
        let giving = whole.clone().filtered(|sample| sample.split == self.from);
        let others: Vec<(&str, Dataset)> = splits
            .keys()
            .filter(|split| **split != self.from)
            .map(|split| (split.as_str(), whole.clone().filtered(|s| s.split == *split)))
            .collect();
        let others: Vec<(&str, &Dataset)> = others.iter().map(|(name, set)| (*name, set)).collect();
        let leaks = Leaks::find(&giving, &others);
        if !leaks.is_empty() {
            let message =
                format!("{leaks} in {:?}; mend that first, `data doctor` lists them", self.from);
            return Err(DataError::format(annotations.file(), message));
        }
        let (_, carved) = giving.carve(self.share, self.seed)?;
        let images: HashSet<i64> = carved.samples().iter().map(|s| s.image_id).collect();
        let mut counts = Carved { pictures: images.len(), records: 0, splits: BTreeMap::new() };
        let mut rename = |split: &str, image: bool| -> String {
            let moves = split == self.from && image;
            let name = if moves { self.to.as_str() } else { split };
            counts.records += usize::from(moves);
            *counts.splits.entry(name.to_owned()).or_insert(0) += 1;
            name.to_owned()
        };
        let bytes = match annotations.format {
            Format::Jsonl | Format::Csv => {
                let names: HashSet<&str> = annotations
                    .instances
                    .images
                    .iter()
                    .filter(|image| images.contains(&image.id))
                    .map(|image| image.file_name.as_str())
                    .collect();
                let change = |split: &str, image: &str| rename(split, names.contains(image));
                let file = annotations.file().to_path_buf();
                let done = match annotations.format {
                    Format::Csv => tables(&annotations, change),
                    _ => lines(&annotations, change),
                };
                done.map_err(|message| DataError::format(file, message))?
            }
            format => {
                let name = |r: &RefRecord| rename(&r.split, images.contains(&r.image_id));
                let splits: Vec<String> = annotations.records.iter().map(name).collect();
                let records = with_splits(&annotations.files, &splits)?;
                save_records(out, format, &records)?;
                return Ok(counts);
            }
        };
        std::fs::write(out, bytes).map_err(|e| DataError::write(out, e))?;
        Ok(counts)
    }
}

/// The lines of all files with their splits written out; unknown keys are kept.
fn lines(
    annotations: &Annotations,
    mut change: impl FnMut(&str, &str) -> String,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for file in &annotations.files {
        let usual = split_of_name(file).unwrap_or("train");
        let bytes = std::fs::read(file).map_err(|e| format!("cannot be read: {e}"))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        for line in bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            // What is no record stays as it is, for the reader to complain about.
            let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else {
                out.extend_from_slice(line);
                out.push(b'\n');
                continue;
            };
            let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
            let split = Some(text("split")).filter(|split| !split.is_empty()).unwrap_or(usual);
            let split = change(split, text("image"));
            fields.insert("split".to_owned(), Value::String(split));
            serde_json::to_writer(&mut out, &fields).map_err(|e| e.to_string())?;
            out.push(b'\n');
        }
    }
    Ok(out)
}

/// The rows of all tables with their splits written out; other columns are kept.
fn tables(
    annotations: &Annotations,
    mut change: impl FnMut(&str, &str) -> String,
) -> Result<Vec<u8>, String> {
    let mut out = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    let mut head: Option<csv::StringRecord> = None;
    for file in &annotations.files {
        let usual = split_of_name(file).unwrap_or("train");
        let bytes = std::fs::read(file).map_err(|e| format!("cannot be read: {e}"))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
        let mut names = table.headers().map_err(|e| e.to_string())?.clone();
        let place = |names: &csv::StringRecord, name: &str| {
            names.iter().position(|column| column.trim().eq_ignore_ascii_case(name))
        };
        let image = place(&names, "image").ok_or("has no column image")?;
        let split = place(&names, "split").unwrap_or_else(|| {
            names.push_field("split");
            names.len() - 1
        });
        match &head {
            None => out.write_record(&names).map_err(|e| e.to_string())?,
            Some(head) if *head == names => {}
            Some(_) => {
                return Err(format!("{} has other columns than the first table", file.display()));
            }
        }
        head = Some(names.clone());
        for row in table.records() {
            let row = row.map_err(|e| e.to_string())?;
            let mut cells: Vec<String> = row.iter().map(str::to_owned).collect();
            cells.resize(names.len().max(cells.len()), String::new());
            let named = cells[split].trim();
            let own = if named.is_empty() { usual } else { named };
            cells[split] = change(own, cells[image].trim());
            out.write_record(&cells).map_err(|e| e.to_string())?;
        }
    }
    out.into_inner().map_err(|e| e.to_string())
}
