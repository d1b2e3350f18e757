//! What a synthetic Ref-ZOM looks like: sizes, counts, proportions, and what is refused.
//! Proportions default to Ref-ZOM's own (spec §10).

use serde::{Deserialize, Serialize};

use super::attributes::{Color, Shape};
use crate::DataError;

/// Relative frequency of the three kinds of expression; any non-negative numbers, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proportions {
    /// Expressions with exactly one target.
    pub one: f64,
    /// Expressions with two or more targets.
    pub many: f64,
    /// Expressions without target.
    pub zero: f64,
}

impl Proportions {
    /// The counts of Ref-ZOM (spec §10): 56,972 one, 21,290 many, 11,937 zero.
    pub fn ref_zom() -> Self {
        Self { one: 56_972.0, many: 21_290.0, zero: 11_937.0 }
    }

    fn is_possible(&self) -> bool {
        let weights = [self.one, self.many, self.zero];
        weights.iter().all(|w| w.is_finite() && *w >= 0.0) && weights.iter().any(|w| *w > 0.0)
    }

    /// How many of `n` sentences are `[one, many, zero]`: largest remainders, the sum is `n`.
    pub fn counts(&self, n: usize) -> [usize; 3] {
        let weights = [self.one, self.many, self.zero];
        let total: f64 = weights.iter().sum();
        let ideal = weights.map(|w| w / total * n as f64);
        let mut counts = ideal.map(|x| x.floor() as usize);
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| ideal[b].fract().total_cmp(&ideal[a].fract()).then(a.cmp(&b)));
        let mut left = n.saturating_sub(counts.iter().sum());
        for &kind in order.iter().cycle() {
            if left == 0 {
                break;
            }
            if weights[kind] > 0.0 {
                counts[kind] += 1;
                left -= 1;
            }
        }
        counts
    }
}

/// Everything [`SyntheticRefZom`](super::SyntheticRefZom) depends on: the same config gives the
/// same bytes. Keys left out of a file take the values of [`SyntheticConfig::quickstart`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Scenes (pictures) of the train split.
    pub train_scenes: usize,
    /// Scenes of the val split.
    pub val_scenes: usize,
    /// Scenes of the test split.
    pub test_scenes: usize,
    /// Sentences written about each scene.
    pub sentences_per_scene: usize,
    /// Fewest objects in a scene.
    pub min_objects: usize,
    /// Most objects in a scene.
    pub max_objects: usize,
    /// Share of one-, many- and zero-target sentences.
    pub proportions: Proportions,
    /// The same in the train split, where it is to differ: near misses teach most, and Ref-ZOM's share of them is small.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_proportions: Option<Proportions>,
    /// Colours in use, at least two.
    pub colors: Vec<Color>,
    /// Shapes in use, at least two.
    pub shapes: Vec<Shape>,
    /// Radius range of "small" objects as a share of the shorter picture side; the radius is that
    /// of the circle of equal area, whatever the shape.
    pub small_radius: [f64; 2],
    /// Radius range of "large" objects, likewise.
    pub large_radius: [f64; 2],
    /// Chance that an object may be drawn over another one.
    pub overlap: f64,
    /// Least visible share of each object's own pixels.
    pub min_visible: f64,
    /// Least number of visible pixels of each object.
    pub min_visible_pixels: u32,
    /// Share of sentences that place their things by another object ("left of the blue square").
    pub relations: f64,
    /// Share of sentences with one target that say which is the farthest one ("the leftmost circle"), of those without
    /// a relation.
    pub extremes: f64,
    /// Chance of a synonym or another word order at each place where the grammar has one.
    pub paraphrase: f64,
}

