//! The annotation files of the RefCOCO family: referring expressions, and COCO's instances they point at.

mod instances;
mod record;

pub use instances::{Annotation, Category, Counts, ImageEntry, Instances, Segmentation};
pub use record::{Ids, RefRecord, Sentence};
