//! The files of a synthetic Ref-ZOM, written whole or not at all.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use rand::Rng;

use super::config::SyntheticConfig;
use super::files::{Described, Files, SyntheticSummary, image_name};
use super::generate::{Generated, Kind, generate, scene_rng};
use crate::DataError;
use crate::partial::write_whole;

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
        self.write_with_progress(dir, |_, _| Ok(()))
    }

    /// [`Self::write_to`], calling `progress(done, scenes)` after each scene; it may end the writing with an error, such as
    /// [`DataError::Stopped`], and then nothing is left behind.
    ///
    /// # Errors
    /// As [`Self::write_to`], or what `progress` answers.
    pub fn write_with_progress(
        &self,
        dir: impl AsRef<Path>,
        progress: impl FnMut(usize, usize) -> Result<(), DataError>,
    ) -> Result<SyntheticSummary, DataError> {
        write_whole(dir.as_ref(), |partial| self.write_files(partial, progress))
    }

    fn write_files(
        &self,
        dir: &Path,
        mut progress: impl FnMut(usize, usize) -> Result<(), DataError>,
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

/// The kinds of a split's sentences in exact proportion, shuffled.
fn shuffled_kinds(cfg: &SyntheticConfig, split: &str, n: usize) -> Vec<Kind> {
    let own = cfg.train_proportions.filter(|_| split == "train");
    let [one, many, _] = own.unwrap_or(cfg.proportions).counts(n);
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

/// Makes all scenes on all cores; the result is in order and does not depend on the threads.
fn make_scenes(
    cfg: &SyntheticConfig,
    plan: &[(&str, Vec<Kind>)],
    images: &Path,
    progress: &mut impl FnMut(usize, usize) -> Result<(), DataError>,
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
        for (before, (index, made)) in receiver.into_iter().enumerate() {
            let told = made.and_then(|described| {
                slots[index] = Some(described);
                progress(before + 1, plan.len())
            });
            if told.is_err() {
                stop.store(true, Ordering::Relaxed);
                return told;
            }
        }
        Ok(())
    })?;
    Ok(slots.into_iter().flatten().collect())
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
