//! What is asked for: counts, shares of the sources, limits. The defaults are Ref-ZOM's (spec section 10).

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::synthetic::KindCounts;

/// Settings of a construction; the same settings, files and decisions give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZomConfig {
    /// Seed of every choice.
    pub seed: u64,
    /// Expressions of each kind.
    pub counts: KindCounts,
    /// Whether fewer are an error; otherwise all kinds shrink in proportion to what the files allow.
    pub exact: bool,
    /// Share of images in the test split, 0 to 1; images that a refs file holds out belong to it in any case.
    pub test_share: f64,
    /// Share of prompts among one-to-one expressions, 0 to 1; the rest are expressions of the refs files.
    pub one_prompt_share: f64,
    /// Share of prompts among one-to-many expressions that are not hand-written, 0 to 1; the rest are combined.
    pub many_prompt_share: f64,
    /// Share of captions among one-to-zero expressions, 0 to 1; the rest are expressions of other images.
    pub zero_caption_share: f64,
    /// Smallest area of what a prompt refers to, as a share of the image.
    pub min_area: f64,
    /// Longest sentence, in words; DMMI reads 20 word pieces.
    pub max_words: usize,
    /// Most expressions of each kind about one image.
    pub per_image: KindCounts,
    /// How many sentences with a conflicting attribute are proposed for review: they are used only if a person accepts them.
    pub conflicts: usize,
    /// Whether borrowed one-to-zero sentences are used only if a person accepted them.
    pub only_accepted: bool,
}

impl ZomConfig {
    /// Ref-ZOM's own numbers: 56,972 one-to-one, 21,290 one-to-many, 11,937 one-to-zero expressions; 11,329 of 55,078 images
    /// for test. How Ref-ZOM's sources share a kind is not published: one prompt in six, half of each elsewhere, is ours.
    pub fn ref_zom() -> Self {
        Self {
            seed: 1,
            counts: KindCounts { one: 56_972, many: 21_290, zero: 11_937 },
            exact: false,
            test_share: 11_329.0 / 55_078.0,
            one_prompt_share: 1.0 / 6.0,
            many_prompt_share: 0.5,
            zero_caption_share: 0.5,
            min_area: 0.002,
            max_words: 18,
            per_image: KindCounts { one: 8, many: 4, zero: 1 },
            conflicts: 100,
            only_accepted: false,
        }
    }

    /// `total` expressions in the proportions of [`Self::counts`].
    pub fn with_total(self, total: usize) -> Self {
        let KindCounts { one, many, zero } = self.counts;
        let all = (one + many + zero).max(1) as f64;
        let share = |n: usize| (total as f64 * n as f64 / all).round() as usize;
        let (many, zero) = (share(many), share(zero));
        Self { counts: KindCounts { one: total.saturating_sub(many + zero), many, zero }, ..self }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A share outside 0 to 1, nothing asked for, or a limit that allows nothing.
    pub fn validate(&self) -> Result<(), DataError> {
        let refuse = |field: &'static str, message: &str| {
            Err(DataError::Config { field, message: message.to_owned() })
        };
        for (field, share) in [
            ("test_share", self.test_share),
            ("one_prompt_share", self.one_prompt_share),
            ("many_prompt_share", self.many_prompt_share),
            ("zero_caption_share", self.zero_caption_share),
            ("min_area", self.min_area),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(field, &format!("is {share}, give a share from 0 to 1"));
            }
        }
        if self.counts.total() == 0 {
            return refuse("counts", "ask for one expression at least");
        }
        if self.max_words < 2 {
            return refuse("max_words", "give 2 words at least");
        }
        for (n, limit) in [
            (self.counts.one, self.per_image.one),
            (self.counts.many, self.per_image.many),
            (self.counts.zero, self.per_image.zero),
        ] {
            if n > 0 && limit == 0 {
                return refuse("per_image", "allows no expression of a kind that is asked for");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn totals_keep_the_proportions() {
        let cfg = ZomConfig::ref_zom();
        cfg.validate().unwrap();
        assert_eq!(cfg.counts.total(), 90_199);
        let small = cfg.clone().with_total(1000);
        assert_eq!(small.counts, KindCounts { one: 632, many: 236, zero: 132 });
        assert_eq!(small.with_total(90_199).counts.total(), 90_199);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let bad = |change: fn(&mut ZomConfig)| {
            let mut cfg = ZomConfig::ref_zom();
            change(&mut cfg);
            cfg.validate().unwrap_err().to_string()
        };
        assert!(bad(|c| c.test_share = 1.5).contains("test_share"));
        assert!(bad(|c| c.min_area = f64::NAN).contains("min_area"));
        assert!(bad(|c| c.counts = KindCounts::default()).contains("counts"));
        assert!(bad(|c| c.per_image.zero = 0).contains("per_image"));
        assert!(bad(|c| c.max_words = 0).contains("max_words"));
    }
}
