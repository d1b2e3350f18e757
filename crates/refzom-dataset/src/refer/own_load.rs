//! Reads one's own set ([`super::own`]) into REFER's records. A record's id is the number of its line, so that messages
//! name it; the other ids are made up in the order of the lines.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::own::{OwnMask, OwnRecord, misspelt};
use super::{Annotation, Category, Ids, ImageEntry, Instances, RefRecord, Segmentation, Sentence};
use crate::dataset::{Format, ImageFinder, RejectReason, Rejected, is_inside, split_of_name};
use crate::image::{dimensions, load_mask_png};
use crate::{DataError, Rle};

/// Largest annotation file that is read, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// One's own set in REFER's terms.
pub(crate) struct OwnSet {
    pub(crate) records: Vec<RefRecord>,
    pub(crate) instances: Instances,
    pub(crate) images: PathBuf,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) depends_on: Vec<PathBuf>,
}

/// A line, and where it stands.
struct Line {
    /// Number of the line, counted on from file to file.
    number: i64,
    split: String,
    record: OwnRecord,
}

/// Reads `files`, whose masks count from `base`; images from `images`, or where the first of them are found.
///
/// # Errors
/// A file cannot be read, or a table lacks a column or has a misspelt one.
pub(crate) fn read_own(
    format: Format,
    files: &[PathBuf],
    base: &Path,
    images: Option<PathBuf>,
) -> Result<OwnSet, DataError> {
    let (mut lines, mut rejected) = (Vec::new(), Vec::new());
    let mut before = 0;
    for file in files {
        let length = std::fs::metadata(file).map_err(|e| DataError::read(file, e))?.len();
        if length > MAX_FILE {
            let message = format!("{length} bytes are too many for an annotation file; split it");
            return Err(DataError::format(file, message));
        }
        let bytes = std::fs::read(file).map_err(|e| DataError::read(file, e))?;
        let parsed = match format {
            Format::Csv => parse_csv(&bytes).map_err(|m| DataError::format(file, m))?,
            _ => parse_jsonl(&bytes),
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let usual = split_of_name(file).unwrap_or("train");
        let after = before + parsed.last().map_or(0, |(number, _)| *number);
        for (number, parsed) in parsed {
            match parsed.and_then(|record| check(record, usual)) {
                Ok((split, record)) => lines.push(Line { number: before + number, split, record }),
                Err(message) => rejected.push(Rejected {
                    ref_id: number,
                    sentence_id: None,
                    image_id: 0,
                    split: String::new(),
                    reason: RejectReason::BadLine(format!("{message} ({name})")),
                }),
            }
        }
        before = after;
    }
    let images = images.unwrap_or_else(|| find_images(base, &lines));
    Ok(Builder::new(base, images, rejected).build(lines))
}

/// The lines of a json-lines file with their numbers, counted from 1; empty lines are passed over.
pub(crate) fn parse_jsonl(bytes: &[u8]) -> Vec<Numbered> {
    let lines = bytes.split(|&b| b == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    filled
        .map(|(i, line)| {
            let line =
                if i == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            (i as i64 + 1, parse_line(line))
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Result<OwnRecord, String> {
    const LIKE: &str =
        r#"write one like {"image": "a.jpg", "expression": "red dog", "mask": "a.png"}"#;
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(format!("is no JSON object on one line; {LIKE}"));
    }
    serde_json::from_slice(line).map_err(|error| match error.is_data() {
        true => placeless(&error),
        false => format!("is no JSON object on one line: {}; {LIKE}", placeless(&error)),
    })
}

/// What is wrong, without serde's place: lines are counted here.
fn placeless(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// A record, or why it is none, with the number of its line.
type Numbered = (i64, Result<OwnRecord, String>);

/// The rows of a table with the numbers of their lines.
fn parse_csv(bytes: &[u8]) -> Result<Vec<Numbered>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let header = reader.byte_headers().map_err(|e| format!("has no header line: {e}"))?.clone();
    let place = |name: &str| {
        header.iter().position(|h| h.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    };
    let needed = |name: &str| {
        place(name).ok_or_else(|| {
            format!("has no column {name}; its first line must name image, expression and mask, separated by commas, and may name split and category")
        })
    };
    let (image, expression, mask) = (needed("image")?, needed("expression")?, needed("mask")?);
    let (split, category) = (place("split"), place("category"));
    refuse_misspelt(&header)?;
    let mut rows = Vec::new();
    // The reader's own line numbers are one short where lines end in a carriage return.
    let (mut counted, mut line) = (0, 1);
    let mut line_of = |place: Option<&csv::Position>| {
        let mut at = place.map_or(counted, |place| place.byte() as usize).min(bytes.len());
        at += bytes[at..].iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
        let from = counted.min(at);
        line += bytes[from..at].iter().filter(|&&b| b == b'\n').count() as i64;
        counted = at;
        line
    };
    for row in reader.byte_records() {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let line = line_of(error.position());
                rows.push((line, Err(format!("cannot be read: {error}"))));
                continue;
            }
        };
        let line = line_of(row.position());
        let cell = |at: usize| -> Result<String, String> {
            let bytes = row.get(at).ok_or("has fewer cells than the first line names")?;
            let text = std::str::from_utf8(bytes).map_err(|_| "is not utf-8")?;
            Ok(text.trim().to_owned())
        };
        let optional =
            |at: Option<usize>| at.map(cell).transpose().map(|c| c.filter(|c| !c.is_empty()));
        let record = || -> Result<OwnRecord, String> {
            // A comma of the sentence would shift the mask.
            if row.iter().skip(header.len()).any(|cell| !cell.trim_ascii().is_empty()) {
                let more = "has more cells than the first line names";
                return Err(format!("{more}; put a sentence with commas into double quotes"));
            }
            let mut record = OwnRecord {
                image: cell(image)?,
                expression: Some(cell(expression)?),
                split: optional(split)?,
                category: optional(category)?,
                ..OwnRecord::default()
            };
            match cell(mask)?.as_str() {
                "" | "none" | "None" | "null" => record.mask = Some(None),
                text if text.starts_with(['[', '{']) => {
                    let wrong = |e: serde_json::Error| {
                        let why = placeless(&e);
                        format!("has a mask that is neither polygons nor run lengths: {why}")
                    };
                    if text.starts_with("[{") {
                        record.masks = Some(serde_json::from_str(text).map_err(wrong)?);
                    } else {
                        record.mask = Some(Some(serde_json::from_str(text).map_err(wrong)?));
                    }
                }
                files => {
                    let files = files.split(';').map(|f| OwnMask::File(f.trim().to_owned()));
                    record.masks = Some(files.collect());
                }
            }
            Ok(record)
        };
        rows.push((line, record()));
    }
    Ok(rows)
}

/// A column of another name is ignored unless it looks like a known one.
fn refuse_misspelt(header: &csv::ByteRecord) -> Result<(), String> {
    const KNOWN: [&str; 5] = ["image", "expression", "mask", "split", "category"];
    for name in header.iter().map(|name| String::from_utf8_lossy(name.trim_ascii())) {
        let is_known = KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known));
        if let (false, Some(known)) = (is_known, misspelt(&name, &KNOWN)) {
            return Err(format!(
                "has the unknown column {name:?}; is {known} meant? rename or delete it"
            ));
        }
    }
    Ok(())
}

/// What a line lacks, in words.
fn check(mut record: OwnRecord, usual: &str) -> Result<(String, OwnRecord), String> {
    if record.image.is_empty() {
        return Err("names no image".into());
    }
    if let Some(expression) = record.expression.take() {
        record.expressions.insert(0, expression);
    }
    if record.expressions.is_empty() {
        return Err("has no expression".into());
    }
    if record.mask.is_none() && record.masks.is_none() {
        return Err("has no mask; write \"mask\": null if its expression refers to nothing".into());
    }
    let split = record.split.take().filter(|split| !split.is_empty());
    Ok((split.unwrap_or_else(|| usual.to_owned()), record))
}

/// The folder in which one of the first images lies: beside the annotations, or in one of the usual folders.
fn find_images(base: &Path, lines: &[Line]) -> PathBuf {
    let usual = ["", "images", "trainval2014", "train2014"];
    let holds = |folder: &PathBuf| {
        let inside = lines.iter().take(50).filter(|line| is_inside(&line.record.image));
        inside.into_iter().any(|line| folder.join(&line.record.image).is_file())
    };
    usual.iter().map(|name| base.join(name)).find(holds).unwrap_or_else(|| base.to_path_buf())
}

/// Collects images, categories and objects under new ids.
struct Builder<'a> {
    base: &'a Path,
    finder: ImageFinder,
    ids: HashMap<String, Result<i64, RejectReason>>,
    categories: HashMap<String, i64>,
    set: OwnSet,
}

