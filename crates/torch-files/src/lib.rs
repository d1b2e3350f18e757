#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod archive;
mod dtype;
mod error;
mod file;
pub mod pickle;
mod save;
mod source;
mod state;
mod storage;
mod tensor;

pub use archive::Format;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use file::{TorchFile, load};
pub use save::{Saved, save};
pub use state::{Named, strip_prefix};
pub use tensor::TensorInfo;
