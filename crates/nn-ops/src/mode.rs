//! Evaluation or training, the random numbers training draws, and the changes it leaves behind.

use std::sync::{Mutex, PoisonError};

use candle_core::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Evaluation, or training with a source of noise for dropout and drop-path.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// No dropout; running statistics are used.
    Eval,
    /// Dropout draws from the noise; batch statistics are used and recorded.
    Train(&'a Noise),
}

impl Mode<'_> {
    /// True in training.
    pub fn is_train(&self) -> bool {
        matches!(self, Mode::Train(_))
    }
}

type Change = Box<dyn FnOnce() -> Result<()> + Send>;

/// A seeded stream of random numbers. One is made for every step from (seed, step), so a resumed run draws the same.
pub struct Noise {
    rng: Mutex<ChaCha8Rng>,
    /// Changes of running statistics that wait for [`Noise::settle`]; none: they happen at once.
    waiting: Option<Mutex<Vec<Change>>>,
}

impl std::fmt::Debug for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Noise").field("deferred", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

impl Noise {
    /// The stream of one step of a run.
    pub fn new(seed: u64, step: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step);
        Self { rng: Mutex::new(rng), waiting: None }
    }

    /// The stream of one part of a step whose parts run at the same time. Running statistics change in [`Noise::settle`]
    /// only, so that the parts' order, and not chance, decides what comes out.
    pub fn of_part(seed: u64, step: u64, part: u64) -> Self {
        let mut noise = Self::new(seed, step ^ (part << 48));
        noise.waiting = Some(Mutex::default());
        noise
    }

    /// Carries out what this pass left behind. Nothing is left of a pass that was not [a part](Noise::of_part).
    ///
    /// # Errors
    /// Those of the changes.
    pub fn settle(&self) -> Result<()> {
        self.left().into_iter().try_for_each(|change| change())
    }

    /// Leaves what this pass left behind to `outer`: a segment of its pass.
    pub(crate) fn settle_in(&self, outer: &Noise) -> Result<()> {
        self.left().into_iter().try_for_each(|change| outer.change(change))
    }

    /// Takes the changes that wait.
    fn left(&self) -> Vec<Change> {
        let Some(waiting) = &self.waiting else { return Vec::new() };
        std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `change` now, or when the part settles.
    pub(crate) fn change(
        &self,
        change: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        match &self.waiting {
            None => change(),
            Some(waiting) => {
                waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(change));
                Ok(())
            }
        }
    }

    /// The key of the next mask. Its elements are [Philox](crate::philox) words of this key, on every device.
    pub(crate) fn next_key(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