impl<'a> Builder<'a> {
    fn new(base: &'a Path, images: PathBuf, rejected: Vec<Rejected>) -> Self {
        let finder = ImageFinder::new(images.clone());
        let (ids, categories) = (HashMap::new(), HashMap::new());
        let (records, instances, depends_on) = (Vec::new(), Instances::default(), Vec::new());
        let set = OwnSet { records, instances, images, rejected, depends_on };
        Self { base, finder, ids, categories, set }
    }

    fn build(mut self, lines: Vec<Line>) -> OwnSet {
        let placed: Vec<Result<usize, RejectReason>> =
            lines.iter().map(|line| self.image(&line.record.image)).collect();
        let outlines = self.outlines(&lines, &placed);
        for ((line, image), outlines) in lines.into_iter().zip(placed).zip(outlines) {
            let image = match image {
                Ok(image) => &self.set.instances.images[image],
                Err(reason) => {
                    self.reject(&line, 0, reason);
                    continue;
                }
            };
            let image_id = image.id;
            let outlines = match outlines {
                Ok(outlines) => outlines,
                Err(reason) => {
                    self.reject(&line, image_id, reason);
                    continue;
                }
            };
            let category_id = self.category(line.record.category.as_deref());
            let mut ann_ids = Vec::new();
            for segmentation in outlines {
                let id = self.set.instances.annotations.len() as i64 + 1;
                ann_ids.push(id);
                self.set.instances.annotations.push(Annotation {
                    id,
                    image_id,
                    category_id,
                    segmentation,
                    area: 0.0,
                    bbox: Vec::new(),
                    iscrowd: 0,
                });
            }
            self.record(line, image_id, category_id, ann_ids);
        }
        self.set
    }

