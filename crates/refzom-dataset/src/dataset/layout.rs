//! Where the files of a data set lie, and which split of it is asked for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::DataError;

/// A folder with `refs*.p` (or `grefs*.json`), `instances.json` and an image folder; whatever lies elsewhere can be named.
/// Relative names count from `dir`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// The folder.
    pub dir: PathBuf,
    /// `train`, `val`, `test` (all splits whose name holds "test", hence `testA` and `testB` too), `testA`, `testB`,
    /// or `all`.
    pub split: String,
    /// The refs file; by default the only one in `dir`, or `refs(final).p` if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refs: Option<PathBuf>,
    /// By default `instances.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<PathBuf>,
    /// By default `images`, `trainval2014` or `train2014`, whichever exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
}

impl DatasetConfig {
    /// The split `split` of the folder `dir`, with the usual names.
    pub fn new(dir: impl Into<PathBuf>, split: impl Into<String>) -> Self {
        Self { dir: dir.into(), split: split.into(), refs: None, instances: None, images: None }
    }

    /// Names the refs file.
    pub fn with_refs(self, refs: impl Into<PathBuf>) -> Self {
        Self { refs: Some(refs.into()), ..self }
    }

    /// Whether a record of split `has` belongs to the split asked for, by the rules of REFER's `getRefIds`.
    pub fn wants(&self, has: &str) -> bool {
        match self.split.as_str() {
            "all" => true,
            "test" => has.contains("test"),
            // A record of "testAB" belongs to both.
            "testA" | "testB" | "testC" => {
                let letter = &self.split[4..];
                has.strip_prefix("test").is_some_and(|letters| letters.contains(letter))
            }
            exact => has == exact,
        }
    }

    /// The refs file.
    ///
    /// # Errors
    /// There is none, or several and none is `refs(final).p`.
    pub fn refs_path(&self) -> Result<PathBuf, DataError> {
        if let Some(refs) = &self.refs {
            return Ok(self.dir.join(refs));
        }
        let entries = std::fs::read_dir(&self.dir).map_err(|e| DataError::read(&self.dir, e))?;
        let mut found: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_refs_name(name))
            .collect();
        found.sort();
        match found.as_slice() {
            [] => Err(DataError::format(
                &self.dir,
                "holds no refs*.p and no grefs*.json; name the file with refs",
            )),
            [only] => Ok(self.dir.join(only)),
            many if many.iter().any(|name| name == "refs(final).p") => {
                Ok(self.dir.join("refs(final).p"))
            }
            many => Err(DataError::format(
                &self.dir,
                format!("holds several refs files ({}); choose one with refs", many.join(", ")),
            )),
        }
    }

    /// The instances file.
    pub fn instances_path(&self) -> PathBuf {
        self.dir.join(self.instances.as_deref().unwrap_or(Path::new("instances.json")))
    }

    /// The image folder.
    ///
    /// # Errors
    /// It does not exist.
    pub fn images_path(&self) -> Result<PathBuf, DataError> {
        if let Some(images) = &self.images {
            let path = self.dir.join(images);
            return match path.is_dir() {
                true => Ok(path),
                false => Err(DataError::format(path, "is no folder of images")),
            };
        }
        ["images", "trainval2014", "train2014"]
            .iter()
            .map(|name| self.dir.join(name))
            .find(|path| path.is_dir())
            .ok_or_else(|| {
                DataError::format(
                    &self.dir,
                    "holds no folder images, trainval2014 or train2014; name it with images",
                )
            })
    }
}

fn is_refs_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let starts = ["refs", "grefs", "ref-zom", "ref_zom"].iter().any(|s| lower.starts_with(s));
    starts && [".p", ".pkl", ".pickle", ".json"].iter().any(|s| lower.ends_with(s))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn splits_as_refer_asks_for_them() {
        let wants = |asked: &str, has: &str| DatasetConfig::new("", asked).wants(has);
        assert!(wants("test", "testA") && wants("test", "testB") && wants("test", "test"));
        assert!(wants("testA", "testA") && wants("testA", "testAB") && !wants("testA", "testB"));
        assert!(!wants("testA", "test") && !wants("testA", "train"));
        assert!(wants("train", "train") && !wants("train", "trainval") && !wants("val", "train"));
        assert!(wants("all", "whatever"));
    }

    #[test]
    fn the_refs_file_is_found_or_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = DatasetConfig::new(dir.path(), "train");
        assert!(cfg.refs_path().is_err());
        std::fs::write(dir.path().join("refs(unc).p"), "").unwrap();
        std::fs::write(dir.path().join("references.txt"), "").unwrap();
        assert!(cfg.refs_path().unwrap().ends_with("refs(unc).p"));
        std::fs::write(dir.path().join("refs(google).p"), "").unwrap();
        assert!(cfg.refs_path().unwrap_err().to_string().contains("refs(google).p, refs(unc).p"));
        std::fs::write(dir.path().join("refs(final).p"), "").unwrap();
        assert!(cfg.refs_path().unwrap().ends_with("refs(final).p"));
        assert!(cfg.images_path().is_err());
    }
}
