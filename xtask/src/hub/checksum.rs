//! What the hub states about a file's contents: SHA-256 for large files (Git LFS, Xet), the Git blob id for small ones.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A checksum as an `ETag` of the hub carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// SHA-256 of the contents, 64 hexadecimal digits.
    Sha256(String),
    /// SHA-1 of `blob <size>\0` and the contents, 40 hexadecimal digits.
    GitBlob(String),
}

impl Checksum {
    /// From an `ETag` or `X-Linked-Etag`, quotes and weakness mark included; `None` if it is no checksum.
    pub(super) fn from_etag(etag: &str) -> Option<Self> {
        let text = etag.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"').to_ascii_lowercase();
        if !is_hex(&text) {
            return None;
        }
        match text.len() {
            64 => Some(Self::Sha256(text)),
            40 => Some(Self::GitBlob(text)),
            _ => None,
        }
    }

    /// The digits: the name of the blob in the cache.
    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256 {hex}"),
            Self::GitBlob(hex) => write!(f, "git blob {hex}"),
        }
    }
}

/// Lower or upper case hexadecimal digits only.
pub(super) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Digests of contents that pass by.
pub(super) struct Hasher {
    sha256: Sha256,
    git: Sha1,
    with_git: bool,
}

impl Hasher {
    /// For contents of `size` bytes that shall have `checksum`.
    pub(super) fn new(checksum: &Checksum, size: u64) -> Self {
        let mut git = Sha1::new();
        git.update(format!("blob {size}\0"));
        Self { sha256: Sha256::new(), git, with_git: matches!(checksum, Checksum::GitBlob(_)) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if self.with_git {
            self.git.update(bytes);
        }
    }

    /// The digests so far; more may follow.
    pub(super) fn digests(&self) -> Digests {
        Digests {
            sha256: hex(&self.sha256.clone().finalize()),
            git: self.with_git.then(|| hex(&self.git.clone().finalize())),
        }
    }
}

/// Digests of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
    git: Option<String>,
}

impl Digests {
    /// Whether the contents have this checksum.
    pub(super) fn are(&self, checksum: &Checksum) -> bool {
        match checksum {
            Checksum::Sha256(hex) => self.sha256 == *hex,
            Checksum::GitBlob(hex) => self.git.as_ref() == Some(hex),
        }
    }

    /// The digest of the same kind, for messages.
    pub(super) fn like(&self, checksum: &Checksum) -> String {
        match (checksum, &self.git) {
            (Checksum::GitBlob(_), Some(git)) => git.clone(),
            _ => self.sha256.clone(),
        }
    }
}

/// Digests of a file on disk; the bar advances by its bytes.
pub(super) fn of_file(path: &Path, checksum: &Checksum, bar: &ProgressBar) -> Result<Digests> {
    let read = || -> std::io::Result<Digests> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Hasher::new(checksum, file.metadata()?.len());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.digests()),
                n => hasher.update(&buffer[..n]),
            }
            bar.inc(buffer.len() as u64);
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn etags_are_told_apart() {
        let sha = "a".repeat(64);
        assert_eq!(Checksum::from_etag(&format!("\"{sha}\"")), Some(Checksum::Sha256(sha)));
        let git = "B".repeat(40);
        let weak = Checksum::from_etag(&format!("W/\"{git}\""));
        assert_eq!(weak, Some(Checksum::GitBlob("b".repeat(40))));
        assert_eq!(Checksum::from_etag("\"5f3e-multipart-2\""), None);
        assert_eq!(Checksum::from_etag(""), None);
    }

    /// `printf hello | sha256sum`, `printf hello | git hash-object --stdin`, and Git's id of the empty blob.
    #[test]
    fn digests_are_those_of_sha256sum_and_git() {
        let git = Checksum::GitBlob("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".into());
        let mut hasher = Hasher::new(&git, 5);
        hasher.update(b"hel");
        hasher.update(b"lo");
        let digests = hasher.digests();
        assert_eq!(
            digests.sha256,
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert!(digests.are(&git));
        assert!(digests.are(&Checksum::Sha256(digests.sha256.clone())));
        assert!(!digests.are(&Checksum::Sha256("0".repeat(64))));
        let empty = Checksum::GitBlob("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".into());
        assert!(Hasher::new(&empty, 0).digests().are(&empty));
    }
}
