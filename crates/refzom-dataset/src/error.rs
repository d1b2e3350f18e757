//! What can go wrong between the files and a batch; every variant names the thing and, where there is one, the remedy.
//!
//! Faults of single records are not errors but values: see [`crate::Rejected`].

use std::path::{Path, PathBuf};

/// An error of reading, decoding or batching data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file was read but does not hold what its name promises.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// A picture that cannot be decoded, is cut short, or is too large.
    #[error("image {name}: {message}")]
    Image {
        /// Path of the picture, or what else identifies it.
        name: String,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// A polygon or run-length encoding that describes no mask.
    #[error("mask: {0}")]
    Mask(String),
    /// An expression, a vocabulary or tagger weights that cannot be used.
    #[error("text: {0}")]
    Text(String),
    /// A setting that makes no sense.
    #[error("{field}: {message}")]
    Config {
        /// Name of the setting.
        field: &'static str,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// Every record was rejected, or the split holds none.
    #[error("no usable sample: {0}")]
    Empty(String),
    /// A worker thread of the loader failed.
    #[error("loader worker failed on {name}: {message}")]
    Worker {
        /// The file or sample being worked on.
        name: String,
        /// The panic message.
        message: String,
    },
    /// The flag given to [`crate::Batches::interrupted_by`] was set.
    #[error("stopped")]
    Stopped,
    /// A tensor could not be made.
    #[error("cannot make a tensor of the batch")]
    Tensor(#[from] candle_core::Error),
}

impl DataError {
    /// A [`DataError::Read`] of `path`.
    pub fn read(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Read { path: path.as_ref().to_path_buf(), source }
    }

    /// A [`DataError::Write`] of `path`.
    pub fn write(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Write { path: path.as_ref().to_path_buf(), source }
    }

    /// A [`DataError::Format`] of `path`.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// A [`DataError::Image`] of `name`.
    pub fn image(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Image { name: name.into(), message: message.into() }
    }
}
