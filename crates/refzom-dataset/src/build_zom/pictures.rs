//! Where image files lie, and how they come into the new set's folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::DataError;

/// How image files come into the set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placing {
    /// A link to each used image.
    #[default]
    Link,
    /// A copy of each used image: the folder stands alone.
    Copy,
    /// Not at all: name the folder when the set is loaded.
    None,
}

/// The files of some image folders.
#[derive(Clone, Debug, Default)]
pub(super) struct PictureFiles {
    folders: Vec<PathBuf>,
    /// Place of the folder, by file name.
    found: HashMap<String, usize>,
}

impl PictureFiles {
    pub(super) fn list(folders: &[PathBuf]) -> Result<Self, DataError> {
        let mut files = Self { folders: folders.to_vec(), found: HashMap::new() };
        for (place, folder) in folders.iter().enumerate() {
            let entries = fs::read_dir(folder).map_err(|e| DataError::read(folder, e))?;
            for entry in entries {
                let name = entry.map_err(|e| DataError::read(folder, e))?.file_name();
                if let Ok(name) = name.into_string() {
                    files.found.entry(name).or_insert(place);
                }
            }
        }
        Ok(files)
    }

    /// Whether the image can be used: it is there, or no folder was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.folders.is_empty() || self.path(name).is_some()
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        if let Some(&place) = self.found.get(name) {
            return Some(self.folders[place].join(name));
        }
        // names with a folder ("train2014/1.jpg") are not listed
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        let nested = inside && Path::new(name).components().count() > 1;
        nested
            .then(|| {
                self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
            })
            .flatten()
    }

    /// Puts one image into `folder` under its name.
    pub(super) fn place(&self, name: &str, folder: &Path, how: Placing) -> Result<(), DataError> {
        let Some(from) = self.path(name).filter(|_| how != Placing::None) else { return Ok(()) };
        let to = folder.join(name);
        if let Some(parent) = to.parent().filter(|parent| *parent != folder) {
            fs::create_dir_all(parent).map_err(|e| DataError::write(parent, e))?;
        }
        let placed = match how {
            Placing::Link => link(&from, &to),
            _ => fs::copy(&from, &to).map(drop),
        };
        placed.map_err(|e| DataError::write(&to, e))
    }
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(fs::canonicalize(from)?, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_found_linked_and_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, out) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("out"));
        for folder in [&a, &b.join("c"), &out] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(a.join("1.jpg"), "one").unwrap();
        fs::write(b.join("c/2.jpg"), "two").unwrap();
        let files = PictureFiles::list(&[a, b]).unwrap();
        assert!(files.has("1.jpg") && files.has("c/2.jpg"));
        assert!(!files.has("3.jpg") && !files.has("../a/1.jpg") && !files.has("/etc/passwd"));
        files.place("1.jpg", &out, Placing::Link).unwrap();
        files.place("c/2.jpg", &out, Placing::Copy).unwrap();
        assert_eq!(fs::read_to_string(out.join("1.jpg")).unwrap(), "one");
        assert_eq!(fs::read_to_string(out.join("c/2.jpg")).unwrap(), "two");
        assert!(PictureFiles::default().has("anything.jpg"));
        assert!(PictureFiles::list(&["nowhere".into()]).is_err());
    }
}