    fn record(&mut self, line: Line, image_id: i64, category_id: i64, ann_ids: Vec<i64>) {
        let Line { number, split, record } = line;
        let before: i64 =
            self.set.records.last().map_or(0, |last| last.sent_ids.last().copied().unwrap_or(0));
        let sentence = |(i, raw): (usize, String)| Sentence {
            tokens: Vec::new(),
            sent: String::new(),
            sent_id: before + 1 + i as i64,
            raw,
        };
        let sentences: Vec<Sentence> =
            record.expressions.into_iter().enumerate().map(sentence).collect();
        self.set.records.push(RefRecord {
            ref_id: number,
            ann_id: Ids::Many(ann_ids),
            image_id,
            category_id: if category_id == 0 { Ids::None } else { Ids::One(category_id) },
            split,
            file_name: record.image,
            sent_ids: sentences.iter().map(|s| s.sent_id).collect(),
            sentences,
            source: None,
            no_target: None,
        });
    }

    fn reject(&mut self, line: &Line, image_id: i64, reason: RejectReason) {
        self.set.rejected.push(Rejected {
            ref_id: line.number,
            sentence_id: None,
            image_id,
            split: line.split.clone(),
            reason,
        });
    }

    /// Place of an image among those seen, whose size is read from its file.
    fn image(&mut self, name: &str) -> Result<usize, RejectReason> {
        if let Some(known) = self.ids.get(name) {
            return known.clone().map(|id| id as usize - 1);
        }
        let found = self.finder.find(name, "").and_then(|path| {
            let size = dimensions(&path).map_err(RejectReason::BadImageSize)?;
            Ok((path, size))
        });
        let id = found.map(|(path, (width, height))| {
            let id = self.set.instances.images.len() as i64 + 1;
            self.set.instances.images.push(ImageEntry {
                id,
                file_name: name.to_owned(),
                width,
                height,
            });
            self.set.depends_on.push(path);
            id
        });
        self.ids.insert(name.to_owned(), id.clone());
        id.map(|id| id as usize - 1)
    }

