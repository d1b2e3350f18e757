//! A batch in parts that are computed at the same time, one a CPU core; or in one, recorded on a GPU.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use nn_ops::{Gradients, Noise, Pass, RecordedPass};

use crate::error::Result;

/// Does `work` for each of `parts` parts of a batch of `samples`, each on a thread; the results in the order of the parts.
/// `work` takes the part's samples, its noise, and its share of the batch. Each result is that of its part alone, whatever the
/// threads do. A batch in one part is computed by the caller's thread.
pub(crate) fn in_parts<T: Send>(
    (samples, parts): (usize, usize),
    (seed, step): (u64, usize),
    work: impl Fn(Range<usize>, &Noise, f64) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let parts = parts.clamp(1, samples.max(1));
    if parts == 1 {
        return Ok(vec![work(0..samples, &Noise::new(seed, step as u64), 1.0)?]);
    }
    let noises: Vec<Noise> =
        (0..parts as u64).map(|part| Noise::of_part(seed, step as u64, part)).collect();
    let mut found: Vec<Option<Result<T>>> = noises.iter().map(|_| None).collect();
    rayon::scope(|scope| {
        for (i, (found, noise)) in found.iter_mut().zip(&noises).enumerate() {
            let part = i * samples / parts..(i + 1) * samples / parts;
            let work = &work;
            scope.spawn(move |_| {
                let share = part.len() as f64 / samples as f64;
                *found = Some(work(part, noise, share));
            });
        }
    });
    for noise in &noises {
        noise.settle()?;
    }
    found.into_iter().flatten().collect()
}

/// The samples of a part; all of them without a copy.
pub(crate) fn cut(tensor: &Tensor, part: &Range<usize>) -> candle_core::Result<Tensor> {
    if part.len() == tensor.dim(0)? {
        return Ok(tensor.clone());
    }
    tensor.narrow(0, part.start, part.len())
}

/// The recording of the training pass of one network.
#[derive(Debug, Default)]
pub(crate) struct Recording(Mutex<(u64, RecordedPass)>);

impl Recording {
    /// What `pass` finds for one part of a batch, from a recording if it is the whole batch. `key` stands for all that `pass`
    /// depends on beyond the part, and is asked for where it is recorded: with another key it is recorded anew.
    pub(crate) fn pass(
        &self,
        key: &dyn Fn() -> u64,
        part: &[Tensor],
        noise: &Noise,
        share: f64,
        pass: &Pass<'_>,
    ) -> candle_core::Result<(Tensor, Gradients)> {
        if share != 1.0 || !part.iter().all(|tensor| tensor.device().is_cuda()) {
            return pass(part, noise);
        }
        let key = key();
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.0 != key {
            *recorded = (key, RecordedPass::new());
        }
        recorded.1.call(part, noise, pass)
    }
}

/// The norm of all gradients, which are scaled down to `max` if there is a limit.
pub(crate) fn clip(gradients: &mut Gradients, max: Option<f64>) -> candle_core::Result<f64> {
    match max {
        Some(max) => gradients.clip(max),
        None => gradients.global_norm(),
    }
}

/// A number that stands for `of`.
pub(crate) fn key(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
