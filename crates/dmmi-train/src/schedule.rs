//! Learning rate over a run: polynomial decay an iteration, as released (spec section 8), after an optional linear warm-up.

use serde::{Deserialize, Serialize};

/// `lr(step) = base · (1 − step / total)^power`; in the first `warmup` steps also times `(step + 1) / warmup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolyDecay {
    /// Learning rate before decay.
    pub base: f64,
    /// Steps of the whole run.
    pub total: usize,
    /// Exponent; 0.9 in the release, 1 is linear, 0 is constant.
    pub power: f64,
    /// Steps of linear warm-up; 0 in the release.
    pub warmup: usize,
}

impl PolyDecay {
    /// The learning rate of `step`, counted from 0. Zero from `total` on (unless `power` is 0).
    pub fn lr(&self, step: usize) -> f64 {
        let left = if step >= self.total { 0.0 } else { 1.0 - step as f64 / self.total as f64 };
        let warm = if step < self.warmup { (step + 1) as f64 / self.warmup as f64 } else { 1.0 };
        self.base * left.powf(self.power) * warm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(file: &str) -> serde_json::Value {
        let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).expect("golden file")).expect("golden JSON")
    }

    fn check(used: &serde_json::Value, total: usize) {
        let schedule = PolyDecay { base: 5e-5, total, power: 0.9, warmup: 0 };
        let used = used.as_array().expect("a list");
        assert!(used.len() >= 4);
        for (step, expected) in used.iter().enumerate() {
            let expected = expected.as_f64().expect("a number");
            assert!((schedule.lr(step) - expected).abs() <= 1e-12 * expected, "step {step}");
        }
    }

    #[test]
    fn equals_the_rates_pytorch_used() {
        check(&golden("g1b_units.json")["adamw"]["lr_used"], 20);
        check(&golden("g1_tiny_swin.json")["train"]["lr_used"], 40);
        check(&golden("g2_tiny_resnet.json")["train"]["lr_used"], 40);
    }

    #[test]
    fn warms_up_then_decays_to_zero() {
        let schedule = PolyDecay { base: 1.0, total: 100, power: 1.0, warmup: 10 };
        assert!((schedule.lr(0) - 0.1).abs() < 1e-12);
        assert!(schedule.lr(4) < schedule.lr(9));
        assert!((schedule.lr(50) - 0.5).abs() < 1e-12);
        assert_eq!(schedule.lr(100), 0.0);
        assert_eq!(schedule.lr(1000), 0.0);
    }

    #[test]
    fn power_zero_is_constant() {
        let schedule = PolyDecay { base: 0.5, total: 3, power: 0.0, warmup: 0 };
        assert!((0..5).all(|step| schedule.lr(step) == 0.5));
    }
}
