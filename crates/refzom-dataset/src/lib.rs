#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod batch;
pub mod build_zom;
mod categories;
pub mod dataset;
pub mod doctor;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
mod loader;
pub mod mask;
mod partial;
mod prepare;
pub mod refer;
pub mod sampler;
pub mod stats;
pub mod synthetic;
pub mod text;
pub mod write;

pub use self::image::{
    ImageTransform, Orientation, Resampling, RgbImage, decode_rgb, load_rgb, resize_bilinear,
    resize_with,
};
pub use batch::Batch;
pub use categories::CategoryMaps;
pub use dataset::{
    Annotations, Dataset, DatasetConfig, DatasetSummary, Format, Leaks, Located, PictureKey,
    RejectReason, Rejected, Sample, TargetKind, count_reasons,
};
pub use doctor::{Diagnosis, Doctor, Fault, Finding, Severity};
pub use error::DataError;
pub use loader::{Batches, Loader, LoaderConfig};
pub use mask::{BoundingBox, MAX_PIXELS, Mask, Rle, rasterize_polygon};
pub use prepare::{Preparation, Prepared, Preparer};
pub use refer::{
    Annotation, Category, Counts, Ids, ImageEntry, Instances, OwnMask, OwnRecord, RefRecord,
    Segmentation, Sentence, SizedCounts, load_refs, save_refs,
};
pub use sampler::{Order, Sampler, Shard};
pub use stats::Statistics;
pub use synthetic::{SyntheticConfig, SyntheticRefZom, SyntheticSummary};
pub use text::{
    BERT_BASE_UNCASED_VOCAB, Cut, Encoded, EraseMode, ExpressionTokenizer, MAX_EXPRESSION_BYTES,
    NounTagger, PerceptronTagger, PhraseEraser, Replacement, TaggedWord, split_words,
};
pub use write::{Carved, Carving, Export, Exported, ImagePlacement, Loss, Losses, MaskForm};
