//! What can go wrong in a run; every variant names the thing and the remedy.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// An error of configuring, training, evaluating or storing a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration that cannot be used; the message names the key.
    #[error("{origin}: {message}")]
    Config {
        /// The file, or what else the configuration came from.
        origin: String,
        /// The key, what is wrong with it, and the remedy.
        message: String,
    },
    /// A file or folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder could not be written; what was there before is untouched.
    #[error("cannot write {}{}", path.display(), remedy(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A checkpoint that is incomplete, altered or of another format.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// The run cannot be taken up with this configuration.
    #[error("cannot resume {}: {message}", path.display())]
    Resume {
        /// The run's folder.
        path: PathBuf,
        /// What differs or is missing, and the remedy.
        message: String,
    },
    /// The run's folder already holds a run.
    #[error("{} already holds a run or a config.toml; go on with the run with --resume, or choose another --out", .0.display())]
    RunExists(PathBuf),
    /// Another process is writing to the run's folder.
    #[error("{} is in use by another process; wait for it to end or choose another --out", .0.display())]
    RunLocked(PathBuf),
    /// A loss or a gradient became infinite or not a number; the parameters were not touched by this step.
    #[error(
        "{what} became {value} at step {step} (epoch {epoch}), samples: {}; checkpoints written before are intact: start a new run with init set to the last one and a lower optimizer.lr or a smaller optimizer.clip_norm",
        samples.join(", ")
    )]
    NonFinite {
        /// Which quantity.
        what: String,
        /// Its value.
        value: f64,
        /// Steps done before this one.
        step: usize,
        /// The epoch, counted from 1.
        epoch: usize,
        /// Ids of the samples in the batch.
        samples: Vec<String>,
    },
    /// The same while the visual encoder was trained on categories.
    #[error(
        "{what} of [pretrain] became {value} at step {step}; start a new run with a lower pretrain.lr or a smaller optimizer.clip_norm"
    )]
    PretrainNonFinite {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Steps done before this one.
        step: usize,
    },
    /// The network answers a sentence with logits that are infinite or not numbers.
    #[error(
        "the network's output for sentence {sentence} of the {split} split is not finite: training diverged; checkpoints written before are intact: start a new run with init set to one of them and a lower optimizer.lr or a smaller optimizer.clip_norm"
    )]
    NonFiniteOutput {
        /// Name of the split.
        split: String,
        /// Id of the sentence in the refs file.
        sentence: i64,
    },
    /// Parameters the optimiser holds received no gradient in the first step: a broken graph.
    #[error(
        "no gradient reaches {} of the trained parameters, first {}; take them out of the optimiser or mend the model",
        .0.len(), .0.first().map_or("", String::as_str)
    )]
    NoGradient(Vec<String>),
    /// The user asked to stop.
    #[error("stopped on request")]
    Interrupted,
    /// A PyTorch file cannot be read or written.
    #[error(transparent)]
    Torch(#[from] torch_files::Error),
    /// Reading or batching data failed.
    #[error(transparent)]
    Data(#[from] refzom_dataset::DataError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What helps where a file cannot be written.
fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            " (what was written before is intact; free space and go on with the run)"
        }
        _ => " (choose another place)",
    }
}

impl Error {
    /// Whether the input (files, arguments, configuration) is at fault rather than the program or the machine.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Data(error) => !matches!(
                error,
                refzom_dataset::DataError::Worker { .. } | refzom_dataset::DataError::Tensor(_)
            ),
            Self::Torch(error) => {
                !matches!(error, torch_files::Error::Write { .. } | torch_files::Error::Tensor(_))
            }
            Self::Config { .. }
            | Self::Read { .. }
            | Self::Checkpoint { .. }
            | Self::Resume { .. }
            | Self::RunExists(_)
            | Self::RunLocked(_) => true,
            Self::Write { .. }
            | Self::NonFinite { .. }
            | Self::NonFiniteOutput { .. }
            | Self::PretrainNonFinite { .. }
            | Self::NoGradient(_)
            | Self::Interrupted
            | Self::Tensor(_) => false,
        }
    }

    /// An [`Error::Config`] of `origin`.
    pub fn config(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { origin: origin.into(), message: message.into() }
    }

    /// Where the network came from `checkpoint`, an output that is not finite is that one's fault; other errors are as they were.
    pub fn of_checkpoint(self, checkpoint: impl AsRef<Path>) -> Self {
        match self {
            Self::NonFiniteOutput { split, sentence } => Self::checkpoint(
                checkpoint,
                format!(
                    "the network's output for sentence {sentence} of the {split} split is not finite: its weights are damaged or training diverged; use another checkpoint"
                ),
            ),
            other => other,
        }
    }

    pub(crate) fn read(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn checkpoint(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().to_path_buf(), message: message.into() }
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
