//! Where the files of a data set lie, and which split of it is asked for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::format::{Format, Located, locate};
use crate::DataError;

/// A folder with annotation files of any [`Format`] and an image folder; whatever lies elsewhere can be named.
/// Relative names count from `dir`, which may also be the annotation file itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// The folder.
    pub dir: PathBuf,
    /// `train`, `val`, `test` (all splits whose name holds "test", hence `testA` and `testB` too), `testA`, `testB`,
    /// or `all`.
    pub split: String,
    /// The format; by default told by the names of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The refs file; by default the only one in `dir`, or `refs(final).p` if there are several: that is Ref-ZOM's name, so a
    /// `refs(final-val).p` or `refs(human).p` beside it is only read if it is named here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refs: Option<PathBuf>,
    /// By default `instances.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<PathBuf>,
    /// By default `images`, `trainval2014` or `train2014`, whichever exists; or REFER's `../images/mscoco/images/train2014`.
    /// For one's own sets, `dir` itself or `images` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Keep what was parsed in `dir/.refzom-cache`, so that the next start is quick; a folder that cannot be written to
    /// works without. Changed annotation files are noticed by their content.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub cache: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_yes(yes: &bool) -> bool {
    *yes
}

impl DatasetConfig {
    /// The split `split` of the folder `dir`, with the usual names.
    pub fn new(dir: impl Into<PathBuf>, split: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            split: split.into(),
            format: None,
            refs: None,
            instances: None,
            images: None,
            cache: true,
        }
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

    /// The folder that relative names count from.
    pub fn base(&self) -> &Path {
        match self.dir.is_file() {
            true => self.dir.parent().unwrap_or(Path::new("")),
            false => &self.dir,
        }
    }

    /// The annotation files and their format.
    ///
    /// # Errors
    /// There is none, the choice is not clear, or a named file does not exist or has no known format.
    pub fn located(&self) -> Result<Located, DataError> {
        let named = match &self.refs {
            Some(refs) => self.base().join(refs),
            None if self.dir.is_file() => self.dir.clone(),
            None => return locate(&self.dir, self.format),
        };
        let by_ending = || match named.extension().and_then(|e| e.to_str()) {
            Some("p" | "pkl" | "pickle") => Some(Format::Refer),
            Some("json") => Some(Format::Grefcoco),
            _ => None,
        };
        let format = self.format.or_else(|| Format::of_file(&named)).or_else(by_ending);
        let format = format.ok_or_else(|| {
            let message = match named.exists() {
                true => "has no ending that tells its format; name it with format (--format)",
                false => "does not exist; refs (--refs) counts from the data set's folder",
            };
            DataError::format(&named, message)
        })?;
        Ok(Located { format, files: vec![named] })
    }

    /// The first annotation file.
    ///
    /// # Errors
    /// As [`Self::located`].
    pub fn refs_path(&self) -> Result<PathBuf, DataError> {
        Ok(self.located()?.files.swap_remove(0))
    }

    /// The instances file.
    pub fn instances_path(&self) -> PathBuf {
        self.base().join(self.instances.as_deref().unwrap_or(Path::new("instances.json")))
    }

    /// The image folder.
    ///
    /// # Errors
    /// It does not exist.
    pub fn images_path(&self) -> Result<PathBuf, DataError> {
        if let Some(images) = &self.images {
            let path = self.base().join(images);
            return match path.is_dir() {
                true => Ok(path),
                false => Err(DataError::format(
                    path,
                    "is no folder of images; images (--images) counts from the data set's folder",
                )),
            };
        }
        let usual = ["images", "trainval2014", "train2014", "../images/mscoco/images/train2014"];
        let found = usual.iter().map(|name| self.base().join(name)).find(|path| path.is_dir());
        found.ok_or_else(|| {
            DataError::format(
                self.base(),
                "holds no folder images, trainval2014 or train2014; name it with images (--images)",
            )
        })
    }
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
        assert!(cfg.images_path().unwrap_err().to_string().contains("images (--images)"));
    }

    #[test]
    fn a_named_file_that_does_not_exist_is_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = DatasetConfig::new(dir.path(), "train").with_refs("foo");
        let error = cfg.located().unwrap_err().to_string();
        assert!(error.contains("foo: does not exist; refs (--refs)"), "{error}");
        std::fs::write(dir.path().join("foo"), "").unwrap();
        let error = cfg.located().unwrap_err().to_string();
        assert!(error.contains("no ending") && error.contains("format (--format)"), "{error}");
        let cfg = DatasetConfig { images: Some("foo".into()), ..cfg };
        let error = cfg.images_path().unwrap_err().to_string();
        assert!(error.contains("no folder of images; images (--images)"), "{error}");
    }
}
