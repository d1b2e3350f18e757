//! Which test samples a report shows: the best, the middle, the worst, and zero-target ones of both
//! outcomes. One sample a picture and section; the same scores give the same choice.

use std::collections::BTreeSet;

/// What the choice depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    /// Names the picture.
    pub(crate) image: String,
    /// IoU at the original size; `None` for zero-target samples.
    pub(crate) iou: Option<f64>,
    /// Predicted pixels at the original size.
    pub(crate) predicted: u64,
}

/// A section's heading, how it was chosen, and indices into the samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    /// Heading.
    pub(crate) title: &'static str,
    /// How the samples were chosen, with the number they were chosen from.
    pub(crate) note: String,
    /// Indices of the samples.
    pub(crate) samples: Vec<usize>,
}

/// Sections of up to `count` samples; empty ones are left out.
pub(crate) fn choose(samples: &[Scored], count: usize) -> Vec<Chosen> {
    let all = || samples.iter().enumerate();
    let mut targeted: Vec<(usize, f64)> = all().filter_map(|(i, s)| Some((i, s.iou?))).collect();
    targeted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let order: Vec<usize> = targeted.iter().map(|(i, _)| *i).collect();
    let worst: Vec<usize> = order.iter().rev().copied().collect();
    let zero: Vec<usize> = all().filter(|(_, s)| s.iou.is_none()).map(|(i, _)| i).collect();
    let (right, mut wrong): (Vec<usize>, Vec<usize>) =
        zero.iter().partition(|i| samples[**i].predicted == 0);
    wrong.sort_by_key(|i| (std::cmp::Reverse(samples[*i].predicted), *i));

    let n = order.len();
    let sections = [
        ("Best", format!("The highest IoU of {n} targeted test sentences."), order.clone()),
        (
            "Typical",
            format!("Around the median IoU of {n} targeted test sentences."),
            inside_out(&order),
        ),
        ("Worst", format!("The lowest IoU of {n} targeted test sentences."), worst),
        (
            "Nothing meant, something marked",
            format!(
                "{} of {} zero-target test sentences were answered; the largest answers.",
                wrong.len(),
                zero.len()
            ),
            wrong,
        ),
        (
            "Nothing meant, nothing marked",
            format!(
                "{} of {} zero-target test sentences were left empty; evenly picked.",
                right.len(),
                zero.len()
            ),
            spread(&right, count),
        ),
    ];
    sections
        .into_iter()
        .map(|(title, note, candidates)| Chosen {
            title,
            note,
            samples: distinct(samples, &candidates, count),
        })
        .filter(|section| !section.samples.is_empty())
        .collect()
}

/// The middle element first, then its neighbours, outwards.
fn inside_out(order: &[usize]) -> Vec<usize> {
    let middle = order.len() / 2;
    let (low, high) = order.split_at(middle);
    let mut out = Vec::with_capacity(order.len());
    let (mut low, mut high) = (low.iter().rev(), high.iter());
    loop {
        let (a, b) = (high.next(), low.next());
        if a.is_none() && b.is_none() {
            return out;
        }
        out.extend(a.into_iter().chain(b));
    }
}

/// Candidates reordered so that the first `count` are evenly spread over them.
fn spread(candidates: &[usize], count: usize) -> Vec<usize> {
    let stride = (candidates.len() / count.max(1)).max(1);
    let passes = (0..stride).flat_map(|offset| candidates.iter().skip(offset).step_by(stride));
    passes.copied().collect()
}

/// The first `count` candidates of different pictures.
fn distinct(samples: &[Scored], candidates: &[usize], count: usize) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let fresh = candidates.iter().copied().filter(|i| seen.insert(&samples[*i].image));
    fresh.take(count).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn scored(image: usize, iou: Option<f64>, predicted: u64) -> Scored {
        Scored { image: format!("{image}.png"), iou, predicted }
    }

    fn section<'a>(chosen: &'a [Chosen], title: &str) -> &'a [usize] {
        &chosen.iter().find(|c| c.title == title).unwrap().samples
    }

    #[test]
    fn extremes_middle_and_both_zero_outcomes() {
        let mut samples: Vec<Scored> =
            (0..9).map(|i| scored(i, Some(i as f64 / 10.0), 10)).collect();
        samples.extend([scored(20, None, 0), scored(21, None, 5), scored(22, None, 50)]);
        let chosen = choose(&samples, 3);
        assert_eq!(section(&chosen, "Worst"), [0, 1, 2]);
        assert_eq!(section(&chosen, "Best"), [8, 7, 6]);
        assert_eq!(section(&chosen, "Typical"), [4, 5, 3]);
        assert_eq!(section(&chosen, "Nothing meant, something marked"), [11, 10]);
        assert_eq!(section(&chosen, "Nothing meant, nothing marked"), [9]);
        assert!(chosen[3].note.starts_with("2 of 3"), "{}", chosen[3].note);
    }

    #[test]
    fn a_picture_is_shown_once_a_section() {
        let samples = [scored(1, Some(0.9), 1), scored(1, Some(0.8), 1), scored(2, Some(0.7), 1)];
        assert_eq!(section(&choose(&samples, 2), "Best"), [0, 2]);
    }

    #[test]
    fn empty_sections_vanish() {
        assert!(choose(&[], 4).is_empty());
        let chosen = choose(&[scored(1, None, 0)], 4);
        assert_eq!(chosen.len(), 1);
    }

    #[test]
    fn spread_covers_the_range() {
        let all: Vec<usize> = (0..100).collect();
        let first: Vec<usize> = spread(&all, 4).into_iter().take(4).collect();
        assert_eq!(first, [0, 25, 50, 75]);
        assert_eq!(spread(&all, 4).len(), 100);
    }
}
