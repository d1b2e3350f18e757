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
use crate::{Annotations, DataError, RefRecord, save_refs};

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

    /// Writes the data set into the folder `out`, which does not exist yet or is empty.
    /// `progress` hears the name of the work, how much of it is done, and of how much.
    ///
    /// # Errors
    /// The folder holds something, expressions would be lost ([`Export::allow_loss`]), or a file cannot be written.
    pub fn write(
        &self,
        annotations: &Annotations,
        out: &Path,
        mut progress: impl FnMut(&'static str, usize, usize),
    ) -> Result<Exported, DataError> {
        refuse_full(out)?;
        let mut losses = Losses::default();
        losses.add(Loss::UnreadLine, annotations.rejected.len());
        let file = out.join(self.format.file_name());
        let content = if self.format.has_instances() {
            Content::Refer(refer::records(annotations, self.format, &mut losses))
        } else {
            Content::Own(own::lines(annotations, self.format, self.masks, &mut losses)?)
        };
        if losses.lose_expressions() && !self.allow_loss {
            let lost: Vec<String> = losses
                .iter()
                .filter(|(loss, _)| loss.loses_expressions())
                .map(|(loss, count)| format!("{count} {loss}"))
                .collect();
            let message = format!(
                "would lose {}; use --allow-loss (allow_loss), or choose another format",
                lost.join("; ")
            );
            return Err(DataError::format(&file, message));
        }
        let records = content.len();
        if records == 0 {
            return Err(DataError::Empty(format!(
                "nothing is left to write to {}",
                file.display()
            )));
        }
        std::fs::create_dir_all(out).map_err(|e| DataError::write(out, e))?;
        match content {
            Content::Refer(records) => {
                save_records(&file, self.format, &records)?;
                let to = out.join("instances.json");
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
                own::write_masks(out, &lines.masks, &mut progress)?;
            }
        }
        images::place(annotations, self.images, out, &mut losses, progress)?;
        Ok(Exported { file, records, losses })
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
    records: &[RefRecord],
) -> Result<(), DataError> {
    if format != Format::Grefcoco {
        return save_refs(file, records);
    }
    let json = serde_json::to_vec(records)
        .map_err(|e| DataError::format(file, format!("cannot be written as json: {e}")))?;
    std::fs::write(file, json).map_err(|e| DataError::write(file, e))
}

fn refuse_full(out: &Path) -> Result<(), DataError> {
    match std::fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(DataError::format(out, "holds files already; choose a new folder")),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(DataError::write(out, e)),
    }
}
