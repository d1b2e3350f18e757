//! Evaluation or training, the random numbers training draws, and the changes it leaves behind.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use candle_core::{Result, bail};
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
    /// Keys of masks drawn so far.
    masks: AtomicUsize,
    /// Whether a key was drawn for anything else than a mask on the GPU.
    other: AtomicBool,
    /// Where the keys of masks lie on the GPU, and how many; none: they are drawn here.
    placed: Option<(u64, usize)>,
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
        Self {
            rng: Mutex::new(rng),
            waiting: None,
            masks: AtomicUsize::new(0),
            other: AtomicBool::new(false),
            placed: None,
        }
    }

    /// Keys of masks that lie at an address on the GPU, for kernels to read.
    #[cfg(feature = "cuda")]
    pub(crate) fn placed(at: u64, count: usize) -> Self {
        Self { placed: Some((at, count)), ..Self::new(0, 0) }
    }

    /// The keys of the next `n` masks.
    #[cfg(feature = "cuda")]
    pub(crate) fn keys(&self, n: usize) -> Vec<u64> {
        (0..n).map(|_| self.draw()).collect()
    }

    /// Keys of masks drawn so far; none if a key was drawn for anything else.
    #[cfg(feature = "cuda")]
    pub(crate) fn only_masks(&self) -> Option<usize> {
        (!self.other.load(Ordering::Relaxed)).then(|| self.masks.load(Ordering::Relaxed))
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

    /// The key of the next mask, or where it lies on the GPU (0: nowhere). The mask's elements are
    /// [Philox](crate::philox) words of this key, on every device.
    pub(crate) fn next_mask(&self) -> Result<(u64, u64)> {
        let i = self.masks.fetch_add(1, Ordering::Relaxed);
        match self.placed {
            None => Ok((self.draw(), 0)),
            Some((at, count)) if i < count => Ok((0, at + 8 * i as u64)),
            Some((_, count)) => bail!("a recorded pass draws more than its {count} masks"),
        }
    }

    /// A seed for a noise apart.
    pub(crate) fn next_key(&self) -> u64 {
        self.not_only_masks();
        self.draw()
    }

    /// A pass with this noise draws what no recording could repeat.
    pub(crate) fn not_only_masks(&self) {
        self.other.store(true, Ordering::Relaxed);
    }

    fn draw(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
