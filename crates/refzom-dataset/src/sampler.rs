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
    /// Drawn anew for every epoch, zero, one and many each spread evenly: every batch holds the proportions of the whole.
    BalancedKinds,
    /// As [`Order::Balanced`] but drawn once for the whole run, as the release does.
    Release,
}

/// The part of every batch that one of several processes works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// This process, from 0.
    pub rank: usize,
    /// All processes.
    pub ranks: usize,
}

impl Default for Shard {
    /// One process that does everything.
    fn default() -> Self {
        Self { rank: 0, ranks: 1 }
    }
}

impl Shard {
    /// This rank's samples of an epoch in batches of `batch_size` a rank.
    ///
    /// The order is cut into batches of `batch_size * ranks`, and each of these among the ranks: at every step all ranks
    /// together see what one process with the large batch would, so what balances an epoch balances every step.
    /// With `drop_last` a last batch that is not whole is left out on all ranks, which then make equally many steps;
    /// without it, it is shared out evenly, and every sample is seen by one rank, once.
    pub fn batches(self, order: &[usize], batch_size: usize, drop_last: bool) -> Vec<Vec<usize>> {
        let (ranks, rank) = (self.ranks.max(1), self.rank);
        let whole = batch_size.max(1) * ranks;
        let kept = order.chunks(whole).filter(|batch| !drop_last || batch.len() == whole);
        let mine = kept.map(|batch| {
            let (from, to) = (batch.len() * rank / ranks, batch.len() * (rank + 1) / ranks);
            batch[from..to].to_vec()
        });
        mine.filter(|batch| !batch.is_empty()).collect()
    }

    /// The number of batches of this rank for `samples` samples.
    pub fn count(self, samples: usize, batch_size: usize, drop_last: bool) -> usize {
        let (ranks, batch_size) = (self.ranks.max(1), batch_size.max(1));
        let whole = batch_size * ranks;
        let rest = samples % whole;
        let mine = rest * (self.rank + 1) / ranks - rest * self.rank / ranks;
        samples / whole + usize::from(!drop_last && mine > 0)
    }
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
            Order::BalancedKinds => {
                let of = |kind| -> Vec<usize> {
                    all.iter().copied().filter(|&i| self.kinds[i] == kind).collect()
                };
                let [zero, one, many] = [TargetKind::Zero, TargetKind::One, TargetKind::Many]
                    .map(|kind| shuffled(of(kind), &mut rng));
                spread(&spread(&one, &many), &zero)
            }
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
            for order in [Order::Sequential, Order::Shuffled, Order::Balanced, Order::BalancedKinds, Order::Release] {
                let mut seen = Sampler::new(kinds(zero, targeted), order, seed).epoch(epoch);
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..zero + targeted).collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #[test]
        fn shards_neither_overlap_nor_miss(
            n in 0usize..200, batch_size in 1usize..9, ranks in 1usize..7, drop_last in any::<bool>(),
        ) {
            let order: Vec<usize> = (0..n).rev().collect();
            let shards: Vec<Vec<Vec<usize>>> = (0..ranks)
                .map(|rank| Shard { rank, ranks }.batches(&order, batch_size, drop_last))
                .collect();
            let mut seen: Vec<usize> = shards.iter().flatten().flatten().copied().collect();
            seen.sort_unstable();
            let whole = batch_size * ranks;
            let kept = if drop_last { n / whole * whole } else { n };
            let mut expected = order[..kept].to_vec();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            for (rank, shard) in shards.iter().enumerate() {
                let count = Shard { rank, ranks }.count(n, batch_size, drop_last);
                prop_assert_eq!(shard.len(), count);
                prop_assert!(shard.iter().all(|batch| batch.len() <= batch_size));
                if drop_last {
                    prop_assert_eq!(shard.len(), n / whole);
                }
            }
            // All ranks together see the batch that one process would.
            let alone = Shard::default().batches(&order, whole, drop_last);
            for (step, batch) in alone.iter().enumerate() {
                let together: Vec<usize> =
                    shards.iter().filter_map(|s| s.get(step)).flatten().copied().collect();
                prop_assert_eq!(&together, batch);
            }
        }
    }

    #[test]
    fn every_batch_holds_the_proportions_of_the_kinds() {
        use TargetKind::{Many, One, Zero};
        let kinds: Vec<TargetKind> =
            (0..400).map(|i| [One, Zero, One, Many, One, One, Zero, Many][i % 8]).collect();
        let order = Sampler::new(kinds.clone(), Order::BalancedKinds, 3).epoch(1);
        for batch in order.chunks_exact(8) {
            let count = |kind| batch.iter().filter(|&&i| kinds[i] == kind).count();
            assert_eq!(count(Zero), 2, "{order:?}");
            assert!(count(Many).abs_diff(2) <= 1 && count(One).abs_diff(4) <= 1, "{order:?}");
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
