//! Files from the Hugging Face hub, each one proved: size and checksum against what the hub states for it and against a
//! lock file.
//!
//! `hf-hub` 0.5 gives the layout of the cache, the token file and the names in URLs. The transfer is ours, on the `ureq` it
//! brings: `hf-hub` compares neither checksum nor size, appends to a part even when the server ignored its range, does not
//! tell the hub's status from the CDN's, and hides `X-Linked-Size`.
//!
//! [`Client::ensure`] is the whole promise: after it the file is in the cache and is the one the lock names. With a cache
//! and a lock that agree it reads the disk only.

mod checksum;
mod client;
mod lock;
mod remote;
mod settings;
mod store;
mod transfer;

pub(crate) use client::{Client, Outcome};
pub(crate) use lock::LockFile;
pub(crate) use remote::Patience;
pub(crate) use settings::Settings;

use anyhow::{Result, bail};
use hf_hub::{Repo, RepoType};
use serde::{Deserialize, Serialize};

/// What a repository holds; decides its address and its folder in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Model,
    Dataset,
}

/// One file at one revision of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) kind: Kind,
    /// `owner/name`.
    pub(crate) repo: String,
    /// A branch, a tag or a commit.
    pub(crate) revision: String,
    /// Path inside the repository.
    pub(crate) file: String,
}

impl Address {
    /// Refuses names that would leave the repository or its folder in the cache.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub(crate) fn validate(&self) -> Result<()> {
        let plain = |text: &str| {
            let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !text.is_empty() && !text.starts_with('.') && text.chars().all(ok)
        };
        let parts: Vec<&str> = self.repo.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| plain(part)) {
            bail!("repo {:?} is not of the form owner/name", self.repo);
        }
        let inside = |path: &str| {
            let bad = |part: &str| {
                part.is_empty() || part == "." || part == ".." || part.contains(['\\', '?', '#'])
            };
            !path.split('/').any(bad) && !path.contains(|c: char| c.is_control() || c == ' ')
        };
        if !inside(&self.file) {
            bail!("file {:?} is not a path inside a repository", self.file);
        }
        if !inside(&self.revision) {
            bail!("revision {:?} is not a branch, tag or commit", self.revision);
        }
        Ok(())
    }

    /// The same file at another revision.
    fn at(&self, revision: &str) -> Self {
        Self { revision: revision.to_owned(), ..self.clone() }
    }

    fn repository(&self) -> Repo {
        let kind = match self.kind {
            Kind::Model => RepoType::Model,
            Kind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.repo.clone(), kind, self.revision.clone())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}/{}", self.repo, self.revision, self.file)
    }
}

/// `440123456` as `440.1 MB`.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_stay_inside_their_repository() {
        let address = |repo: &str, revision: &str, file: &str| Address {
            kind: Kind::Model,
            repo: repo.into(),
            revision: revision.into(),
            file: file.into(),
        };
        address("timm/resnet101.tv_in1k", "main", "model.safetensors").validate().unwrap();
        address("gpt2", "refs/pr/1", "a/b.json").validate().unwrap();
        for (repo, revision, file) in [
            ("../x", "main", "f"),
            ("a/b/c", "main", "f"),
            ("a/", "main", "f"),
            ("a/b", "../main", "f"),
            ("a/b", "main", "../../etc/passwd"),
            ("a/b", "main", "/etc/passwd"),
            ("a/b", "main", ""),
            ("a/b", "main", "f?x=1"),
        ] {
            assert!(address(repo, revision, file).validate().is_err(), "{repo} {revision} {file}");
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(megabytes(12), "12 bytes");
        assert_eq!(megabytes(440_123_456), "440.1 MB");
        assert_eq!(megabytes(13_510_573_713), "13.51 GB");
    }
}