impl SyntheticConfig {
    /// 64x64 pictures, 22,400 scenes to learn from, three or four objects of four colours and three shapes each, four
    /// sentences about each: small enough to learn from scratch in minutes on two CPU cores.
    pub fn quickstart() -> Self {
        Self {
            seed: 1,
            width: 64,
            height: 64,
            train_scenes: 22_400,
            val_scenes: 100,
            test_scenes: 300,
            sentences_per_scene: 4,
            min_objects: 3,
            max_objects: 4,
            proportions: Proportions::ref_zom(),
            train_proportions: Some(Proportions { one: 44.0, many: 18.0, zero: 38.0 }),
            colors: vec![Color::Red, Color::Green, Color::Blue, Color::Yellow],
            shapes: vec![Shape::Circle, Shape::Square, Shape::Triangle],
            small_radius: [0.125, 0.145],
            large_radius: [0.22, 0.25],
            overlap: 0.3,
            min_visible: 0.65,
            min_visible_pixels: 24,
            relations: 0.12,
            extremes: 0.05,
            paraphrase: 0.2,
        }
    }

    /// Scenes of all splits.
    pub fn scenes(&self) -> usize {
        self.train_scenes + self.val_scenes + self.test_scenes
    }

    /// Refuses what cannot be drawn or told apart.
    ///
    /// # Errors
    /// Names the key, the value and the allowed range.
    pub fn validate(&self) -> Result<(), DataError> {
        let bad = |field: &'static str, message: String| Err(DataError::Config { field, message });
        for (key, side) in [("width", self.width), ("height", self.height)] {
            if !(32..=2048).contains(&side) {
                return bad(key, format!("is {side}, give 32 to 2048 pixels"));
            }
        }
        let (short, long) = (self.width.min(self.height), self.width.max(self.height));
        if long > 4 * short {
            return bad(
                "width",
                format!(
                    "x height is {}x{}, keep the longer side within 4 times the shorter",
                    self.width, self.height
                ),
            );
        }
        if self.scenes() == 0 {
            return bad(
                "train_scenes",
                "is 0 like val_scenes and test_scenes, ask for at least one scene".into(),
            );
        }
        if self.scenes() > 10_000_000 {
            return bad(
                "train_scenes",
                format!(
                    "and the other splits sum to {} scenes, ask for at most 10000000",
                    self.scenes()
                ),
            );
        }
        if !(1..=16).contains(&self.sentences_per_scene) {
            return bad(
                "sentences_per_scene",
                format!("is {}, give 1 to 16", self.sentences_per_scene),
            );
        }
        if !(3..=10).contains(&self.max_objects) {
            return bad("max_objects", format!("is {}, give 3 to 10", self.max_objects));
        }
        if self.min_objects < 2 || self.min_objects > self.max_objects {
            return bad(
                "min_objects",
                format!("is {}, give 2 to max_objects ({})", self.min_objects, self.max_objects),
            );
        }
        for (key, proportions) in
            [("proportions", Some(self.proportions)), ("train_proportions", self.train_proportions)]
        {
            if proportions.is_some_and(|p| !p.is_possible()) {
                let message = "need finite weights of at least 0, one of them positive";
                return bad(key, message.into());
            }
        }
        if self.colors.len() < 2 || has_duplicates(&self.colors) {
            return bad("colors", "needs at least two different colours".into());
        }
        if self.shapes.len() < 2 || has_duplicates(&self.shapes) {
            return bad("shapes", "needs at least two different shapes".into());
        }
        for (key, [lo, hi]) in
            [("small_radius", self.small_radius), ("large_radius", self.large_radius)]
        {
            if !(lo.is_finite() && hi.is_finite() && 0.02 <= lo && lo <= hi && hi <= 0.3) {
                return bad(key, format!("is [{lo}, {hi}], give 0.02 <= low <= high <= 0.3"));
            }
        }
        if !(0.3..=1.0).contains(&self.min_visible) {
            return bad("min_visible", format!("is {}, give 0.3 to 1", self.min_visible));
        }
        let least_large = self.large_radius[0] * self.min_visible.sqrt();
        if least_large < 1.15 * self.small_radius[1] {
            return bad(
                "large_radius",
                format!(
                    "starts at {}: a partly hidden large object could pass for a small one; give at least {:.3}",
                    self.large_radius[0],
                    1.15 * self.small_radius[1] / self.min_visible.sqrt()
                ),
            );
        }
        let smallest = std::f64::consts::PI
            * (self.small_radius[0] * f64::from(short)).powi(2)
            * self.min_visible;
        if smallest < f64::from(self.min_visible_pixels.max(16)) {
            return bad(
                "small_radius",
                format!(
                    "leaves a small object only {smallest:.0} visible pixels in a {}x{} picture, fewer than {}; enlarge the picture or the radius",
                    self.width,
                    self.height,
                    self.min_visible_pixels.max(16)
                ),
            );
        }
        for (key, value) in [
            ("overlap", self.overlap),
            ("relations", self.relations),
            ("extremes", self.extremes),
            ("paraphrase", self.paraphrase),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return bad(key, format!("is {value}, give 0 to 1"));
            }
        }
        Ok(())
    }
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self::quickstart()
    }
}

