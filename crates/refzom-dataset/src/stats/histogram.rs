//! Numbers in bins, with their mean, median and ends.

use serde::Serialize;

/// One bar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Such as `3`, `20+`, `1-2 %`.
    pub label: String,
    /// Numbers within.
    pub count: usize,
}

/// Many numbers, summed up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// How many.
    pub count: usize,
    /// Mean; `None` of no number.
    pub mean: Option<f64>,
    /// Middle one (of an even count, the mean of the two in the middle).
    pub median: Option<f64>,
    /// Smallest.
    pub min: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// In ascending order; every number lies in exactly one.
    pub bins: Vec<Bin>,
}

impl Distribution {
    /// Whole numbers: one bin each from `first` to the largest, those above `most` together. Numbers below `first` count as `first`.
    pub(super) fn of_whole_numbers(values: Vec<f64>, first: usize, most: usize) -> Self {
        let last = values.iter().fold(first, |last, &v| last.max(v as usize)).min(most + 1);
        let mut bins: Vec<Bin> = (first..=last)
            .map(|n| Bin {
                label: if n > most { format!("{n}+") } else { n.to_string() },
                count: 0,
            })
            .collect();
        for &value in &values {
            bins[(value as usize).clamp(first, last) - first].count += 1;
        }
        Self::of(values, bins)
    }

    /// Per cents: a value belongs to the first bin whose upper end it does not exceed.
    pub(super) fn of_shares(values: Vec<f64>, ends: &[f64]) -> Self {
        let mut start = 0.0;
        let mut bins = Vec::with_capacity(ends.len());
        for &end in ends {
            bins.push(Bin { label: format!("{start}-{end} %"), count: 0 });
            start = end;
        }
        for &value in &values {
            let at = ends.iter().position(|&end| value <= end).unwrap_or(ends.len() - 1);
            bins[at].count += 1;
        }
        Self::of(values, bins)
    }

    fn of(mut values: Vec<f64>, bins: Vec<Bin>) -> Self {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let middle = || {
            let upper = *values.get(count / 2)?;
            let lower = if count % 2 == 1 { upper } else { *values.get(count / 2 - 1)? };
            Some((lower + upper) / 2.0)
        };
        Self {
            count,
            mean: (count > 0).then(|| values.iter().sum::<f64>() / count as f64),
            median: middle(),
            min: values.first().copied(),
            max: values.last().copied(),
            bins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(distribution: &Distribution) -> Vec<(&str, usize)> {
        distribution.bins.iter().map(|b| (b.label.as_str(), b.count)).collect()
    }

    #[test]
    fn whole_numbers_have_a_bin_each_up_to_the_last() {
        let d = Distribution::of_whole_numbers(vec![1.0, 3.0, 3.0, 9.0], 1, 4);
        assert_eq!(counts(&d), [("1", 1), ("2", 0), ("3", 2), ("4", 0), ("5+", 1)]);
        assert_eq!((d.mean, d.median, d.min, d.max), (Some(4.0), Some(3.0), Some(1.0), Some(9.0)));
        let d = Distribution::of_whole_numbers(vec![0.0, 1.0], 0, 4);
        assert_eq!(counts(&d), [("0", 1), ("1", 1)]);
        assert_eq!(d.median, Some(0.5));
        assert_eq!(Distribution::of_whole_numbers(Vec::new(), 1, 4).bins.len(), 1);
    }

    #[test]
    fn shares_include_their_upper_end() {
        let d = Distribution::of_shares(vec![0.0, 1.0, 1.1, 100.0], &[1.0, 10.0, 100.0]);
        assert_eq!(counts(&d), [("0-1 %", 2), ("1-10 %", 1), ("10-100 %", 1)]);
    }
}
