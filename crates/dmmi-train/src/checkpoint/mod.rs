//! Checkpoints: a model for use ([`save_model`], [`load_model`]), and the state of a run ([`RunDir`], [`RunState`]).

mod commit;
mod foreign;
mod model_dir;
mod run_dir;
mod state;
mod weights;

pub(crate) use commit::verify;
pub(crate) use foreign::WeightsFile;
pub use foreign::{ReleaseOptions, load_release, save_release};
pub use model_dir::{LoadedModel, ModelFile, load_model, read_model_file, save_model};
pub(crate) use model_dir::{WEIGHTS, write_json, write_model};
pub use run_dir::{RunDir, find_checkpoint};
pub(crate) use state::FORMAT;
pub use state::{Best, EpochSums, Fingerprint, RunState};
pub(crate) use weights::{WeightsReader, load_tensors, save_tensors};
