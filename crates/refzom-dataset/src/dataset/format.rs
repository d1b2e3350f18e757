//! The formats of referring-expression data, and how a folder's files tell which one it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// What the annotation files of a data set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// RefCOCO and RefCOCO+ (`refs(unc).p`, `refs(google).p`), RefCOCOg (`refs(umd).p`, `refs(google).p`) beside
    /// `instances.json`: REFER's layout.
    #[serde(alias = "refcoco", alias = "refcoco+", alias = "refcocog")]
    Refer,
    /// Ref-ZOM: `refs(final).p`, whose records have a `source`, beside `instances.json`.
    RefZom,
    /// gRefCOCO: `grefs(unc).json` beside `instances.json`.
    Grefcoco,
    /// gRefCOCO's records as a pickle, `grefs(unc).p`.
    GrefcocoPickle,
    /// One's own set, a json object a line ([`crate::OwnRecord`]).
    Jsonl,
    /// One's own set as a table with the columns image, expression, mask and, where wanted, split and category.
    Csv,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Refer, Self::RefZom, Self::Grefcoco, Self::GrefcocoPickle, Self::Jsonl, Self::Csv];

    /// The name in configurations, for example `ref_zom`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refer => "refer",
            Self::RefZom => "ref_zom",
            Self::Grefcoco => "grefcoco",
            Self::GrefcocoPickle => "grefcoco_pickle",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// The usual name of its annotation file, for messages and for writing.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Refer => "refs(unc).p",
            Self::RefZom => "refs(final).p",
            Self::Grefcoco => "grefs(unc).json",
            Self::GrefcocoPickle => "grefs(unc).p",
            Self::Jsonl => "annotations.jsonl",
            Self::Csv => "annotations.csv",
        }
    }

    /// Whether masks come from `instances.json`; one's own sets carry theirs.
    pub fn has_instances(self) -> bool {
        !matches!(self, Self::Jsonl | Self::Csv)
    }

    /// What a file is by its name; `None` if it is no annotation file by name.
    pub fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" => return Some(Self::Jsonl),
            "csv" => return Some(Self::Csv),
            "p" | "pkl" | "pickle" | "json" => {}
            _ => return None,
        }
        let starts = |starts: &[&str]| starts.iter().any(|s| name.starts_with(s));
        match ending == "json" {
            _ if !starts(&["refs", "grefs", "ref-zom", "ref_zom", "refzom"]) => None,
            true => Some(Self::Grefcoco),
            false if name.starts_with("grefs") => Some(Self::GrefcocoPickle),
            false if name.contains("(final)") || name.contains("zom") => Some(Self::RefZom),
            false => Some(Self::Refer),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let asked = text.to_ascii_lowercase().replace('-', "_");
        let known = match asked.as_str() {
            "refcoco" | "refcoco+" | "refcocog" => Some(Self::Refer),
            "refzom" => Some(Self::RefZom),
            _ => Self::ALL.into_iter().find(|format| format.name() == asked),
        };
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|format| format.name()).collect();
            format!("no format is called {text:?}; use one of {}", names.join(", "))
        })
    }
}

/// The annotation files a folder is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What they are.
    pub format: Format,
    /// One file; of one's own sets, several if each is named for a split.
    pub files: Vec<PathBuf>,
}

