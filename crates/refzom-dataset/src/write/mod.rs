//! Data sets written in any of the formats that are read: the original pickle (protocol 2, as REFER's authors wrote it),
//! gRefCOCO's json, one's own lines or table.
//!
//! What a format cannot hold is listed ([`Losses`]); a conversion that would lose expressions is refused unless asked for.

mod images;
mod loss;
mod own;
mod refer;
mod split;

pub use images::ImagePlacement;
pub use loss::{Loss, Losses};
pub use split::{Carved, Carving};

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::dataset::Format;
use crate::partial::{must_be_empty, write_whole};
use crate::refer::save_pickle;
use crate::{Annotations, DataError, RefRecord, RejectReason};

/// How masks are written in one's own formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskForm {
    /// Polygons stay polygons, run lengths stay run lengths.
    #[default]
    Keep,
    /// Compressed run lengths.
    Rle,
    /// A PNG an object, in `masks`.
    Png,
}

/// A conversion.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// The format to write.
    pub format: Format,
    /// How masks are written; only for one's own formats.
    pub masks: MaskForm,
    /// What happens to the images.
    pub images: ImagePlacement,
    /// Go on even if expressions are lost.
    pub allow_loss: bool,
}

/// What a conversion has written.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// The annotation file.
    pub file: PathBuf,
    /// Records, lines or rows in it.
    pub records: usize,
    /// What the format could not hold.
    pub losses: Losses,
}

impl Export {
    /// Into this format, with its usual settings.
    pub fn new(format: Format) -> Self {
        let (masks, images) = (MaskForm::default(), ImagePlacement::default());
        Self { format, masks, images, allow_loss: false }
    }

    /// Writes the data set into the folder `out`, which does not exist yet or is empty; on an error nothing is left behind.
    /// `progress` hears the name of the work, how much of it is done, and of how much.
    ///
    /// # Errors
    /// The folder holds something, expressions would be lost ([`Export::allow_loss`]), or a file cannot be written.
    pub fn write(
        &self,
        annotations: &Annotations,
        out: &Path,
        progress: impl FnMut(&'static str, usize, usize),
    ) -> Result<Exported, DataError> {
        must_be_empty(out)?;
        let mut losses = Losses::default();
        losses.add(Loss::UnreadLine, annotations.rejected.len());
        let file = out.join(self.format.file_name());
        let content = if self.format.has_instances() {
            Content::Refer(refer::records(annotations, self.format, &mut losses))
        } else {
            Content::Own(own::lines(annotations, self.format, self.masks, &mut losses))
        };
        if losses.lose_expressions() && !self.allow_loss {
            return Err(DataError::format(&file, refusal(&losses, annotations)));
        }
        let records = content.len();
        if records == 0 {
            return Err(DataError::Empty(format!(
                "nothing is left to write to {}",
                file.display()
            )));
        }
        write_whole(out, |dir| self.fill(dir, annotations, &content, &mut losses, progress))?;
        Ok(Exported { file, records, losses })
    }

    /// Writes annotations, masks and images into `dir`.
    fn fill(
        &self,
        dir: &Path,
        annotations: &Annotations,
        content: &Content,
        losses: &mut Losses,
        mut progress: impl FnMut(&'static str, usize, usize),
    ) -> Result<(), DataError> {
        let file = dir.join(self.format.file_name());
        match content {
            Content::Refer(records) => {
                save_records(&file, self.format, records)?;
                let to = dir.join("instances.json");
                match &annotations.instances_file {
                    // Everything in it is kept, also what is not read here.
                    Some(from) => {
                        std::fs::copy(from, &to).map_err(|e| DataError::write(&to, e))?;
                    }
                    None => refer::completed(&annotations.instances).save(&to)?,
                }
            }
            Content::Own(lines) => {
                let bytes = match self.format {
                    Format::Csv => own::to_csv(&lines.records),
                    _ => own::to_jsonl(&lines.records),
                };
                let bytes = bytes.map_err(|message| DataError::format(&file, message))?;
                std::fs::write(&file, bytes).map_err(|e| DataError::write(&file, e))?;
                own::write_masks(dir, &lines.masks, &mut progress)?;
            }
        }
        images::place(annotations, self.images, dir, losses, progress)
    }
}

enum Content {
    Refer(Vec<RefRecord>),
    Own(own::Lines),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Refer(records) => records.len(),
            Self::Own(lines) => lines.records.len(),
        }
    }
}

/// Writes records as a pickle, or as json where the format is gRefCOCO's.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn save_records(
    file: &Path,
    format: Format,
    records: &[impl Serialize],
) -> Result<(), DataError> {
    if format != Format::Grefcoco {
        return save_pickle(file, records);
    }
    let json = serde_json::to_vec(records)
        .map_err(|e| DataError::format(file, format!("cannot be written as json: {e}")))?;
    std::fs::write(file, json).map_err(|e| DataError::write(file, e))
}

/// Why a conversion is refused: what it would lose, and of lines that could not be read the first.
fn refusal(losses: &Losses, annotations: &Annotations) -> String {
    let part = |(loss, count): (Loss, usize)| {
        let lost = format!("{count} {}", loss.label_of(count));
        let first = annotations.rejected.first().filter(|_| loss == Loss::UnreadLine);
        let Some(first) = first else { return lost };
        let why = match &first.reason {
            RejectReason::BadLine(message) => message.clone(),
            reason => reason.to_string(),
        };
        let line = if count > 1 { "the first is line" } else { "line" };
        format!("{lost} ({line} {}: {why}; `dmmi-cli data doctor` lists all)", first.ref_id)
    };
    let lost: Vec<String> =
        losses.iter().filter(|(loss, _)| loss.loses_expressions()).map(part).collect();
    let lost = lost.join("; ");
    format!("would lose {lost}; use --allow-loss (allow_loss), or choose another format")
}
