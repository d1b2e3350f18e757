//! Which image files exist: a folder is listed once instead of asking for every file.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::RejectReason;

/// Finds image files below a folder.
#[derive(Debug)]
pub(crate) struct ImageFinder {
    folder: PathBuf,
    /// Names of the files by folder, relative; `None` for a folder that cannot be listed.
    listings: HashMap<PathBuf, Option<HashSet<OsString>>>,
}

impl ImageFinder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, listings: HashMap::new() }
    }

    /// The path of an image: see [`Self::name`].
    pub(crate) fn find(&mut self, listed: &str, recorded: &str) -> Result<PathBuf, RejectReason> {
        self.name(listed, recorded).map(|name| self.folder.join(name))
    }

    /// The name that an image has in the folder. The one in `instances.json` counts; Ref-ZOM's own is tried after it.
    pub(crate) fn name<'a>(
        &mut self,
        listed: &'a str,
        recorded: &'a str,
    ) -> Result<&'a str, RejectReason> {
        if !is_inside(listed) {
            return Err(RejectReason::UnsafeFileName(listed.chars().take(200).collect()));
        }
        if self.holds(listed) {
            return Ok(listed);
        }
        if is_inside(recorded) && self.holds(recorded) {
            return Ok(recorded);
        }
        Err(RejectReason::MissingImageFile(self.folder.join(listed)))
    }

    fn holds(&mut self, name: &str) -> bool {
        let name = Path::new(name);
        let (Some(parent), Some(file)) = (name.parent(), name.file_name()) else { return false };
        let folder = &self.folder;
        let listing = match self.listings.get(parent) {
            Some(listing) => listing,
            None => {
                let listed = list(&folder.join(parent));
                self.listings.entry(parent.to_path_buf()).or_insert(listed)
            }
        };
        match listing {
            Some(names) => names.contains(file),
            None => folder.join(name).is_file(),
        }
    }
}

/// Whether a name can only lead to places inside the folder it is joined to; it may begin with `./`.
pub(crate) fn is_inside(name: &str) -> bool {
    let path = Path::new(name);
    let path = path.strip_prefix(".").unwrap_or(path);
    !path.as_os_str().is_empty() && path.components().all(|c| matches!(c, Component::Normal(_)))
}

/// The files of a folder; `None` if it may be entered but not listed, or does not exist.
fn list(folder: &Path) -> Option<HashSet<OsString>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let is_file = |entry: &std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_file() => true,
        Ok(kind) if kind.is_dir() => false,
        // A link counts as what it leads to.
        _ => entry.path().is_file(),
    };
    Some(entries.filter_map(Result::ok).filter(is_file).map(|entry| entry.file_name()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_in_folders_and_names_that_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b.jpg")).unwrap();
        for name in ["x.jpg", "a/y.jpg"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut finder = ImageFinder::new(dir.path().to_path_buf());
        for inside in ["x.jpg", "a/y.jpg", "./x.jpg", "./a/y.jpg"] {
            assert!(finder.find(inside, "").is_ok(), "{inside}");
        }
        assert_eq!(finder.find("gone.jpg", "x.jpg").unwrap(), dir.path().join("x.jpg"));
        for missing in ["a/b.jpg", "y.jpg", "nowhere/z.jpg"] {
            let reason = finder.find(missing, "").unwrap_err();
            assert!(matches!(reason, RejectReason::MissingImageFile(_)), "{missing}");
        }
        for unsafe_name in ["", ".", "../x.jpg", "./../x.jpg", "/etc/passwd", "a/../x.jpg"] {
            let reason = finder.find(unsafe_name, "x.jpg").unwrap_err();
            assert!(matches!(reason, RejectReason::UnsafeFileName(_)), "{unsafe_name}");
        }
    }
}
