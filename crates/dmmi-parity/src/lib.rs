#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod cases;
mod data;
mod eval;
pub mod golden;
mod hash;
mod layout;
pub mod network;
mod noise;
pub mod report;
mod rows;
mod scores;
mod sidecar;
mod stats;
mod summary;
mod tensors;
mod torch;
mod train;
mod units;
mod weights;

pub use cases::{Found, Kind, find, names, run_directory, run_directory_on};
pub use data::DataKind;
pub use hash::{HashStream, hash_ints, hash_values};
pub use noise::{FACTOR, ROUNDING};
