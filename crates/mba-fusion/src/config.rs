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

/// One fusion stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbaConfig {
    /// Visual channels `C`.
    pub visual_dim: usize,
    /// Text channels `D`.
    pub text_dim: usize,
    /// First values of the gate.
    pub gate: GateInit,
}

/// Sides of the square vision windows, in cells.
pub const VISION_WINDOWS: [usize; 3] = [1, 3, 5];
/// Divisors of the visual width inside each vision window's query.
pub(crate) const VISION_NARROWING: [usize; 3] = [1, 2, 4];
/// Lengths of the text windows, in tokens.
pub const TEXT_WINDOWS: [usize; 3] = [1, 2, 3];
/// Divisors of the visual width inside each text window's query.
pub(crate) const TEXT_NARROWING: [usize; 3] = [1, 2, 3];

impl MbaConfig {
    /// Why the sizes are impossible, if they are.
    pub fn validate(&self) -> Result<(), String> {
        // The narrowest query has a quarter of the visual channels.
        if self.visual_dim < 4 || self.text_dim == 0 {
            return Err(format!(
                "visual_dim {} must be at least 4 and text_dim {} positive",
                self.visual_dim, self.text_dim
            ));
        }
        Ok(())
    }
}
