//! Evaluation or training, and the random numbers training draws.

use std::sync::{Mutex, PoisonError};

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

/// A seeded stream of random numbers. One is made for every step from (seed, step), so a resumed run draws the same.
#[derive(Debug)]
pub struct Noise {
    rng: Mutex<ChaCha8Rng>,
}

impl Noise {
    /// The stream of one step of a run.
    pub fn new(seed: u64, step: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step);
        Self { rng: Mutex::new(rng) }
    }

    /// `n` values, each `keep_scale` with probability `1 - p` and 0 otherwise.
    pub(crate) fn keep_mask(&self, n: usize, p: f64, keep_scale: f32) -> Vec<f32> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        // The comparison is on 32 random bits: exact for any p, independent of float rounding.
        let threshold = (p.clamp(0.0, 1.0) * 4294967296.0) as u64;
        (0..n)
            .map(|_| if u64::from(rng.next_u32()) < threshold { 0.0 } else { keep_scale })
            .collect()
    }
}
