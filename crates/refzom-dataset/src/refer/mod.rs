//! The annotation files of the RefCOCO family: referring expressions, and COCO's instances they point at.

mod instances;
mod load;
mod own;
mod own_load;
mod pickle;
mod record;

pub use instances::{
    Annotation, Category, Counts, ImageEntry, Instances, Segmentation, SizedCounts,
};
pub(crate) use load::records_from_bytes;
pub use load::{load_refs, save_refs};
pub use own::{OwnMask, OwnRecord};
pub(crate) use own_load::{OwnSet, parse_jsonl, read_own};
pub(crate) use pickle::{PlainPickle, Value};
pub use record::{Ids, RefRecord, Sentence};
