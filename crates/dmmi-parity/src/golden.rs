//! One golden case on disk: a JSON sidecar and, beside it, the tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A stored tensor, widened to f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f64>,
}

impl Stored {
    /// Row `i` of a matrix.
    pub fn row(&self, i: usize) -> &[f64] {
        let width = self.shape.last().copied().unwrap_or(1);
        &self.values[i * width..(i + 1) * width]
    }

    /// Fails unless this is a matrix of `rows` rows and `columns` columns.
    pub fn expect_matrix(&self, name: &str, rows: usize, columns: usize) -> Result<()> {
        ensure!(
            self.shape == [rows, columns],
            "{name} has shape {:?}, the sidecar describes [{rows}, {columns}]; write the case anew",
            self.shape
        );
        Ok(())
    }
}

/// A case: name, sidecar and tensors.
#[derive(Clone, Debug)]
pub struct Golden {
    /// File name without extension.
    pub name: String,
    /// The sidecar.
    pub json: Value,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Stored>,
    path: PathBuf,
}

/// Reads a JSON file. Python's `NaN` and `Infinity` become null.
pub fn read_json(path: &Path) -> Result<Value> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = serde_json::from_str(&text).or_else(|error| {
        let clean = [": -Infinity", ": Infinity", ": NaN"]
            .iter()
            .fold(text, |t, bad| t.replace(bad, ": null"));
        serde_json::from_str(&clean).map_err(|_| error)
    });
    parsed.with_context(|| format!("{} is no valid JSON; fetch or write it anew", path.display()))
}

impl Golden {
    /// Joins a sidecar already read with the tensors beside it.
    ///
    /// # Errors
    /// When `needs_tensors` and there is no such file, or the file is damaged.
    pub fn open(path: &Path, json: Value, needs_tensors: bool) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let beside = path.with_extension("safetensors");
        let tensors = match beside.exists() || needs_tensors {
            true => read_tensors(&beside)?,
            false => BTreeMap::new(),
        };
        Ok(Self { name, json, tensors, path: path.to_path_buf() })
    }

    /// The sidecar, or the part of it at `pointer` (`/train/params`), as a typed value.
    pub fn part<T: DeserializeOwned>(&self, pointer: &str) -> Result<T> {
        let value = self.json.pointer(pointer);
        let value =
            value.with_context(|| format!("{}: no entry {pointer}", self.path.display()))?;
        T::deserialize(value).with_context(|| format!("{}: entry {pointer}", self.path.display()))
    }

    /// A tensor that the case must have.
    pub fn tensor(&self, name: &str) -> Result<&Stored> {
        let found = self.tensors.get(name);
        found.with_context(|| {
            format!(
                "{}: no tensor {name}; write the case anew",
                self.path.with_extension("safetensors").display()
            )
        })
    }
}

fn read_tensors(path: &Path) -> Result<BTreeMap<String, Stored>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| {
        format!("{} is no valid safetensors file; fetch or write it anew", path.display())
    })?;
    let mut out = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F64 => wide(data, f64::from_le_bytes),
            Dtype::F32 => wide(data, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::I64 => wide(data, |b| i64::from_le_bytes(b) as f64),
            Dtype::I32 => wide(data, |b| f64::from(i32::from_le_bytes(b))),
            Dtype::U8 | Dtype::BOOL => data.iter().map(|b| f64::from(*b)).collect(),
            other => bail!(
                "{}: tensor {name} has type {other:?}; f32, f64, i32, i64 and u8 are read",
                path.display()
            ),
        };
        out.insert(name, Stored { shape: view.shape().to_vec(), values });
    }
    Ok(out)
}

fn wide<const N: usize>(data: &[u8], one: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks::<N>().0.iter().map(|bytes| one(*bytes)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_named() {
        let dir = std::env::temp_dir().join(format!("parity-golden-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let json = dir.join("a.json");
        std::fs::write(&json, "{\"x\": NaN}").unwrap();
        assert_eq!(read_json(&json).unwrap(), serde_json::json!({"x": null}));
        std::fs::write(&json, "{\"x\": ").unwrap();
        assert!(read_json(&json).unwrap_err().to_string().contains("a.json"));
        std::fs::write(dir.join("a.safetensors"), [9, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
        let error = Golden::open(&json, Value::Null, true).unwrap_err().to_string();
        assert!(error.contains("a.safetensors"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
