//! Sizes and choices of one fusion stage.

use serde::{Deserialize, Serialize};

/// How the gate `tanh(Lin(relu(Lin(r))))` starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateInit {
    /// Both layers zero, as the release initialises Swin. The gate then gets no gradient and stays closed for ever:
    /// `relu'(0) = 0` blocks one layer, the zero output layer the other.
    Zero,
    /// The output layer zero, the other PyTorch's default: closed at first, and trainable.
    OpensFromZero,
    /// PyTorch's default for both (the release's ResNet).
    #[default]
    Default,
}

/// Whose equations the attention follows (spec section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// What the released code computes: projected windows, instance norms, own projections a scale, weights by softmax.
    #[default]
    Release,
    /// The paper's equations as written: sums over windows, projections shared by the scales, `λ` as they are.
    Paper,
}

/// Which side gathers from the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// Cells gather words and words gather cells.
    #[default]
    Both,
    /// Cells gather words; words go through unchanged.
    TextToVision,
    /// Words gather cells; cells go through unchanged.
    VisionToText,
    /// Neither: no fusion, and no parameters.
    None,
}

impl Directions {
    /// Whether cells gather words.
    pub fn to_vision(self) -> bool {
        matches!(self, Self::Both | Self::TextToVision)
    }

    /// Whether words gather cells.
    pub fn to_text(self) -> bool {
        matches!(self, Self::Both | Self::VisionToText)
    }
}

/// The weights `λ` of the scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lambda {
    /// Trained. In the release variant a softmax makes them sum to 1 (so a single scale has none).
    #[default]
    Learned,
    /// The mean of the scales.
    Fixed,
}

/// What every fusion stage of a model has in common. Values a file leaves out are the release's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FusionConfig {
    /// Whose equations.
    pub variant: Variant,
    /// Which side gathers from the other.
    pub directions: Directions,
    /// Sides of the square windows around each cell, in cells: odd, rising. Without effect if cells gather nothing.
    pub vision_windows: Vec<usize>,
    /// Lengths of the windows at each word, in tokens: rising. Without effect if words gather nothing.
    pub text_windows: Vec<usize>,
    /// Weights of the scales.
    pub lambda: Lambda,
}

impl Default for FusionConfig {
    fn default() -> Self {
        Self::release()
    }
}

/// Sides of the released square vision windows, in cells.
pub const VISION_WINDOWS: [usize; 3] = [1, 3, 5];
/// Divisors of the visual width inside each released vision window's query.
pub(crate) const VISION_NARROWING: [usize; 3] = [1, 2, 4];
/// Lengths of the released text windows, in tokens.
pub const TEXT_WINDOWS: [usize; 3] = [1, 2, 3];
/// Divisors of the visual width inside each released text window's query.
pub(crate) const TEXT_NARROWING: [usize; 3] = [1, 2, 3];
/// Longest side or length of a window.
const LONGEST: usize = 255;

impl FusionConfig {
    /// As released.
    pub fn release() -> Self {
        Self {
            variant: Variant::Release,
            directions: Directions::Both,
            vision_windows: VISION_WINDOWS.to_vec(),
            text_windows: TEXT_WINDOWS.to_vec(),
            lambda: Lambda::Learned,
        }
    }

    /// The paper's equations, with its windows.
    pub fn paper() -> Self {
        Self { variant: Variant::Paper, ..Self::release() }
    }

    /// Why the choices are impossible, if they are; names the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.directions.to_vision() {
            self.check("vision_windows", &self.vision_windows, &VISION_WINDOWS)?;
            if let Some(even) = self.vision_windows.iter().find(|k| k.is_multiple_of(2)) {
                return Err(format!(
                    "vision_windows {:?}: a window of side {even} has no middle cell; use odd sides",
                    self.vision_windows
                ));
            }
        }
        if self.directions.to_text() {
            self.check("text_windows", &self.text_windows, &TEXT_WINDOWS)?;
        }
        Ok(())
    }

    fn check(&self, key: &str, windows: &[usize], released: &[usize]) -> Result<(), String> {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else {
            return Err(format!(
                "{key} is empty, but directions need it; give at least one window"
            ));
        };
        if !windows.is_sorted_by(|a, b| a < b) || *first == 0 || *last > LONGEST {
            return Err(format!("{key} {windows:?} must rise, between 1 and {LONGEST}"));
        }
        let unknown = windows.iter().find(|k| !released.contains(k));
        if let (Variant::Release, Some(unknown)) = (self.variant, unknown) {
            return Err(format!(
                "{key} {windows:?}: the release has {released:?} only, not {unknown}; use those, or variant = \"paper\""
            ));
        }
        Ok(())
    }
}

/// One fusion stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MbaConfig {
    /// Visual channels `C`.
    pub visual_dim: usize,
    /// Text channels `D`.
    pub text_dim: usize,
    /// First values of the gate.
    pub gate: GateInit,
    /// Equations, directions, windows.
    pub fusion: FusionConfig,
}

impl MbaConfig {
    /// The released stage for `C` visual and `D` text channels, its gate drawn as PyTorch does.
    pub fn release(visual_dim: usize, text_dim: usize) -> Self {
        Self { visual_dim, text_dim, gate: GateInit::Default, fusion: FusionConfig::release() }
    }

    /// Why sizes or choices are impossible, if they are; names the key.
    pub fn validate(&self) -> Result<(), String> {
        // The narrowest released query has a quarter of the visual channels.
        if self.visual_dim < 4 || self.text_dim == 0 {
            return Err(format!(
                "visual_dim {} must be at least 4 and text_dim {} positive",
                self.visual_dim, self.text_dim
            ));
        }
        self.fusion.validate().map_err(|why| format!("fusion: {why}"))
    }
}

/// The entry of `table` that belongs to the released window `size`.
pub(crate) fn beside<T: Copy>(size: usize, sizes: &[usize; 3], table: &[T; 3]) -> Option<T> {
    sizes.iter().position(|s| *s == size).map(|i| table[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(cfg: FusionConfig, words: &[&str]) {
        let message = cfg.validate().expect_err("must be refused");
        for word in words {
            assert!(message.contains(word), "no \"{word}\" in: {message}");
        }
    }

    #[test]
    fn impossible_choices_name_the_key() {
        let release = FusionConfig::release;
        refused(FusionConfig { vision_windows: vec![], ..release() }, &["vision_windows", "empty"]);
        refused(FusionConfig { vision_windows: vec![1, 7], ..release() }, &["[1, 3, 5]", "7"]);
        refused(FusionConfig { text_windows: vec![2, 1], ..release() }, &["text_windows", "rise"]);
        refused(FusionConfig { text_windows: vec![0], ..release() }, &["text_windows"]);
        refused(FusionConfig { vision_windows: vec![2], ..FusionConfig::paper() }, &["odd"]);
        let wide = FusionConfig { vision_windows: vec![1, 7], ..FusionConfig::paper() };
        assert_eq!(wide.validate(), Ok(()));
        // A side that gathers nothing has no windows to be wrong.
        let blind = FusionConfig {
            directions: Directions::TextToVision,
            text_windows: vec![],
            ..FusionConfig::release()
        };
        assert_eq!(blind.validate(), Ok(()));
    }
}
