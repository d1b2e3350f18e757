#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod centred;
mod config;
mod scales;
mod stage;
mod text_window;
mod to_text;
mod to_vision;
mod vision_window;
mod window_sums;

pub use config::{
    Directions, FusionConfig, GateInit, Lambda, MbaConfig, TEXT_WINDOWS, VISION_WINDOWS, Variant,
};
pub use stage::{Fused, MbaStage};

/// Added to the variance in every instance norm.
pub(crate) const IN_EPS: f64 = 1e-5;
