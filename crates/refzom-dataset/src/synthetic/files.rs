//! The contents of the files of a synthetic Ref-ZOM as scenes are added, and their README.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attributes::{Color, Shape, Size};
use super::choose::NearMiss;
use super::config::SyntheticConfig;
use super::generate::{DrawnObject, Kind, Said};
use super::query::Query;
use super::vocab::synthetic_vocab;
use super::write::SyntheticRefZom;
use crate::DataError;
use crate::mask::Mask;
use crate::refer::{Annotation, Category, Ids, ImageEntry, Instances, RefRecord, Sentence};

/// Sentences by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// With exactly one target.
    pub one: usize,
    /// With two or more targets.
    pub many: usize,
    /// Without target.
    pub zero: usize,
}

impl KindCounts {
    /// All sentences.
    pub fn total(&self) -> usize {
        self.one + self.many + self.zero
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyntheticSummary {
    /// Pictures by split.
    pub scenes: BTreeMap<String, usize>,
    /// Sentences by split and kind.
    pub sentences: BTreeMap<String, KindCounts>,
    /// Records of `refs(synthetic).p`: sentences of a scene with the same targets share one.
    pub refs: usize,
    /// Annotated objects.
    pub objects: usize,
    /// Near misses by the attribute that was changed.
    pub near_misses: BTreeMap<String, usize>,
    /// Pieces of `vocab.txt`.
    pub vocab_size: usize,
}

/// `meaning.json`: what each sentence means and what each object is, for checks and for error analysis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meaning {
    /// By ascending `sent_id`.
    pub sentences: Vec<SentenceMeaning>,
    /// By ascending `ann_id`.
    pub objects: Vec<ObjectMeaning>,
}

/// The meaning of one sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentenceMeaning {
    /// As in `refs(synthetic).p`.
    pub sent_id: i64,
    /// The structured query it was worded from.
    pub query: Query,
    /// For a zero-target sentence, where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near_miss: Option<NearMiss>,
}

/// The attributes of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeaning {
    /// As in `instances.json`.
    pub ann_id: i64,
    /// Its colour.
    pub color: Color,
    /// Its shape.
    pub shape: Shape,
    /// Its size class.
    pub size: Size,
}

/// A scene without its pixels, which are on disk already.
pub(super) struct Described {
    pub(super) objects: Vec<DrawnObject>,
    pub(super) sentences: Vec<Said>,
}

/// File name of scene `index`.
pub(super) fn image_name(index: usize) -> String {
    format!("{:012}.png", index + 1)
}

/// The contents of the files as they grow.
#[derive(Default)]
pub(super) struct Files {
    instances: Instances,
    refs: Vec<RefRecord>,
    meaning: Meaning,
    summary: SyntheticSummary,
}

impl Files {
    pub(super) fn add(
        &mut self,
        cfg: &SyntheticConfig,
        index: usize,
        split: &str,
        scene: Described,
    ) -> Result<(), DataError> {
        let image_id = index as i64 + 1;
        self.instances.images.push(ImageEntry {
            id: image_id,
            file_name: image_name(index),
            width: cfg.width,
            height: cfg.height,
        });
        let first = self.instances.annotations.len() as i64 + 1;
        for (i, object) in scene.objects.iter().enumerate() {
            let ann_id = first + i as i64;
            self.instances.annotations.push(annotation(cfg, ann_id, image_id, object)?);
            self.meaning.objects.push(ObjectMeaning {
                ann_id,
                color: object.color,
                shape: object.shape,
                size: object.size,
            });
        }
        let counts = self.summary.sentences.entry(split.to_owned()).or_default();
        let first_ref = self.refs.len();
        for said in scene.sentences {
            match said.kind {
                Kind::One => counts.one += 1,
                Kind::Many => counts.many += 1,
                Kind::Zero => counts.zero += 1,
            }
            let sent_id = self.meaning.sentences.len() as i64 + 1;
            if let Some(near) = said.choice.near_miss {
                let name = format!("{:?}", near.changed).to_lowercase();
                *self.summary.near_misses.entry(name).or_default() += 1;
            }
            let meaning = SentenceMeaning {
                sent_id,
                query: said.choice.query,
                near_miss: said.choice.near_miss,
            };
            self.meaning.sentences.push(meaning);
            let sentence = Sentence {
                tokens: said.text.split(' ').map(str::to_owned).collect(),
                raw: said.text.clone(),
                sent: said.text,
                sent_id,
            };
            let ann_ids: Vec<i64> = said.choice.targets.iter().map(|&i| first + i as i64).collect();
            let categories: Vec<i64> =
                said.choice.targets.iter().map(|&i| scene.objects[i].shape.category_id()).collect();
            let same = |r: &&mut RefRecord| !ann_ids.is_empty() && r.ann_id.to_vec() == ann_ids;
            if let Some(record) = self.refs[first_ref..].iter_mut().find(same) {
                record.sent_ids.push(sent_id);
                record.sentences.push(sentence);
                continue;
            }
            self.refs.push(RefRecord {
                ref_id: self.refs.len() as i64 + 1,
                image_id,
                category_id: shared_category(&categories),
                ann_id: if ann_ids.len() == 1 { Ids::One(ann_ids[0]) } else { Ids::Many(ann_ids) },
                split: split.to_owned(),
                file_name: image_name(index),
                sent_ids: vec![sent_id],
                sentences: vec![sentence],
                source: Some(said.kind.name().to_owned()),
                no_target: None,
            });
        }
        *self.summary.scenes.entry(split.to_owned()).or_default() += 1;
        self.summary.objects += scene.objects.len();
        Ok(())
    }

