#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod ahead;
mod checkpoint;
mod config;
mod data;
mod error;
mod evaluate;
mod groups;
mod log;
mod network;
mod observe;
mod overrides;
mod parts;
mod pictures;
pub mod recipes;
mod run;
mod schedule;
mod step;

pub use checkpoint::{
    Best, EpochSums, Fingerprint, LoadedModel, ModelFile, ReleaseOptions, RunDir, RunState,
    find_checkpoint, load_model, load_release, read_model_file, save_model, save_release,
};
pub use config::{
    CarveConfig, CheckpointConfig, DataConfig, EraseChoice, EraseToken, EvalConfig, InitConfig,
    InitParts, LeakChoice, OptimizerConfig, Precision, PretrainConfig, ScheduleConfig, Score,
    StopConfig, TextLayers, TrainConfig, ValConfig,
};
pub use data::{RunData, Split, load_vocabulary};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Record, Summary, Tables, evaluate};
pub use groups::{param_groups, provably_without_gradient};
pub use log::RunLog;
pub use network::{Inventory, Network, PartSize, optimizer_of};
pub use observe::{EpochRecord, Observer, Observers, PretrainRecord, Start, StepRecord};
pub use overrides::{apply_set, first_difference, merge, parse_set};
pub use run::{Ended, Outcome, RunOptions, train};
pub use schedule::PolyDecay;
pub use step::{StepSettings, StepStats, tensors, train_step};
