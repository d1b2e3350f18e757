#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod attention;
mod config;
mod stage;
mod text_window;
mod vision_window;

pub use config::{GateInit, MbaConfig, TEXT_WINDOWS, VISION_WINDOWS};
pub use stage::{Fused, MbaStage};

/// Added to the variance in every instance norm.
pub(crate) const IN_EPS: f64 = 1e-5;
