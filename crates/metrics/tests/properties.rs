//! Sums do not care about the order of samples or of merging.
#![allow(clippy::unwrap_used)]

use metrics::{Evaluation, Kind, Overlap};
use proptest::prelude::*;

fn sample() -> impl Strategy<Value = (Kind, Overlap, bool)> {
    let mask = || proptest::collection::vec(any::<bool>(), 24);
    (0usize..4, mask(), mask(), any::<bool>()).prop_map(|(n, predicted, truth, rejected)| {
        let truth = if n == 0 { vec![false; 24] } else { truth };
        (Kind::of_count(n), Overlap::of(&predicted, &truth).unwrap(), rejected)
    })
}

fn score(samples: &[(Kind, Overlap, bool)]) -> Evaluation {
    let mut evaluation = Evaluation::new();
    samples
        .iter()
        .for_each(|&(kind, overlap, rejected)| evaluation.add_answer(kind, overlap, rejected));
    evaluation
}

fn merged(parts: &[Evaluation]) -> Evaluation {
    let mut all = Evaluation::new();
    parts.iter().for_each(|part| all.merge(part));
    all
}

proptest! {
    #[test]
    fn order_and_grouping_do_not_matter(
        samples in proptest::collection::vec(sample(), 0..40),
        cuts in (0usize..41, 0usize..41),
    ) {
        let (a, b) = (cuts.0.min(cuts.1).min(samples.len()), cuts.0.max(cuts.1).min(samples.len()));
        let [x, y, z] = [score(&samples[..a]), score(&samples[a..b]), score(&samples[b..])];
        let whole = score(&samples);
        prop_assert_eq!(merged(&[merged(&[x, y]), z]), whole);
        prop_assert_eq!(merged(&[x, merged(&[y, z])]), whole);
        prop_assert_eq!(merged(&[z, x, y]), whole);
        let mut reversed = samples.clone();
        reversed.reverse();
        prop_assert_eq!(score(&reversed).report(), whole.report());
    }

    #[test]
    fn shares_are_shares(samples in proptest::collection::vec(sample(), 1..40)) {
        let report = score(&samples).report();
        for (_, kind) in report.kinds() {
            let mut shares = vec![kind.ris.overall_iou, kind.ris.mean_iou, kind.ris.zero_accuracy];
            shares.extend(kind.ris.precision);
            shares.extend([kind.gres.g_iou, kind.gres.c_iou, kind.gres.target_accuracy, kind.gres.no_target_accuracy]);
            for share in shares.into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&share), "{}", share);
            }
        }
    }
}
