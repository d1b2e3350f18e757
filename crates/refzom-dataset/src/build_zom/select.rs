//! Which candidates enter the set: counts met, sources in their shares, sentences spread over images.

use std::collections::HashMap;

use super::candidate::{Candidate, Origin};
use super::draw::{shuffle, stream};

/// The candidates of one kind and split. Each list is ordered: first one sentence of every image, then a second ..
#[derive(Debug, Default)]
pub(super) struct Pool {
    hand_written: Vec<Candidate>,
    prompts: Vec<Candidate>,
    quoted: Vec<Candidate>,
}

impl Pool {
    /// At most `per_image` candidates of an image, hand-written ones first.
    pub(super) fn of(mut all: Vec<Candidate>, per_image: usize, seed: u64, name: &str) -> Self {
        shuffle(&mut all, &mut stream(seed, name, 0));
        all.sort_by_key(|c| !matches!(c.origin, Origin::HandWritten { .. }));
        let mut ranks: HashMap<u32, usize> = HashMap::new();
        let mut ranked: Vec<(usize, Candidate)> = Vec::with_capacity(all.len());
        for candidate in all {
            let rank = ranks.entry(candidate.picture).or_insert(0);
            if *rank < per_image {
                ranked.push((*rank, candidate));
            }
            *rank += 1;
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut pool = Self::default();
        for (_, candidate) in ranked {
            match candidate.origin {
                Origin::HandWritten { .. } => pool.hand_written.push(candidate),
                Origin::Prompt { .. } => pool.prompts.push(candidate),
                _ => pool.quoted.push(candidate),
            }
        }
        pool
    }

    pub(super) fn len(&self) -> usize {
        self.hand_written.len() + self.prompts.len() + self.quoted.len()
    }

    /// The best `n`: hand-written ones, then `prompt_share` of prompts; what one source lacks the other fills.
    pub(super) fn take(mut self, n: usize, prompt_share: f64) -> Vec<Candidate> {
        self.hand_written.truncate(n);
        let rest = n - self.hand_written.len();
        let wanted = (rest as f64 * prompt_share).round() as usize;
        let quoted = self.quoted.len().min(rest - wanted.min(rest));
        let prompts = self.prompts.len().min(rest - quoted);
        let quoted = self.quoted.len().min(rest - prompts);
        let mut taken = self.hand_written;
        taken.extend(self.prompts.into_iter().take(prompts));
        taken.extend(self.quoted.into_iter().take(quoted));
        taken
    }
}

/// `n` divided over the splits as their `sizes` are, never more than there is.
pub(super) fn divide(n: usize, sizes: [usize; 2]) -> [usize; 2] {
    let all = sizes[0] + sizes[1];
    let n = n.min(all);
    let second =
        if all == 0 { 0 } else { (n as f64 * sizes[1] as f64 / all as f64).round() as usize };
    let second = second.min(sizes[1]).max(n.saturating_sub(sizes[0]));
    [n - second, second]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(picture: u32, i: i64, origin: Origin) -> Candidate {
        Candidate { picture, objects: vec![i], sentence: format!("thing {i}"), origin }
    }

    fn prompt() -> Origin {
        Origin::Prompt { template: "the {singular}", categories: vec!["dog"] }
    }

    fn quoted() -> Origin {
        Origin::Combined { template: "{A} and {B}", parts: Vec::new() }
    }

    fn sources(taken: &[Candidate]) -> (usize, usize, usize) {
        let count = |label: &str| taken.iter().filter(|c| c.origin.label() == label).count();
        (count("hand_written"), count("prompt"), count("combined"))
    }

    fn pool(hand: i64, prompts: i64, combined: i64) -> Pool {
        let hand_written = |line| Origin::HandWritten { file: "a".into(), line };
        let all = (0..hand)
            .map(|i| candidate(i as u32, i, hand_written(i as u64)))
            .chain((0..prompts).map(|i| candidate(100 + i as u32, i, prompt())))
            .chain((0..combined).map(|i| candidate(300 + i as u32, i, quoted())))
            .collect();
        Pool::of(all, 1, 1, "test")
    }

    #[test]
    fn shares_are_kept_and_gaps_filled() {
        assert_eq!(sources(&pool(2, 50, 50).take(42, 0.25)), (2, 10, 30));
        assert_eq!(sources(&pool(0, 50, 5).take(40, 0.25)), (0, 35, 5));
        assert_eq!(sources(&pool(0, 5, 50).take(40, 0.5)), (0, 5, 35));
        assert_eq!(sources(&pool(9, 5, 5).take(4, 0.5)), (4, 0, 0));
        assert_eq!(sources(&pool(1, 1, 1).take(9, 0.5)), (1, 1, 1));
    }

    #[test]
    fn every_image_comes_before_any_second_sentence() {
        let all = (0..30).map(|i| candidate((i % 10) as u32, i, quoted())).collect();
        let pool = Pool::of(all, 2, 1, "test");
        assert_eq!(pool.len(), 20);
        let taken = pool.take(12, 0.0);
        let mut pictures: Vec<u32> = taken[..10].iter().map(|c| c.picture).collect();
        pictures.sort_unstable();
        assert_eq!(pictures, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn division_is_in_proportion_and_possible() {
        assert_eq!(divide(10, [80, 20]), [8, 2]);
        assert_eq!(divide(99, [80, 20]), [79, 20]);
        assert_eq!(divide(999, [3, 4]), [3, 4]);
        assert_eq!(divide(5, [0, 9]), [0, 5]);
        assert_eq!(divide(5, [0, 0]), [0, 0]);
    }
}