fn has_duplicates<T: PartialEq>(xs: &[T]) -> bool {
    xs.iter().enumerate().any(|(i, x)| xs[..i].contains(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quickstart_is_valid_and_unknown_keys_are_not() {
        SyntheticConfig::quickstart().validate().expect("quickstart");
        let parsed: SyntheticConfig = serde_json::from_str(r#"{"seed": 9}"#).expect("defaults");
        assert_eq!(parsed, SyntheticConfig { seed: 9, ..SyntheticConfig::quickstart() });
        assert!(serde_json::from_str::<SyntheticConfig>(r#"{"sead": 9}"#).is_err());
    }

    #[test]
    fn impossible_configs_name_the_key() {
        let base = SyntheticConfig::quickstart;
        let cases = [
            (SyntheticConfig { width: 1, ..base() }, "width"),
            (SyntheticConfig { height: 10_000, ..base() }, "height"),
            (SyntheticConfig { width: 2048, ..base() }, "width"),
            (SyntheticConfig { max_objects: 40, ..base() }, "max_objects"),
            (SyntheticConfig { min_objects: 9, ..base() }, "min_objects"),
            (SyntheticConfig { sentences_per_scene: 0, ..base() }, "sentences_per_scene"),
            (SyntheticConfig { colors: vec![Color::Red], ..base() }, "colors"),
            (SyntheticConfig { shapes: vec![Shape::Star; 2], ..base() }, "shapes"),
            (SyntheticConfig { large_radius: [0.12, 0.2], ..base() }, "large_radius"),
            (SyntheticConfig { small_radius: [0.03, 0.05], ..base() }, "small_radius"),
            (SyntheticConfig { overlap: f64::NAN, ..base() }, "overlap"),
            (
                SyntheticConfig {
                    proportions: Proportions { one: -1.0, many: 1.0, zero: 1.0 },
                    ..base()
                },
                "proportions",
            ),
            (
                SyntheticConfig {
                    train_proportions: Some(Proportions { one: 0.0, many: 0.0, zero: 0.0 }),
                    ..base()
                },
                "train_proportions",
            ),
            (
                SyntheticConfig { train_scenes: 0, val_scenes: 0, test_scenes: 0, ..base() },
                "train_scenes",
            ),
        ];
        for (config, key) in cases {
            let message = config.validate().expect_err(key).to_string();
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn counts_sum_and_follow_the_weights() {
        let p = Proportions::ref_zom();
        for n in 0..200 {
            let counts = p.counts(n);
            assert_eq!(counts.iter().sum::<usize>(), n);
        }
        assert_eq!(p.counts(90_199), [56_972, 21_290, 11_937]);
        assert_eq!(Proportions { one: 0.0, many: 0.0, zero: 1.0 }.counts(5), [0, 0, 5]);
    }
}
