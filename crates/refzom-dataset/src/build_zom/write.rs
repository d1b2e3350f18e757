//! The files of the new set: Ref-ZOM's two (spec section 10), and beside them where every sentence comes from.
//!
//! `instances.json` is copied from the inputs element by element, byte for byte: outlines, licences and addresses stay as they are.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, Origin};
use super::catalog::{Catalog, parse};
use super::decisions::Verdict;
use super::json_stream::visit_arrays;
use super::pictures::Placing;
use super::plan::{Chosen, ZomPlan, ZomProgress};
use super::readme::readme;
use crate::partial::write_whole;
use crate::{DataError, Ids, RefRecord, Sentence, TargetKind, save_refs};

/// A line of `provenance.jsonl`.
#[derive(Serialize)]
struct Provenance<'a> {
    sent_id: i64,
    ref_id: i64,
    image_id: i64,
    split: &'static str,
    kind: TargetKind,
    sentence: &'a str,
    ann_ids: &'a [i64],
    #[serde(flatten)]
    origin: &'a Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<Verdict>,
}

impl ZomPlan {
    /// Name of the annotation pickle.
    pub const REFS: &'static str = "refs(final).p";

    /// Writes `refs(final).p`, `instances.json`, `provenance.jsonl`, `summary.json`, `README.md` and, unless
    /// [`Placing::None`], `images/` into `out`, which must not exist or be empty. Nothing is left behind on an error.
    ///
    /// # Errors
    /// `out` holds something, a file cannot be written, or an instances file changed since it was read.
    pub fn write_to(
        &self,
        out: impl AsRef<Path>,
        placing: Placing,
        mut progress: impl FnMut(ZomProgress<'_>),
    ) -> Result<(), DataError> {
        write_whole(out.as_ref(), |partial| self.write_files(partial, placing, &mut progress))
    }

    fn write_files(
        &self,
        dir: &Path,
        placing: Placing,
        progress: &mut impl FnMut(ZomProgress<'_>),
    ) -> Result<(), DataError> {
        fs::create_dir_all(dir).map_err(|e| DataError::write(dir, e))?;
        let records = self.write_provenance(&dir.join("provenance.jsonl"))?;
        save_refs(dir.join(Self::REFS), &records)?;
        let used: HashSet<i64> = records.iter().map(|record| record.image_id).collect();
        copy_instances(&self.catalog, &used, &dir.join("instances.json"), progress)?;
        let summary = serde_json::json!({ "config": self.config, "report": self.report });
        write_json(&dir.join("summary.json"), &summary)?;
        write_text(&dir.join("README.md"), &readme(self))?;
        if placing != Placing::None {
            let folder = dir.join("images");
            fs::create_dir_all(&folder).map_err(|e| DataError::write(&folder, e))?;
            let pictures =
                self.catalog.pictures().iter().filter(|picture| used.contains(&picture.id));
            for (done, picture) in pictures.enumerate() {
                self.pictures.place(&picture.file_name, &folder, placing)?;
                progress(ZomProgress::Making("pictures", done + 1, used.len()));
            }
        }
        Ok(())
    }

    /// Numbers the sentences, groups them into records, and writes the origin of each.
    fn write_provenance(&self, path: &Path) -> Result<Vec<RefRecord>, DataError> {
        let fail = |e: std::io::Error| DataError::write(path, e);
        let mut file = BufWriter::new(File::create(path).map_err(fail)?);
        let mut records: Vec<RefRecord> = Vec::new();
        for (i, chosen) in self.chosen.iter().enumerate() {
            let candidate = &chosen.candidate;
            let sent_id = i as i64 + 1;
            let record = self.record_of(chosen, &mut records);
            record.sent_ids.push(sent_id);
            record.sentences.push(sentence(&candidate.sentence, sent_id));
            let line = Provenance {
                sent_id,
                ref_id: record.ref_id,
                image_id: record.image_id,
                split: chosen.split.name(),
                kind: candidate.kind(),
                sentence: &candidate.sentence,
                ann_ids: &candidate.objects,
                origin: &candidate.origin,
                review: chosen.verdict,
            };
            serde_json::to_writer(&mut file, &line)
                .map_err(|e| DataError::format(path, e.to_string()))?;
            file.write_all(b"\n").map_err(fail)?;
        }
        file.flush().map_err(fail)?;
        Ok(records)
    }

    /// The record of the same objects, which is the last one (sentences are in order), or a new one.
    fn record_of<'r>(&self, chosen: &Chosen, records: &'r mut Vec<RefRecord>) -> &'r mut RefRecord {
        let candidate = &chosen.candidate;
        let picture = &self.catalog.pictures()[candidate.picture as usize];
        let same = |record: &RefRecord| {
            record.image_id == picture.id && record.ann_id.to_vec() == candidate.objects
        };
        if !records.last().is_some_and(same) {
            records.push(RefRecord {
                ref_id: records.len() as i64 + 1,
                ann_id: match candidate.objects.as_slice() {
                    [only] => Ids::One(*only),
                    all => Ids::Many(all.to_vec()),
                },
                image_id: picture.id,
                category_id: self.categories_of(candidate),
                split: chosen.split.name().to_owned(),
                file_name: picture.file_name.to_string(),
                sent_ids: Vec::new(),
                sentences: Vec::new(),
                source: Some(candidate.kind().to_string()),
                no_target: None,
            });
        }
        let last = records.len() - 1;
        &mut records[last]
    }

