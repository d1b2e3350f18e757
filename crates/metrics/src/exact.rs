//! A sum of IoUs that does not depend on the order of its terms: fixed point with 64 fractional bits.
//! Each term is rounded by at most 2^-65; 2^64 samples fit.

use serde::{Deserialize, Serialize};

/// A sum of numbers in 0–1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExactSum(u128);

impl ExactSum {
    const ONE: f64 = 18_446_744_073_709_551_616.0; // 2^64

    /// Adds `x`, which is clamped to 0–1.
    pub(crate) fn add(&mut self, x: f64) {
        self.0 = self.0.saturating_add((x.clamp(0.0, 1.0) * Self::ONE) as u128);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// Sum divided by `n`, `None` for no samples.
    pub(crate) fn mean(&self, n: u64) -> Option<f64> {
        (n > 0).then(|| self.0 as f64 / Self::ONE / n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_order() {
        let terms: Vec<f64> = (1..2000).map(|i| 1.0 / f64::from(i)).collect();
        let (mut up, mut down) = (ExactSum::default(), ExactSum::default());
        terms.iter().for_each(|&x| up.add(x));
        terms.iter().rev().for_each(|&x| down.add(x));
        assert_eq!(up, down);
        let plain = terms.iter().sum::<f64>() / 1999.0;
        assert!((up.mean(1999).unwrap_or(0.0) - plain).abs() < 1e-15);
    }
}
