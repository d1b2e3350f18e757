#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod error;
pub mod image;
pub mod mask;
pub mod refer;
pub mod synthetic;
pub mod text;

pub use error::DataError;
pub use self::image::{
    ImageTransform, Orientation, RgbImage, decode_rgb, load_rgb, resize_bilinear,
};
pub use mask::{BoundingBox, MAX_PIXELS, Mask, Rle, rasterize_polygon};
pub use refer::{
    Annotation, Category, Counts, Ids, ImageEntry, Instances, RefRecord, Segmentation, Sentence,
    SizedCounts, load_refs, save_refs,
};
pub use synthetic::{SyntheticConfig, SyntheticRefZom, SyntheticSummary};
pub use text::*;
