//! Builds a set like Ref-ZOM from COCO instances, captions and RefCOCO-style files (spec section 10).
//!
//! ```text
//! instances ─► Catalog ─┬─► one-to-one:  expressions as they stand, prompts ("the left dog")
//! captions ┐            ├─► one-to-many: expressions combined, prompts ("all the dogs"), hand-written lines
//! refs ────┴─► Texts ───┴─► one-to-zero: captions and expressions of other images that pass two checks
//!                                        └─► review page ─► decisions, read back
//! ```
//! Outlines are never held in memory: they are skipped on the first reading, and copied byte for byte on the second.
//! Every sentence keeps its origin in `provenance.jsonl`. The same files, settings and decisions give the same bytes.

mod attributes;
mod candidate;
mod catalog;
mod categories;
mod checks;
mod combine;
mod config;
mod decisions;
mod draw;
mod evidence;
mod hand_written;
mod json_stream;
mod lexicon;
mod one_to_zero;
mod phrase;
mod pictures;
mod plan;
mod prompts;
mod readme;
mod select;
mod splits;
#[cfg(test)]
mod tests;
mod texts;
mod write;

pub use attributes::{Colour, number_of, number_word};
pub use candidate::{Candidate, Origin, Quoted};
pub use catalog::{Catalog, Object, Picture};
pub use categories::{CATEGORIES, CategoryIndex, CategorySet, CategoryWords, index_of};
pub use checks::{Conflict, Failed, Passed, check, conflict};
pub use config::ZomConfig;
pub use decisions::{Decision, Decisions, DecisionsFile, Verdict};
pub use evidence::Evidence;
pub use hand_written::{BadLine, HandWritten, read_hand_written};
pub use lexicon::{Meaning, meaning_of};
pub use phrase::{NotAPhrase, Number, Phrase, Tail};
pub use pictures::Placing;
pub use plan::{Chosen, ZomInputs, ZomPlan, ZomProgress, ZomReport};
pub use splits::ZomSplit;
pub use texts::{Caption, Expression, Texts};