    pub(super) fn save(
        mut self,
        cfg: &SyntheticConfig,
        dir: &Path,
    ) -> Result<SyntheticSummary, DataError> {
        self.instances.categories = Shape::ALL
            .iter()
            .map(|s| Category {
                id: s.category_id(),
                name: s.name().to_owned(),
                supercategory: "shape".to_owned(),
            })
            .collect();
        self.instances.save(dir.join("instances.json"))?;
        let path = dir.join(SyntheticRefZom::REFS);
        // protocol 2 is what Python 2 and Python 3 both read
        let pickle = serde_pickle::to_vec(&self.refs, serde_pickle::SerOptions::new().proto_v2())
            .map_err(|e| DataError::format(&path, e.to_string()))?;
        fs::write(&path, pickle).map_err(|e| DataError::write(&path, e))?;
        let vocab = synthetic_vocab();
        self.summary.vocab_size = vocab.lines().count();
        self.summary.refs = self.refs.len();
        write_text(&dir.join("vocab.txt"), &vocab)?;
        write_json(&dir.join("meaning.json"), &self.meaning, false)?;
        write_json(&dir.join("config.json"), cfg, true)?;
        write_text(&dir.join("README.md"), &readme(cfg, &self.summary))?;
        Ok(self.summary)
    }
}

/// The category of all targets if they share one, otherwise a list; -1 for none, as Ref-ZOM's zero records have.
fn shared_category(categories: &[i64]) -> Ids {
    match categories {
        [] => Ids::One(-1),
        [first, rest @ ..] if rest.iter().all(|c| c == first) => Ids::One(*first),
        _ => Ids::Many(categories.to_vec()),
    }
}

fn annotation(
    cfg: &SyntheticConfig,
    id: i64,
    image_id: i64,
    object: &DrawnObject,
) -> Result<Annotation, DataError> {
    let mask =
        Mask::from_bits(cfg.height, cfg.width, object.mask.iter().map(|&m| u8::from(m)).collect())?;
    let rle = mask.to_rle();
    let bbox = rle
        .bounding_box()
        .map_or_else(Vec::new, |b| [b.x, b.y, b.width, b.height].map(f64::from).to_vec());
    Ok(Annotation {
        id,
        image_id,
        category_id: object.shape.category_id(),
        segmentation: rle.to_segmentation(),
        area: rle.area() as f64,
        bbox,
        iscrowd: 0,
    })
}

fn write_text(path: &Path, text: &str) -> Result<(), DataError> {
    fs::write(path, text).map_err(|e| DataError::write(path, e))
}

fn write_json(path: &Path, value: &impl Serialize, pretty: bool) -> Result<(), DataError> {
    let json = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    let json = json.map_err(|e| DataError::format(path, e.to_string()))?;
    fs::write(path, json).map_err(|e| DataError::write(path, e))
}

fn readme(cfg: &SyntheticConfig, summary: &SyntheticSummary) -> String {
    let mut rows = String::new();
    for split in ["train", "val", "test"] {
        let Some(c) = summary.sentences.get(split) else { continue };
        let scenes = summary.scenes.get(split).copied().unwrap_or(0);
        rows += &format!(
            "| {split} | {scenes} | {} | {} | {} | {} |\n",
            c.total(),
            c.one,
            c.many,
            c.zero
        );
    }
    let misses: Vec<String> = summary.near_misses.iter().map(|(k, n)| format!("{k} {n}")).collect();
    format!(
        "# Synthetic Ref-ZOM\n\n\
        Made by `SyntheticRefZom` of the crate `refzom-dataset` from `config.json` (seed {}); the same config gives the same bytes.\n\
        Pictures are {}x{}: coloured shapes on textured backgrounds, partly hidden by one another.\n\n\
        | split | pictures | sentences | one target | many | none |\n|---|---|---|---|---|---|\n{rows}\n\
        A picture is in one split only. {} objects, {} records.\n\
        Sentences without target are near misses: a true sentence with one attribute changed ({}).\n\n\
        | file | holds |\n|---|---|\n\
        | `{}` | list of records as in Ref-ZOM (pickle protocol 2): image, `ann_id` (number or list), `split`, `sentences`, `source` |\n\
        | `instances.json` | COCO layout; each segmentation is the compressed run lengths of exactly the visible pixels |\n\
        | `images/` | PNG, 8-bit RGB |\n\
        | `vocab.txt` | {} WordPiece pieces, `[PAD]` is 0 |\n\
        | `meaning.json` | the structured query behind each sentence, the near miss it is, and the attributes of each object |\n",
        cfg.seed,
        cfg.width,
        cfg.height,
        summary.objects,
        summary.refs,
        misses.join(", "),
        SyntheticRefZom::REFS,
        summary.vocab_size,
    )
}
