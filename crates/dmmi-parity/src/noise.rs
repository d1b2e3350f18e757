//! From the reference's recorded f32 noise to tolerances.

use crate::report::{BF16, Precision};

/// Tolerances are this many times the recorded noise: the golden data's own advice ("3-5x").
pub const FACTOR: f64 = 5.0;

/// Largest relative error of rounding to f32: what a value loses by being stored.
pub const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// Tolerance of a relative error. In f64 only the rounding of stored values is left.
pub(crate) fn tolerance(relative_noise: f64, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => FACTOR * relative_noise,
        Precision::Bf16 => BF16,
        Precision::F64 => FACTOR * relative_noise.min(ROUNDING),
    }
}

/// What an error of `reference` is relative to: its size; where it is 0, that of `usual`, or 1.
pub(crate) fn scale(reference: f64, usual: f64) -> f64 {
    match (reference, usual) {
        (0.0, 0.0) => 1.0,
        (0.0, usual) => usual.abs(),
        (reference, _) => reference.abs(),
    }
}

/// The value below which a share `q` of the finite values lies; 0 without any.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, q: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let at = (q * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// How far two tensors are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Root mean square of the difference over that of the reference.
    pub(crate) relative_rms: f64,
    /// Largest absolute difference.
    pub(crate) max_abs: f64,
    /// Largest absolute value of the reference.
    pub(crate) reference_max: f64,
}

impl Difference {
    /// Of equally long slices; not finite when a value is not. A zero reference counts as 1, so that noise shows as it is.
    pub(crate) fn between(ours: &[f64], reference: &[f64]) -> Self {
        let (mut squares, mut total, mut max_abs, mut reference_max) = (0.0, 0.0, 0.0_f64, 0.0_f64);
        let mut broken = ours.len() != reference.len();
        for (a, b) in ours.iter().zip(reference) {
            let d = (a - b).abs();
            broken |= !d.is_finite();
            squares += d * d;
            total += b * b;
            max_abs = max_abs.max(d);
            reference_max = reference_max.max(b.abs());
        }
        if broken {
            return Self { relative_rms: f64::NAN, max_abs: f64::NAN, reference_max };
        }
        let n = reference.len().max(1) as f64;
        let scale = if total > 0.0 { total } else { n };
        Self { relative_rms: (squares / scale).sqrt(), max_abs, reference_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_differences() {
        assert_eq!(quantile([3.0, f64::NAN, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile([], 0.5), 0.0);
        let d = Difference::between(&[1.0, 2.5], &[1.0, 2.0]);
        assert!((d.relative_rms - (0.25f64 / 5.0).sqrt()).abs() < 1e-15 && d.max_abs == 0.5);
        assert!(Difference::between(&[f64::NAN], &[1.0]).relative_rms.is_nan());
        assert!(Difference::between(&[1.0], &[1.0, 2.0]).relative_rms.is_nan());
        assert_eq!(tolerance(1e-3, Precision::F32), 5e-3);
        assert_eq!([scale(-2.0, 3.0), scale(0.0, -3.0), scale(0.0, 0.0)], [2.0, 3.0, 1.0]);
        assert_eq!(tolerance(1e-3, Precision::F64), 5.0 * ROUNDING);
    }
}
