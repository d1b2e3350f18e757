//! What can go wrong; every variant names the file, the place in it and the remedy.

use std::path::{Path, PathBuf};

/// An error of reading or writing a PyTorch file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file could not be written; what was there before is untouched.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is damaged, cut off, hostile, or no PyTorch file.
    #[error("{}: {place}: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it: an entry, a byte, a storage, a tensor.
        place: String,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// The file is sound, but holds something this crate does not read.
    #[error("{}: {place}: {message}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What it holds, and the remedy.
        message: String,
    },
    /// Candle could not make a tensor.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn damaged(
        path: &Path,
        place: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::Damaged { path: path.into(), place: place.into(), message: message.into() }
    }

    pub(crate) fn unsupported(
        path: &Path,
        place: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::Unsupported { path: path.into(), place: place.into(), message: message.into() }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }
}
