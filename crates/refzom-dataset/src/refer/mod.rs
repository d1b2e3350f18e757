//! The annotation files of the RefCOCO family: referring expressions, and COCO's instances they point at.

mod instances;
mod lenient;
mod load;
mod own;
mod own_load;
mod pickle;
mod record;
mod resplit;

pub use instances::{
    Annotation, Category, Counts, ImageEntry, Instances, Segmentation, SizedCounts,
};
pub(crate) use lenient::{flag, or_default};
pub use load::{load_refs, save_refs};
pub(crate) use load::{records_from_bytes, save_pickle};
pub use own::{OwnMask, OwnRecord};
pub(crate) use own_load::{OwnSet, parse_jsonl, read_own};
pub(crate) use pickle::{PlainPickle, Value};
pub use record::{Ids, RefRecord, Sentence};
pub(crate) use resplit::with_splits;
