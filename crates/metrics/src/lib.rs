#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod evaluation;
mod exact;
mod gres;
mod overlap;
mod report;
mod ris;

pub use evaluation::{Evaluation, Kind};
pub use gres::{GRES_THRESHOLDS, GresMetrics};
pub use overlap::{MetricsError, Overlap};
pub use report::{EvaluationReport, GresReport, KindReport, RisReport};
pub use ris::{RIS_THRESHOLDS, RisMetrics};
