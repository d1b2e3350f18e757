//! The order of the samples in every epoch (spec section 8): a function of seed and epoch, nothing else.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::TargetKind;

/// How samples are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As in the file: for evaluation.
    #[default]
    Sequential,
    /// Drawn anew for every epoch.
    Shuffled,
    /// Drawn anew for every epoch, zero-target samples spread evenly among the others.
    Balanced,
    /// As [`Order::Balanced`] but drawn once for the whole run, as the release does.
    Release,
}

/// Gives the order of every epoch.
#[derive(Clone, Debug)]
pub struct Sampler {
    kinds: Vec<TargetKind>,
    order: Order,
    seed: u64,
}

impl Sampler {
    /// For samples of these kinds.
    pub fn new(kinds: Vec<TargetKind>, order: Order, seed: u64) -> Self {
        Self { kinds, order, seed }
    }

    /// Indices of all samples, each once, in the order of `epoch`.
    pub fn epoch(&self, epoch: u64) -> Vec<usize> {
        let all: Vec<usize> = (0..self.kinds.len()).collect();
        let drawn_for = if self.order == Order::Release { 0 } else { epoch };
        let mut rng = sample_rng(self.seed, drawn_for, u64::MAX);
        match self.order {
            Order::Sequential => all,
            Order::Shuffled => shuffled(all, &mut rng),
            Order::Balanced | Order::Release => {
                let (targeted, zero) =
                    all.into_iter().partition::<Vec<_>, _>(|&i| self.kinds[i].has_target());
                let targeted = shuffled(targeted, &mut rng);
                let zero = shuffled(zero, &mut rng);
                spread(&targeted, &zero)
            }
        }
    }
}

fn shuffled(mut indices: Vec<usize>, rng: &mut ChaCha8Rng) -> Vec<usize> {
    indices.shuffle(rng);
    indices
}

/// Puts the `k`-th of `few` into the middle of the `k`-th equal part of the whole.
fn spread(many: &[usize], few: &[usize]) -> Vec<usize> {
    let total = many.len() + few.len();
    let (mut many, mut few_left) = (many.iter(), few.iter());
    let mut out = Vec::with_capacity(total);
    let mut placed = 0;
    for position in 0..total {
        // (k + 1/2) * total / n, rounded down, never twice the same as n <= total.
        let due = placed < few.len() && (2 * placed + 1) * total / (2 * few.len()) <= position;
        let next = if due { few_left.next() } else { many.next() };
        placed += usize::from(due);
        out.extend(next.or_else(|| few_left.next()));
    }
    out
}

/// The stream of random numbers of one sample in one epoch, whichever thread asks.
pub(crate) fn sample_rng(seed: u64, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, epoch, index, 0x5265_665a_4f4d]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn kinds(zero: usize, targeted: usize) -> Vec<TargetKind> {
        let zero = std::iter::repeat_n(TargetKind::Zero, zero);
        zero.chain(std::iter::repeat_n(TargetKind::One, targeted)).collect()
    }

    proptest! {
        #[test]
        fn every_sample_once(zero in 0usize..30, targeted in 0usize..30, seed in any::<u64>(), epoch in 0u64..5) {
            for order in [Order::Sequential, Order::Shuffled, Order::Balanced, Order::Release] {
                let mut seen = Sampler::new(kinds(zero, targeted), order, seed).epoch(epoch);
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..zero + targeted).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn epochs_differ_but_repeat_by_seed() {
        let sampler = |seed| Sampler::new(kinds(10, 40), Order::Shuffled, seed);
        assert_eq!(sampler(1).epoch(3), sampler(1).epoch(3));
        assert_ne!(sampler(1).epoch(3), sampler(1).epoch(4));
        assert_ne!(sampler(1).epoch(3), sampler(2).epoch(3));
        let release = Sampler::new(kinds(10, 40), Order::Release, 1);
        assert_eq!(release.epoch(0), release.epoch(7));
    }

    #[test]
    fn balanced_spreads_the_zeros() {
        let order = Sampler::new(kinds(10, 40), Order::Balanced, 5).epoch(2);
        for block in order.chunks_exact(5) {
            assert_eq!(block.iter().filter(|&&i| i < 10).count(), 1, "{order:?}");
        }
    }
}
