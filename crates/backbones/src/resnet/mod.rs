//! ResNet with bottleneck blocks (He et al. 2016; stride in the 3x3 convolution, as torchvision), with trained BatchNorm.
//!
//! Key names are DMMI's: the stem is `layer1.0` (convolution) and `layer1.1` (norm), the first stage `layer1.4.{j}`, the
//! others `layer{i}.{j}`.

mod bottleneck;
mod config;

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{
    After, BatchNorm2d, Conv2d, Conv2dConfig, Mode, batch_norm2d, checkpoint, max_pool2d,
};

use self::bottleneck::{Bottleneck, EXPANSION, conv};
use crate::grid::FeatureGrid;
use crate::stage::{StageHook, StageInfo, StagedBackbone};

pub use self::config::ResNetConfig;

/// A ResNet backbone.
#[derive(Clone, Debug)]
pub struct ResNet {
    stem: (Conv2d, BatchNorm2d),
    stages: Vec<Vec<Bottleneck>>,
    infos: Vec<StageInfo>,
    checkpointing: bool,
}

impl ResNet {
    /// Keys `layer1.{0,1,4.{j}}`, `layer{2..4}.{j}`.
    pub fn new(cfg: &ResNetConfig, vb: VarBuilder) -> Result<Self> {
        if let Err(why) = cfg.validate() {
            bail!("resnet: {why}");
        }
        let first = vb.pp("layer1");
        let stem = (
            conv(3, cfg.width, 7, Conv2dConfig::new(2, 3), first.pp("0"))?,
            batch_norm2d(cfg.width, first.pp("1"))?,
        );
        let mut c_in = cfg.width;
        let mut stages = Vec::new();
        let mut infos = Vec::new();
        for (i, &count) in cfg.layers.iter().enumerate() {
            let inner = cfg.width << i;
            let vb = if i == 0 { first.pp("4") } else { vb.pp(format!("layer{}", i + 1)) };
            let mut blocks = Vec::with_capacity(count);
            for j in 0..count {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                blocks.push(Bottleneck::new(c_in, inner, stride, vb.pp(j))?);
                c_in = inner * EXPANSION;
            }
            stages.push(blocks);
            infos.push(StageInfo { channels: c_in, stride: 4 << i });
        }
        Ok(Self { stem, stages, infos, checkpointing: false })
    }
}

impl StagedBackbone for ResNet {
    fn stages(&self) -> &[StageInfo] {
        &self.infos
    }

    fn checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    fn forward_stages(
        &self,
        images: &Tensor,
        hook: &mut dyn StageHook,
        mode: Mode,
    ) -> Result<Vec<Tensor>> {
        let xs = self.stem.0.forward_normalised(images, &self.stem.1, After::Relu, mode)?;
        let mut xs = max_pool2d(&xs, 3, 2, 1)?;
        let mut maps = Vec::with_capacity(self.stages.len());
        for (i, stage) in self.stages.iter().enumerate() {
            hook.before_stage(i, &FeatureGrid::from_map(&xs)?);
            for block in stage {
                xs = if self.checkpointing {
                    let block = block.clone();
                    checkpoint(&[&xs], mode, move |xs, mode| block.forward_t(&xs[0], mode))?
                } else {
                    block.forward_t(&xs, mode)?
                };
            }
            let out = hook.after_stage(i, FeatureGrid::from_map(&xs)?)?;
            maps.push(out.emit.to_map()?);
            xs = out.carry.to_map()?;
        }
        hook.before_stage(self.stages.len(), &FeatureGrid::from_map(&xs)?);
        Ok(maps)
    }
}
