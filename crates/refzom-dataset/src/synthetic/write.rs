//! The files of a synthetic Ref-ZOM, written whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::choose::NearMiss;
use super::config::SyntheticConfig;
use super::generate::{DrawnObject, Generated, Kind, generate, scene_rng};
use super::query::Query;
use super::scene::{Color, Shape, Size};
use super::vocab::synthetic_vocab;
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

/// Writes Ref-ZOM's layout from a [`SyntheticConfig`].
///
/// ```no_run
/// use refzom_dataset::synthetic::{SyntheticConfig, SyntheticRefZom};
/// let summary = SyntheticRefZom::new(SyntheticConfig::quickstart())?.write_to("data/synthetic")?;
/// println!("{} sentences to learn from", summary.sentences["train"].total());
/// # Ok::<(), refzom_dataset::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SyntheticRefZom {
    config: SyntheticConfig,
}

impl SyntheticRefZom {
    /// Name of the annotation pickle.
    pub const REFS: &'static str = "refs(synthetic).p";

    /// Checks the config.
    ///
    /// # Errors
    /// The config cannot be drawn; see [`SyntheticConfig::validate`].
    pub fn new(config: SyntheticConfig) -> Result<Self, DataError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// The config.
    pub fn config(&self) -> &SyntheticConfig {
        &self.config
    }

    /// Writes `refs(synthetic).p`, `instances.json`, `images/*.png`, `vocab.txt`, `meaning.json`,
    /// `config.json` and `README.md` into `dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// `dir` holds something already, the disk refuses, or no scene satisfies the config. Nothing
    /// is left behind then.
    pub fn write_to(&self, dir: impl AsRef<Path>) -> Result<SyntheticSummary, DataError> {
        self.write_with_progress(dir, |_, _| {})
    }

    /// [`Self::write_to`], calling `progress(done, scenes)` after each scene.
    ///
    /// # Errors
    /// As [`Self::write_to`].
    pub fn write_with_progress(
        &self,
        dir: impl AsRef<Path>,
        progress: impl FnMut(usize, usize),
    ) -> Result<SyntheticSummary, DataError> {
        let dir = dir.as_ref();
        let exists = refuse_unless_empty(dir)?;
        let partial = partial_name(dir)?;
        let _ = fs::remove_dir_all(&partial); // of an earlier process with our id
        let written = self.write_files(&partial, progress).and_then(|summary| {
            if exists {
                fs::remove_dir(dir).map_err(|e| DataError::write(dir, e))?;
            }
            fs::rename(&partial, dir).map_err(|e| DataError::write(dir, e))?;
            Ok(summary)
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    fn write_files(
        &self,
        dir: &Path,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<SyntheticSummary, DataError> {
        let images = dir.join("images");
        fs::create_dir_all(&images).map_err(|e| DataError::write(&images, e))?;
        let cfg = &self.config;
        let mut plan = Vec::with_capacity(cfg.scenes());
        for (split, scenes) in
            [("train", cfg.train_scenes), ("val", cfg.val_scenes), ("test", cfg.test_scenes)]
        {
            let kinds = shuffled_kinds(cfg, split, scenes * cfg.sentences_per_scene);
            plan.extend(kinds.chunks(cfg.sentences_per_scene).map(|k| (split, k.to_vec())));
        }
        let scenes = make_scenes(cfg, &plan, &images, &mut progress)?;
        let mut files = Files::default();
        for (index, (scene, (split, _))) in scenes.into_iter().zip(&plan).enumerate() {
            files.add(cfg, index, split, scene)?;
        }
        files.save(cfg, dir)
    }
}

/// Whether `dir` exists; an error if it holds anything.
fn refuse_unless_empty(dir: &Path) -> Result<bool, DataError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(DataError::format(
                    dir,
                    "is not empty; remove it or name another folder",
                ));
            }
            Ok(true)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(DataError::write(dir, e)),
    }
}

/// A sibling of `dir`, so that the final rename stays on one file system.
fn partial_name(dir: &Path) -> Result<PathBuf, DataError> {
    let name = dir
        .file_name()
        .ok_or_else(|| DataError::format(dir, "has no folder name; give a folder to create"))?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(format!(".partial-{}", std::process::id()));
    Ok(dir.with_file_name(partial))
}

/// The kinds of a split's sentences in exact proportion, shuffled.
fn shuffled_kinds(cfg: &SyntheticConfig, split: &str, n: usize) -> Vec<Kind> {
    let [one, many, _] = cfg.proportions.counts(n);
    let mut kinds: Vec<Kind> = (0..n)
        .map(|i| {
            if i < one {
                Kind::One
            } else if i < one + many {
                Kind::Many
            } else {
                Kind::Zero
            }
        })
        .collect();
    let stream = split.bytes().fold(1, |h: u64, b| h.wrapping_mul(257) + u64::from(b));
    let mut rng = scene_rng(cfg.seed, u64::MAX, stream);
    for i in (1..kinds.len()).rev() {
        kinds.swap(i, rng.random_range(0..=i));
    }
    kinds
}

/// A scene without its pixels, which are on disk already.
struct Described {
    objects: Vec<DrawnObject>,
    sentences: Vec<super::generate::Said>,
}

/// Makes all scenes on all cores; the result is in order and does not depend on the threads.
fn make_scenes(
    cfg: &SyntheticConfig,
    plan: &[(&str, Vec<Kind>)],
    images: &Path,
    progress: &mut impl FnMut(usize, usize),
) -> Result<Vec<Described>, DataError> {
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(plan.len()).max(1);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let mut slots: Vec<Option<Described>> = plan.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= plan.len() || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let made = generate(cfg, index, &plan[index].1)
                        .and_then(|scene| save_image(cfg, images, index, scene));
                    if sender.send((index, made)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut done = 0;
        for (index, made) in receiver {
            match made {
                Ok(described) => slots[index] = Some(described),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            done += 1;
            progress(done, plan.len());
        }
        Ok(())
    })?;
    Ok(slots.into_iter().flatten().collect())
}

fn image_name(index: usize) -> String {
    format!("{:012}.png", index + 1)
}

fn save_image(
    cfg: &SyntheticConfig,
    images: &Path,
    index: usize,
    scene: Generated,
) -> Result<Described, DataError> {
    let path = images.join(image_name(index));
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
        .write_image(&scene.rgb, cfg.width, cfg.height, image::ExtendedColorType::Rgb8)
        .map_err(|e| DataError::image(path.display().to_string(), e.to_string()))?;
    fs::write(&path, png).map_err(|e| DataError::write(&path, e))?;
    Ok(Described { objects: scene.objects, sentences: scene.sentences })
}

/// The contents of the files as they grow.
#[derive(Default)]
struct Files {
    instances: Instances,
    refs: Vec<RefRecord>,
    meaning: Meaning,
    summary: SyntheticSummary,
}

impl Files {
    fn add(
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

    fn save(mut self, cfg: &SyntheticConfig, dir: &Path) -> Result<SyntheticSummary, DataError> {
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
