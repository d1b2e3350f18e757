//! The lock file: which commit, size and SHA-256 each file had when it was first fetched. Later fetches must agree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::checksum::{Checksum, is_hex};
use super::{Address, Kind};

const HEADER: &str = "\
# Written by `cargo xtask fetch-weights` and `fetch-data` when a file is fetched for the first time: the commit that the
# revision stood for, and the size and SHA-256 of what came, after both agreed with what the hub states for the file.
# Every later fetch must agree with it. Commit this file; `--update` writes an entry anew.
";

/// What one file was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Locked {
    #[serde(default)]
    pub(super) kind: Kind,
    pub(super) repo: String,
    /// As asked for.
    pub(super) revision: String,
    pub(super) file: String,
    /// What the revision stood for.
    pub(super) commit: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) sha256: String,
    /// The hub's own id of the contents: the SHA-256 again, or the Git blob id of a small file.
    pub(super) etag: String,
}

impl Locked {
    /// The hub's id as a checksum.
    pub(super) fn checksum(&self) -> Checksum {
        Checksum::from_etag(&self.etag).unwrap_or(Checksum::Sha256(self.sha256.clone()))
    }

    fn validate(&self) -> Result<()> {
        let address = Address {
            kind: self.kind,
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            file: self.file.clone(),
        };
        address.validate()?;
        if !(is_hex(&self.commit) && self.commit.len() == 40) {
            bail!("{address}: commit {:?} is not 40 hexadecimal digits", self.commit);
        }
        if !(is_hex(&self.sha256) && self.sha256.len() == 64) {
            bail!("{address}: sha256 {:?} is not 64 hexadecimal digits", self.sha256);
        }
        if Checksum::from_etag(&self.etag).is_none() {
            bail!("{address}: etag {:?} is no checksum", self.etag);
        }
        Ok(())
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    file: Vec<Locked>,
}

/// A lock file and where it lies.
pub(crate) struct LockFile {
    path: PathBuf,
    files: Vec<Locked>,
}

impl LockFile {
    /// Reads `path`; no such file is an empty lock.
    ///
    /// # Errors
    /// It cannot be read, or an entry is not one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let parse = || -> Result<Vec<Locked>> {
            let table: Table = toml::from_str(&text)?;
            table.file.iter().try_for_each(Locked::validate)?;
            Ok(table.file)
        };
        let wrong = || format!("{}: restore it from version control, or delete it", path.display());
        Ok(Self { path: path.to_owned(), files: parse().with_context(wrong)? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The entry of a file, whatever its revision.
    pub(super) fn get(&self, address: &Address) -> Option<&Locked> {
        self.files
            .iter()
            .find(|e| e.kind == address.kind && e.repo == address.repo && e.file == address.file)
    }

    /// Adds or replaces an entry and writes the file in one step. What other processes added meanwhile is kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn put(&mut self, entry: Locked) -> Result<()> {
        let mut files = Self::open(&self.path)?.files;
        files.retain(|e| (e.kind, &e.repo, &e.file) != (entry.kind, &entry.repo, &entry.file));
        files.push(entry);
        files.sort_by(|a, b| (&a.repo, &a.file).cmp(&(&b.repo, &b.file)));
        let table = Table { file: files };
        let text = format!("{HEADER}\n{}", toml::to_string(&table)?);
        let temporary = self.path.with_extension(format!("lock.{}.tmp", std::process::id()));
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.files = table.file;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(file: &str) -> Locked {
        Locked {
            kind: Kind::Model,
            repo: "a/b".into(),
            revision: "main".into(),
            file: file.into(),
            commit: "c".repeat(40),
            size: 5,
            sha256: "d".repeat(64),
            etag: "d".repeat(64),
        }
    }

    #[test]
    fn entries_survive_and_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.lock");
        let mut lock = LockFile::open(&path).unwrap();
        lock.put(entry("z")).unwrap();
        LockFile::open(&path).unwrap().put(entry("a")).unwrap();
        lock.put(Locked { size: 6, ..entry("z") }).unwrap();
        let again = LockFile::open(&path).unwrap();
        assert_eq!(again.files, [entry("a"), Locked { size: 6, ..entry("z") }]);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with('#'));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_spoilt_lock_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.lock");
        for (field, value) in [("commit", "main"), ("sha256", "12"), ("file", "../../x")] {
            let mut table: toml::Table =
                toml::from_str(&toml::to_string(&Table { file: vec![entry("f")] }).unwrap())
                    .unwrap();
            table["file"][0][field] = value.into();
            std::fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
            let error = format!("{:#}", LockFile::open(&path).err().unwrap());
            assert!(error.contains("weights.lock"), "{error}");
        }
    }
}