    /// One category for all objects if they share it, else one each; -1 for none, as Ref-ZOM's zero records have.
    fn categories_of(&self, candidate: &Candidate) -> Ids {
        let ids: Vec<i64> = candidate
            .objects
            .iter()
            .filter_map(|&id| self.catalog.object(id))
            .map(|object| object.category_id)
            .collect();
        match ids.as_slice() {
            [] => Ids::One(-1),
            [first, rest @ ..] if rest.iter().all(|id| id == first) => Ids::One(*first),
            _ => Ids::Many(ids),
        }
    }
}

/// `raw` is the sentence as it is read, `sent` and `tokens` its cleaned form: lower case, no punctuation, as REFER's.
fn sentence(text: &str, sent_id: i64) -> Sentence {
    let cleaned: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '\'' | '-'))
        .collect();
    let tokens: Vec<String> = cleaned.split_whitespace().map(str::to_owned).collect();
    Sentence { sent: tokens.join(" "), tokens, raw: text.to_owned(), sent_id }
}

#[derive(Deserialize)]
struct OnlyImage {
    image_id: i64,
}

#[derive(Deserialize)]
struct OnlyId {
    id: i64,
}

/// Copies the used images with all their annotations.
fn copy_instances(
    catalog: &Catalog,
    used: &HashSet<i64>,
    path: &Path,
    progress: &mut impl FnMut(ZomProgress<'_>),
) -> Result<(), DataError> {
    let fail = |e: std::io::Error| DataError::write(path, e);
    let mut file = BufWriter::with_capacity(1 << 18, File::create(path).map_err(fail)?);
    let mut rest = Rest::default();
    file.write_all(b"{\"annotations\":[").map_err(fail)?;
    let (mut annotations, mut bytes) = (0usize, 0u64);
    for (place, input) in catalog.files().iter().enumerate() {
        let visit = |key: &str, element: &[u8]| -> Result<(), String> {
            match key {
                "annotations"
                    if used.contains(&parse::<OnlyImage>(element, "an annotation")?.image_id) =>
                {
                    if annotations > 0 {
                        file.write_all(b",").map_err(|e| e.to_string())?;
                    }
                    annotations += 1;
                    bytes += element.len() as u64;
                    file.write_all(element).map_err(|e| e.to_string())
                }
                "images" if used.contains(&parse::<OnlyId>(element, "an image")?.id) => {
                    join(&mut rest.images, element);
                    Ok(())
                }
                "categories" if place == 0 => {
                    join(&mut rest.categories, element);
                    Ok(())
                }
                "licenses" if place == 0 => {
                    join(&mut rest.licenses, element);
                    Ok(())
                }
                "info" if place == 0 => {
                    rest.info = element.to_vec();
                    Ok(())
                }
                _ => Ok(()),
            }
        };
        let name = input.display().to_string();
        visit_arrays(input, visit, |bytes| progress(ZomProgress::Writing(&name, bytes)))?;
    }
    let mut part = |before: &[u8], content: &[u8], after: &[u8]| -> std::io::Result<()> {
        file.write_all(before)?;
        file.write_all(content)?;
        file.write_all(after)
    };
    part(b"],\"images\":[", &rest.images, b"]").map_err(fail)?;
    part(b",\"categories\":[", &rest.categories, b"]").map_err(fail)?;
    part(b",\"licenses\":[", &rest.licenses, b"]").map_err(fail)?;
    if !rest.info.is_empty() {
        part(b",\"info\":", &rest.info, b"").map_err(fail)?;
    }
    part(b"}\n", b"", b"").map_err(fail)?;
    file.flush().map_err(fail)
}

/// What stands after the annotations; small.
#[derive(Default)]
struct Rest {
    images: Vec<u8>,
    categories: Vec<u8>,
    licenses: Vec<u8>,
    info: Vec<u8>,
}

fn join(list: &mut Vec<u8>, element: &[u8]) {
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(element);
}

fn write_text(path: &Path, text: &str) -> Result<(), DataError> {
    fs::write(path, text).map_err(|e| DataError::write(path, e))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DataError> {
    let json =
        serde_json::to_vec_pretty(value).map_err(|e| DataError::format(path, e.to_string()))?;
    fs::write(path, json).map_err(|e| DataError::write(path, e))
}
