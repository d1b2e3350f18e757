//! The seam between a backbone and whatever acts between its stages.
//!
//! A hook has state, returns two grids (one travels on, one goes to the decoder) and runs before downsampling: what a
//! fusion inside the encoder needs, and what merely watching features cannot do.

use candle_core::{Result, Tensor};
use nn_ops::Mode;

use crate::grid::FeatureGrid;

/// Channels and stride of one stage's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageInfo {
    /// Channels.
    pub channels: usize,
    /// Pixels per cell, each axis.
    pub stride: usize,
}

/// What a hook hands back.
#[derive(Clone, Debug)]
pub struct StageOutput {
    /// Enters the next stage.
    pub carry: FeatureGrid,
    /// Goes to the decoder.
    pub emit: FeatureGrid,
}

/// Acts between the stages of a backbone.
pub trait StageHook {
    /// Called after the blocks of stage `stage` (from 0) and before its downsampling.
    fn after_stage(&mut self, stage: usize, grid: FeatureGrid) -> Result<StageOutput>;

    /// Called with what enters stage `stage`; with the count of stages, with what would enter a further one.
    fn before_stage(&mut self, _stage: usize, _grid: &FeatureGrid) {}
}

impl<F: FnMut(usize, FeatureGrid) -> Result<StageOutput>> StageHook for F {
    fn after_stage(&mut self, stage: usize, grid: FeatureGrid) -> Result<StageOutput> {
        self(stage, grid)
    }
}

/// No action: every stage carries on and emits what it computed.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl StageHook for Plain {
    fn after_stage(&mut self, _: usize, grid: FeatureGrid) -> Result<StageOutput> {
        Ok(StageOutput { carry: grid.clone(), emit: grid })
    }
}

/// A backbone that can be paused between stages.
pub trait StagedBackbone: Send + Sync {
    /// Channels and strides, in order.
    fn stages(&self) -> &[StageInfo];

    /// In training, whether blocks are computed again in the backward pass instead of keeping what lies inside them: less
    /// memory, a third more time. Off at first.
    fn checkpointing(&mut self, on: bool);

    /// Images `(B, 3, H, W)` to the maps `(B, C, h, w)` that the stages emit.
    fn forward_stages(
        &self,
        images: &Tensor,
        hook: &mut dyn StageHook,
        mode: Mode,
    ) -> Result<Vec<Tensor>>;

    /// The plain feature pyramid in evaluation mode.
    fn pyramid(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        self.forward_stages(images, &mut Plain, Mode::Eval)
    }
}
