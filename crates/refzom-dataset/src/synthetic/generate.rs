//! One scene with its sentences, from `(seed, index)` alone, so that scenes can be made in any order.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::attributes::{Color, Shape, Size};
use super::choose::{self, Choice};
use super::config::SyntheticConfig;
use super::phrase::say;
use super::render::render;
use super::scene::Scene;
use crate::DataError;

/// Kind of a sentence, in the order of [`super::config::Proportions::counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    One,
    Many,
    Zero,
}

impl Kind {
    /// Ref-ZOM's `source`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::One => "one",
            Kind::Many => "many",
            Kind::Zero => "zero",
        }
    }
}

/// An object ready to be written.
pub(super) struct DrawnObject {
    pub(super) color: Color,
    pub(super) shape: Shape,
    pub(super) size: Size,
    /// Visible pixels, row-major.
    pub(super) mask: Vec<bool>,
}

/// A sentence ready to be written.
pub(super) struct Said {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) choice: Choice,
}

/// A scene ready to be written.
pub(super) struct Generated {
    pub(super) rgb: Vec<u8>,
    pub(super) objects: Vec<DrawnObject>,
    pub(super) sentences: Vec<Said>,
}

/// Scene `index` with one sentence of each of `kinds`.
pub(super) fn generate(
    cfg: &SyntheticConfig,
    index: usize,
    kinds: &[Kind],
) -> Result<Generated, DataError> {
    const ATTEMPTS: u64 = 400;
    for attempt in 0..ATTEMPTS {
        let mut rng = scene_rng(cfg.seed, index as u64, attempt);
        let Some(scene) = Scene::sample(cfg, &mut rng) else { continue };
        let Some(sentences) = sentences(cfg, &scene, kinds, &mut rng) else { continue };
        let rgb = render(&scene, &mut rng);
        let objects = scene.bodies.iter().enumerate();
        let objects = objects.map(|(i, b)| DrawnObject {
            color: b.color,
            shape: b.shape,
            size: b.size,
            mask: scene.mask(i),
        });
        return Ok(Generated { rgb, objects: objects.collect(), sentences });
    }
    Err(DataError::Config {
        field: "sentences_per_scene",
        message: format!(
            "found no scene for {} sentences in {ATTEMPTS} attempts; ask for fewer, lower min_objects, or raise max_objects or the picture size",
            kinds.len()
        ),
    })
}

/// With `[CLS]` and `[SEP]` a sentence fits DMMI's 20 pieces.
const MOST_WORDS: usize = 18;

fn sentences(
    cfg: &SyntheticConfig,
    scene: &Scene,
    kinds: &[Kind],
    rng: &mut ChaCha8Rng,
) -> Option<Vec<Said>> {
    let world = scene.world();
    let mut said: Vec<Said> = Vec::with_capacity(kinds.len());
    for &kind in kinds {
        let next = (0..8).find_map(|_| {
            let choice = match kind {
                Kind::One => choose::one(&world, cfg, rng),
                Kind::Many => choose::many(&world, cfg, rng),
                Kind::Zero => choose::zero(&world, cfg, rng),
            }?;
            let text = say(&choice.query, cfg.paraphrase, rng);
            let long = text.split(' ').count() > MOST_WORDS;
            let known = said.iter().any(|s| s.text == text || s.choice.query == choice.query);
            (!known && !long).then_some(Said { kind, text, choice })
        })?;
        said.push(next);
    }
    Some(said)
}

/// The random stream of one attempt at one scene.
pub(super) fn scene_rng(seed: u64, index: u64, attempt: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, index, attempt, 0x5e_f2_0a]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
