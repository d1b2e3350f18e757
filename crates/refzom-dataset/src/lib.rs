#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod error;
pub mod refer;
pub mod synthetic;
pub mod text;

pub use error::DataError;
pub use refer::{
    Annotation, Category, Counts, Ids, ImageEntry, Instances, RefRecord, Segmentation, Sentence,
};
pub use synthetic::*;
pub use text::*;