    fn category(&mut self, name: Option<&str>) -> i64 {
        let Some(name) = name else { return 0 };
        if let Some(&id) = self.categories.get(name) {
            return id;
        }
        let id = self.categories.len() as i64 + 1;
        self.categories.insert(name.to_owned(), id);
        let supercategory = String::new();
        self.set.instances.categories.push(Category { id, name: name.to_owned(), supercategory });
        id
    }

    /// The outlines of every line; mask files are read by all cores.
    fn outlines(
        &mut self,
        lines: &[Line],
        placed: &[Result<usize, RejectReason>],
    ) -> Vec<Result<Vec<Segmentation>, RejectReason>> {
        for mask in lines.iter().flat_map(|line| masks(&line.record)) {
            if let OwnMask::File(name) = mask {
                self.set.depends_on.push(self.base.join(name));
            }
        }
        let (base, images) = (self.base, &self.set.instances.images);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let (Some(line), Some(place)) = (lines.get(i), placed.get(i)) else { return done };
                let outlines = match place {
                    Ok(image) => {
                        let of = |mask| outline(mask, base, &images[*image]);
                        masks(&line.record).map(of).collect()
                    }
                    Err(_) => Ok(Vec::new()),
                };
                done.push((i, outlines));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let mut all: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for worker in workers {
                match worker.join() {
                    Ok(done) => all.extend(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            all
        });
        all.sort_unstable_by_key(|(i, _)| *i);
        all.into_iter().map(|(_, outlines)| outlines).collect()
    }
}

fn masks(record: &OwnRecord) -> impl Iterator<Item = &OwnMask> {
    record.mask.iter().flatten().chain(record.masks.iter().flatten())
}

/// The outline of one object; a mask file becomes run lengths.
fn outline(mask: &OwnMask, base: &Path, image: &ImageEntry) -> Result<Segmentation, RejectReason> {
    let name = match mask {
        OwnMask::Rle(runs) => {
            return Ok(Segmentation::Rle { size: runs.size, counts: runs.counts.clone() });
        }
        OwnMask::Polygons(polygons) => return Ok(Segmentation::Polygons(polygons.clone())),
        OwnMask::Polygon(polygon) => return Ok(Segmentation::Polygons(vec![polygon.clone()])),
        OwnMask::File(name) => name,
    };
    if name.is_empty() {
        let message = "mask is an empty name; give null if the sentence refers to nothing";
        return Err(RejectReason::BadMaskFile(message.into()));
    }
    let path = base.join(name);
    let bad = |message: String| RejectReason::BadMaskFile(format!("{}: {message}", path.display()));
    if !is_inside(name) {
        return Err(bad("leads out of the folder of the annotations".into()));
    }
    let mask = load_mask_png(&path).map_err(bad)?;
    if (mask.height(), mask.width()) != (image.height, image.width) {
        let turned = (mask.width(), mask.height()) == (image.height, image.width);
        return Err(bad(format!(
            "has {} x {} pixels but the image {} x {}{}",
            mask.width(),
            mask.height(),
            image.width,
            image.height,
            if turned {
                ", as stored: data sets do not turn photos by their EXIF data"
            } else {
                ""
            }
        )));
    }
    Ok(Rle::encode(&mask).to_segmentation())
}
