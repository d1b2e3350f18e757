//! How other libraries name these encoders, as tables for [`nn_ops::names`]: each scheme maps a file's names to ours.
//!
//! Files of classifiers and language models hold heads, which are listed as not needed; whatever no line knows is reported
//! as unexpected. The schemes of one encoder exclude each other by their anchors.

mod bert;
mod resnet;
mod swin;

pub use bert::BERT;
pub use resnet::RESNET;
pub use swin::SWIN;

/// Why counts of batches are not needed: only averages without momentum use them.
const COUNTS: &str = "counts of batches";
/// Why heads are not needed.
const HEAD: &str = "head of another task";
