//! A synthetic twin of Ref-ZOM: scenes of coloured shapes, sentences with zero, one or many targets,
//! in the same files (spec §10), reproducible from a seed, with nothing to download.
//!
//! ```text
//! SyntheticConfig ─► scene (objects, occlusion) ─► render ─► images/*.png
//!                      └─► choose (query) ─► evaluate (which objects? clearly?) ─► phrase ─► refs(synthetic).p
//! ```
//! A sentence is written only if [`evaluate`] finds its meaning beyond dispute: each predicate has a margin
//! in which it is unclear, and an unclear query is thrown away.
//! Zero-target sentences are near misses: true sentences of the same scene with one attribute changed.

mod attributes;
mod choose;
mod config;
mod evaluate;
mod files;
mod generate;
mod phrase;
mod query;
mod render;
mod scene;
mod vocab;
mod write;

pub use attributes::{Color, Shape, Size};
pub use choose::{Changed, NearMiss};
pub use config::{Proportions, SyntheticConfig};
pub use evaluate::{Answer, Truth, evaluate};
pub use files::{KindCounts, Meaning, ObjectMeaning, SentenceMeaning, SyntheticSummary};
pub use query::{Description, Direction, NounPhrase, Place, Quantity, Query, Region};
pub use scene::{Entity, World};
pub use vocab::synthetic_vocab;
pub use write::SyntheticRefZom;
