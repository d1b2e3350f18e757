//! Examines a data set before a training run does: every fault is counted, shown by example, and comes with what to do.
//!
//! The checks are stricter than loading: what [`crate::Dataset::load`] leaves out is an error here, so is what shows only when
//! every image is decoded (one that is cut short), or spoils the result (an image to test on among those to train on).

mod fault;
mod leaks;
mod outlines;
mod pictures;
mod records;
mod report;
mod sentences;

pub use fault::{Fault, Severity};
pub use report::{Diagnosis, Finding};

use crate::{Annotations, DataError, RejectReason};

/// What is examined, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Doctor {
    /// Decode every image; without it their content and size are not looked at.
    pub decode: bool,
    /// Threads that decode.
    pub threads: usize,
    /// Examples to keep of every fault.
    pub examples: usize,
    /// Word pieces the model reads, `[CLS]` and `[SEP]` among them.
    pub max_pieces: usize,
    /// Other data sets by name: what they test on must not be trained on here.
    pub against: Vec<(String, Annotations)>,
}

impl Default for Doctor {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { decode: true, threads, examples: 3, max_pieces: 20, against: Vec::new() }
    }
}

impl Doctor {
    /// Examines everything. `progress` hears the name of the work, how much of it is done, and of how much.
    ///
    /// # Errors
    /// [`Doctor::max_pieces`] makes no sense. Faults of the data are no errors but [`Finding`]s.
    pub fn examine(
        &self,
        annotations: &Annotations,
        mut progress: impl FnMut(&'static str, usize, usize),
    ) -> Result<Diagnosis, DataError> {
        let mut chart = report::Chart::new(self.examples);
        for rejected in &annotations.rejected {
            chart.add(of_reader(&rejected.reason), || rejected.to_string());
        }
        let mut state = records::check(annotations, &mut chart);
        outlines::check(annotations, &mut state, &mut chart, &mut progress);
        sentences::check(annotations, self.max_pieces, &mut state, &mut chart, &mut progress)?;
        let decoded = if self.decode {
            pictures::check(annotations, &mut state, self.threads, &mut chart, &mut progress)
        } else {
            Vec::new()
        };
        leaks::check(annotations, &decoded, &self.against, &mut chart);
        records::empty_splits(annotations, &state, &mut chart);
        records::train_split(annotations, &mut chart);
        Ok(chart.diagnosis(annotations, decoded.len()))
    }
}

/// What the reader of one's own sets has left out already.
fn of_reader(reason: &RejectReason) -> Fault {
    match reason {
        RejectReason::MissingImageFile(_) => Fault::MissingImageFile,
        RejectReason::UnsafeFileName(_) => Fault::UnsafeImageName,
        // Sizes are read from the files.
        RejectReason::BadImageSize(_) => Fault::UnreadableImage,
        RejectReason::BadMaskFile(_) => Fault::BadMaskFile,
        RejectReason::BadOutline { .. } => Fault::BadOutline,
        _ => Fault::BadRecord,
    }
}
