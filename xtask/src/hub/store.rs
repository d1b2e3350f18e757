//! Hugging Face's cache on disk: `blobs/<etag>`, links `snapshots/<commit>/<file>`, `refs/<revision>`. Python's tools read
//! what this writes, and the other way round.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hf_hub::Cache;

use super::Address;
use super::checksum::{Checksum, is_hex};

/// The cache's view of one address.
pub(super) struct Store<'a> {
    cache: &'a Cache,
    address: &'a Address,
}

impl<'a> Store<'a> {
    pub(super) fn new(cache: &'a Cache, address: &'a Address) -> Self {
        Self { cache, address }
    }

    /// Where the contents lie.
    pub(super) fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.cache.repo(self.address.repository()).blob_path(checksum.hex())
    }

    /// Where unfinished contents lie, under the name that Python's `huggingface_hub` uses too.
    pub(super) fn part(&self, checksum: &Checksum) -> PathBuf {
        let mut name = self.blob(checksum).into_os_string();
        name.push(".incomplete");
        PathBuf::from(name)
    }

    /// Where a reader finds the file.
    pub(super) fn pointer(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.address.repository()).pointer_path(commit).join(&self.address.file)
    }

    /// The commit that the revision stood for when something was last fetched.
    pub(super) fn commit(&self) -> Option<String> {
        if is_hex(&self.address.revision) && self.address.revision.len() == 40 {
            return Some(self.address.revision.clone());
        }
        let refs = self.cache.path().join(self.address.repository().folder_name()).join("refs");
        let text = std::fs::read_to_string(refs.join(&self.address.revision)).ok()?;
        let commit = text.trim();
        (is_hex(commit) && commit.len() == 40).then(|| commit.to_owned())
    }

    /// Makes the file appear under its commit, and the commit under the revision.
    pub(super) fn publish(&self, checksum: &Checksum, commit: &str) -> Result<PathBuf> {
        let (blob, pointer) = (self.blob(checksum), self.pointer(commit));
        let fail = |path: &Path| format!("cannot write {}", path.display());
        if let Some(dir) = pointer.parent() {
            std::fs::create_dir_all(dir).with_context(|| fail(dir))?;
        }
        // An old link, or a damaged copy.
        if pointer.symlink_metadata().is_ok() {
            std::fs::remove_file(&pointer).with_context(|| fail(&pointer))?;
        }
        link(&blob, &pointer, self.address.file.split('/').count())
            .with_context(|| fail(&pointer))?;
        // A commit needs no name of its own.
        if self.address.revision != commit {
            let repository = self.cache.repo(self.address.repository());
            repository.create_ref(commit).with_context(|| fail(self.cache.path()))?;
        }
        Ok(pointer)
    }

    /// Removes contents that are not what they should be, wherever the link leads.
    pub(super) fn discard(&self, path: &Path) -> Result<()> {
        let blob = path.canonicalize().ok();
        for path in blob.iter().map(PathBuf::as_path).chain([path]) {
            if path.symlink_metadata().is_ok() {
                std::fs::remove_file(path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// One process at a time fetches one blob; the lock goes with the process, however it ends.
    pub(super) fn lock(&self, checksum: &Checksum) -> Result<File> {
        let folder = self.address.repository().folder_name();
        let dir = self.cache.path().join(".locks").join(folder);
        let path = dir.join(format!("{}.lock", checksum.hex()));
        let open = || -> std::io::Result<File> {
            if let Some(blobs) = self.blob(checksum).parent() {
                std::fs::create_dir_all(blobs)?;
            }
            std::fs::create_dir_all(&dir)?;
            let file = File::options().create(true).append(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    eprintln!("another process fetches {}; waiting for it", self.address);
                    file.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            Ok(file)
        };
        open().with_context(|| {
            format!("cannot write the cache {}: set HF_HOME to a folder of yours", dir.display())
        })
    }
}

/// `depth` is the number of parts in the file's name below `snapshots/<commit>`.
#[cfg(unix)]
fn link(blob: &Path, pointer: &Path, depth: usize) -> std::io::Result<()> {
    let mut target: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
    target.push("blobs");
    target.push(blob.file_name().unwrap_or_default());
    std::os::unix::fs::symlink(target, pointer)
}

/// Links need a privilege on Windows: the file itself moves there, as Hugging Face's tools do it.
#[cfg(not(unix))]
fn link(blob: &Path, pointer: &Path, _depth: usize) -> std::io::Result<()> {
    std::fs::rename(blob, pointer)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Kind;
    use super::*;

    #[test]
    fn the_layout_is_hugging_faces() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        let address = Address {
            kind: Kind::Dataset,
            repo: "owner/name".into(),
            revision: "main".into(),
            file: "data/a.json".into(),
        };
        let store = Store::new(&cache, &address);
        let (checksum, commit) = (Checksum::GitBlob("a".repeat(40)), "c".repeat(40));
        let _lock = store.lock(&checksum).unwrap();
        std::fs::write(store.blob(&checksum), "contents").unwrap();
        assert_eq!(store.commit(), None);
        let pointer = store.publish(&checksum, &commit).unwrap();
        store.publish(&checksum, &commit).unwrap();
        let root = dir.path().join("datasets--owner--name");
        assert_eq!(pointer, root.join("snapshots").join(&commit).join("data/a.json"));
        assert_eq!(std::fs::read_to_string(&pointer).unwrap(), "contents");
        let blob = format!("../../../blobs/{}", "a".repeat(40));
        assert_eq!(std::fs::read_link(&pointer).unwrap(), Path::new(&blob));
        assert_eq!(store.commit().as_deref(), Some(commit.as_str()));
        // `hf-hub`'s own look-up finds it.
        assert_eq!(cache.repo(address.repository()).get("data/a.json").as_ref(), Some(&pointer));
        store.discard(&pointer).unwrap();
        assert!(!store.blob(&checksum).exists() && pointer.symlink_metadata().is_err());
    }
}