/// Looks through `dir` for annotation files, of `format` only if one is given.
///
/// # Errors
/// There is none, or the choice is not clear.
pub(super) fn locate(dir: &Path, format: Option<Format>) -> Result<Located, DataError> {
    let entries = std::fs::read_dir(dir).map_err(|e| DataError::read(dir, e))?;
    let mut found: Vec<(Format, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let kind = Format::of_file(&path).filter(|kind| format.is_none_or(|f| f == *kind))?;
            path.is_file().then_some((kind, path))
        })
        .collect();
    found.sort();
    let of = |own: bool| -> Vec<(Format, PathBuf)> {
        found.iter().filter(|(kind, _)| kind.has_instances() != own).cloned().collect()
    };
    // What the authors distribute comes before tables, which may be anything.
    let candidates = if of(false).is_empty() { of(true) } else { of(false) };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match candidates.as_slice() {
        [] => {
            let wanted = match format {
                None => {
                    "no refs*.p, grefs*.json, *.jsonl or *.csv; name the file with refs (--refs)"
                        .into()
                }
                Some(format) => format!(
                    "no file of the format {format}, such as {}; name the file with refs (--refs), or leave out format (--format)",
                    format.file_name()
                ),
            };
            Err(DataError::format(dir, format!("holds {wanted}")))
        }
        [(format, path)] => Ok(Located { format: *format, files: vec![path.clone()] }),
        many => {
            if let Some((format, path)) =
                many.iter().find(|(_, path)| name(path) == "refs(final).p")
            {
                return Ok(Located { format: *format, files: vec![path.clone()] });
            }
            let format = many[0].0;
            let per_split =
                |(kind, path): &(Format, PathBuf)| *kind == format && split_of_name(path).is_some();
            if !format.has_instances() && many.iter().all(per_split) {
                let files = many.iter().map(|(_, path)| path.clone()).collect();
                return Ok(Located { format, files });
            }
            let mut names: Vec<String> = many.iter().map(|(_, path)| name(path)).collect();
            names.sort();
            Err(DataError::format(
                dir,
                format!(
                    "holds several refs files ({}); choose one with refs (--refs)",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// The split a file such as `val.jsonl` is named for.
pub(crate) fn split_of_name(path: &Path) -> Option<&'static str> {
    let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
    Some(match stem.as_str() {
        "train" | "training" => "train",
        "val" | "valid" | "validation" | "dev" => "val",
        "test" | "testing" => "test",
        "testa" => "testA",
        "testb" => "testB",
        "testc" => "testC",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_tell_the_format() {
        for (name, format) in [
            ("refs(unc).p", Some(Format::Refer)),
            ("refs(umd).p", Some(Format::Refer)),
            ("refs(google).p", Some(Format::Refer)),
            ("refs(final).p", Some(Format::RefZom)),
            ("grefs(unc).json", Some(Format::Grefcoco)),
            ("grefs(unc).p", Some(Format::GrefcocoPickle)),
            ("mine.jsonl", Some(Format::Jsonl)),
            ("mine.CSV", Some(Format::Csv)),
            ("instances.json", None),
            ("references.txt", None),
        ] {
            assert_eq!(Format::of_file(Path::new(name)), format, "{name}");
        }
        for format in Format::ALL {
            assert_eq!(Format::of_file(Path::new(format.file_name())), Some(format));
            assert_eq!(format.name().parse::<Format>().unwrap(), format);
            let quoted = format!("\"{}\"", format.name());
            assert_eq!(serde_json::from_str::<Format>(&quoted).unwrap(), format);
        }
        assert_eq!("RefCOCO+".parse::<Format>().unwrap(), Format::Refer);
        assert!("coco".parse::<Format>().unwrap_err().contains("grefcoco_pickle"));
    }

    #[test]
    fn own_files_named_for_splits_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        put("train.jsonl");
        put("val.jsonl");
        let found = locate(dir.path(), None).unwrap();
        assert_eq!((found.format, found.files.len()), (Format::Jsonl, 2));
        put("scores.csv");
        let error = locate(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("scores.csv, train.jsonl"), "{error}");
        assert!(error.contains("refs (--refs)"), "{error}");
        assert_eq!(locate(dir.path(), Some(Format::Csv)).unwrap().files.len(), 1);
        let error = locate(dir.path(), Some(Format::RefZom)).unwrap_err().to_string();
        assert!(error.contains("refs(final).p") && error.contains("--format"), "{error}");
        put("refs(unc).p");
        assert_eq!(locate(dir.path(), None).unwrap().format, Format::Refer);
    }
}
