//! The only place where a backbone meets the fusion: MBA after every stage's blocks, before its downsampling (spec
//! section 3).
//!
//! Checkpoint prefix `backbone.`.

use backbones::{
    FeatureGrid, Plain, ResNet, StageHook, StageInfo, StageOutput, StagedBackbone, SwinTransformer,
};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use mba_fusion::{Fused, MbaConfig, MbaStage};
use nn_ops::{Mode, Probe};

use crate::config::{BackboneConfig, DmmiConfig};
use crate::part::Part;

/// Which tensor of a fusion stage the decoder sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emit {
    /// The residual `r` (Swin).
    Residual,
    /// The gated sum `V + g r` (ResNet).
    Gated,
}

/// A visual encoder with text fused into every stage.
pub struct FusedEncoder {
    backbone: Box<dyn StagedBackbone>,
    fusion: Vec<MbaStage>,
    emit: Emit,
}

/// What the decoders take from the encoder.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Maps `(B, C_n, h_n, w_n)` of the four stages.
    pub maps: Vec<Tensor>,
    /// Words after the last fusion, `(B, L, D)`.
    pub words: Tensor,
}

impl FusedEncoder {
    /// Keys of the backbone, plus `layers.{i}.` (Swin) or `all_fusion{i+1}.` (ResNet) for the fusion.
    pub fn new(cfg: &DmmiConfig, vb: VarBuilder) -> Result<Self> {
        let (backbone, emit): (Box<dyn StagedBackbone>, Emit) = match &cfg.backbone {
            BackboneConfig::Swin(c) => {
                (Box::new(SwinTransformer::new(c, vb.clone())?), Emit::Residual)
            }
            BackboneConfig::Resnet(c) => (Box::new(ResNet::new(c, vb.clone())?), Emit::Gated),
        };
        let fusion = backbone
            .stages()
            .iter()
            .enumerate()
            .map(|(i, info)| {
                let mba = MbaConfig {
                    visual_dim: info.channels,
                    text_dim: cfg.text.hidden_size,
                    gate: cfg.gate,
                    fusion: cfg.fusion.clone(),
                };
                let vb = match emit {
                    Emit::Residual => vb.pp("layers").pp(i),
                    Emit::Gated => vb.pp(format!("all_fusion{}", i + 1)),
                };
                MbaStage::new(&mba, vb)
            })
            .collect::<Result<_>>()?;
        Ok(Self { backbone, fusion, emit })
    }

    /// Whether training computes the backbone's blocks and the fusion's attention again in the backward pass.
    pub fn checkpointing(&mut self, on: bool) {
        self.backbone.checkpointing(on);
        self.fusion.iter_mut().for_each(|stage| stage.checkpointing(on));
    }

    /// Channels of the four stages.
    pub fn channels(&self) -> Vec<usize> {
        self.stages().iter().map(|s| s.channels).collect()
    }

    /// Channels and strides of the four stages.
    pub fn stages(&self) -> &[StageInfo] {
        self.backbone.stages()
    }

    /// The backbone alone: images `(B, 3, H, W)` to the maps `(B, C_n, h_n, w_n)` of its four stages.
    pub fn forward_without_text(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        self.backbone.forward_stages(images, &mut Plain, mode)
    }

    /// Images `(B, 3, H, W)`, words `(B, L, D)`, mask `(B, L)`.
    ///
    /// One image goes with any number of sentences; what does not depend on them is computed once: everything before the
    /// first fusion, the parts of a fusion that see cells only, and, where gates are closed, all blocks.
    pub fn forward_t(
        &self,
        images: &Tensor,
        words: &Tensor,
        mask: &Tensor,
        mode: Mode,
        probe: &mut Probe,
    ) -> Result<Encoded> {
        let mut pass = Pass { encoder: self, words: words.clone(), mask, probe };
        let maps = self.backbone.forward_stages(images, &mut pass, mode)?;
        let words = pass.words;
        if self.emit == Emit::Residual {
            for (i, map) in maps.iter().enumerate() {
                probe.record(&format!("stage{i}.norm_out"), FeatureGrid::from_map(map)?.tokens());
            }
        }
        Ok(Encoded { maps, words })
    }
}

/// The words on their way through the stages of one forward pass.
struct Pass<'a> {
    encoder: &'a FusedEncoder,
    words: Tensor,
    mask: &'a Tensor,
    probe: &'a mut Probe,
}

impl StageHook for Pass<'_> {
    fn after_stage(&mut self, stage: usize, grid: FeatureGrid) -> Result<StageOutput> {
        let name = |part: &str| format!("stage{stage}.{part}");
        self.probe.mark(Part::Backbone(stage));
        let mba = &self.encoder.fusion[stage];
        let Fused { residual, visual, text } = self.probe.scoped(&name("pwam"), |probe| {
            mba.forward_probed(grid.tokens(), grid.extent(), &self.words, self.mask, probe)
        })?;
        self.probe.mark(Part::Fusion(stage));
        // A closed gate leaves the cells of all sentences alike: one picture for all goes on.
        let alike = grid.tokens().dim(0)? == 1 && visual.dim(0)? > 1 && mba.is_closed()?;
        let carry = if alike { grid.clone() } else { grid.with_tokens(visual)? };
        let (emit, blocks) = match self.encoder.emit {
            Emit::Residual => (grid.with_tokens(residual)?, "blocks_out"),
            Emit::Gated => (carry.clone(), "res_out"),
        };
        self.probe.record(&name(blocks), grid.tokens());
        self.probe.record(&name("x_out"), emit.tokens());
        self.probe.record(&name("l"), &text);
        // Replaced in `before_stage` where a downsampling follows.
        self.probe.record(&name("x_next"), carry.tokens());
        self.words = text;
        Ok(StageOutput { carry, emit })
    }

    fn before_stage(&mut self, stage: usize, grid: &FeatureGrid) {
        self.probe.mark(Part::Backbone(stage.saturating_sub(1)));
        match stage.checked_sub(1) {
            None => self.probe.record("patch_embed", grid.tokens()),
            Some(last) => self.probe.record(&format!("stage{last}.x_next"), grid.tokens()),
        }
    }
}
