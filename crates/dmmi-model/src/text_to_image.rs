//! The text-to-image decoder, which predicts the mask (spec section 4).
//!
//! Checkpoint prefix `classifier.`.

use backbones::FeatureGrid;
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{
    Align, Conv2d, Conv2dConfig, DecoderLayerConfig, Mode, Probe, TransformerDecoderLayer,
    checkpoint, conv2d_layer, resize_beside,
};

use crate::config::DecoderWords;
use crate::conv_norm::ConvNorm;
use crate::encoder::Encoded;

/// The trained layer of a PyTorch `TransformerDecoder` with one layer. The release also stores a dead copy of it under
/// `decoder_layer.`, which is not a parameter here.
pub(crate) fn decoder_layer(
    cfg: &DecoderLayerConfig,
    vb: VarBuilder,
) -> Result<TransformerDecoderLayer> {
    TransformerDecoderLayer::new(cfg, vb.pp("transformer_model").pp("layers").pp("0"))
}

/// Two ConvNorms over a resized coarse map beside a finer one.
#[derive(Clone, Debug)]
struct Fuse {
    first: ConvNorm,
    second: ConvNorm,
    name: &'static str,
}

impl Fuse {
    fn new(c_in: usize, c_out: usize, name: &'static str, vb: &VarBuilder) -> Result<Self> {
        let layer = |i: usize, c: usize| {
            let keys = (format!("conv{i}_{name}"), format!("bn{i}_{name}"));
            ConvNorm::new(c, c_out, (&keys.0, &keys.1), vb.clone())
        };
        Ok(Self { first: layer(1, c_in)?, second: layer(2, c_out)?, name })
    }

    /// The maps are let go as soon as they were read.
    fn forward_t(
        &self,
        coarse: Tensor,
        fine: Tensor,
        mode: Mode,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let both = resize_beside(&coarse, &fine, Align::Corners)?;
        drop((coarse, fine));
        let ys = self.first.forward_t(&both, mode)?;
        drop(both);
        probe.record(&format!("relu1_{}", self.name), &ys);
        let ys = self.second.forward_t(&ys, mode)?;
        probe.record(&format!("f{}", self.name), &ys);
        Ok(ys)
    }

    /// The same; the backward pass computes each convolution with its norm again.
    fn checkpointed(&self, coarse: &Tensor, fine: &Tensor, mode: Mode) -> Result<Tensor> {
        let (first, second) = (self.clone(), self.second.clone());
        let ys = checkpoint(&[coarse, fine], mode, move |x, mode| {
            first.first.forward_t(&resize_beside(&x[0], &x[1], Align::Corners)?, mode)
        })?;
        checkpoint(&[&ys], mode, move |x, mode| second.forward_t(&x[0], mode))
    }
}

/// Coarse to fine, with the words attended to after each of the two coarser maps.
#[derive(Clone, Debug)]
pub struct TextToImageDecoder {
    fuse4: Fuse,
    fuse3: Fuse,
    fuse2: Fuse,
    attend4: Option<TransformerDecoderLayer>,
    attend3: Option<TransformerDecoderLayer>,
    classify: Conv2d,
    checkpointing: bool,
}

/// The decoder's maps and its verdict.
pub struct Decoded {
    /// `y4, y3, y2`, `(B, D, h, w)` at strides 16, 8, 4.
    pub maps: [Tensor; 3],
    /// `(B, 2, h, w)` at stride 4: background, foreground.
    pub logits: Tensor,
}

impl TextToImageDecoder {
    /// `channels` of the four stages; `cfg.dim` is the hidden width. Keys `conv{1,2}_{4,3,2}`, `bn{1,2}_{4,3,2}`,
    /// `transformer_fusion{1,2}` (where the words are attended), `conv1_1`.
    pub fn new(
        channels: &[usize],
        cfg: &DecoderLayerConfig,
        words: DecoderWords,
        vb: VarBuilder,
    ) -> Result<Self> {
        let &[c1, c2, c3, c4] = channels else {
            bail!("the decoder needs four stages, got {}", channels.len());
        };
        let d = cfg.dim;
        let one = Conv2dConfig::new(1, 0);
        let attend = |name: &str| match words {
            DecoderWords::Attended => decoder_layer(cfg, vb.pp(name)).map(Some),
            DecoderWords::Ignored => Ok(None),
        };
        Ok(Self {
            fuse4: Fuse::new(c4 + c3, d, "4", &vb)?,
            fuse3: Fuse::new(d + c2, d, "3", &vb)?,
            fuse2: Fuse::new(d + c1, d, "2", &vb)?,
            attend4: attend("transformer_fusion1")?,
            attend3: attend("transformer_fusion2")?,
            classify: conv2d_layer(d, 2, 1, one, vb.pp("conv1_1"))?,
            checkpointing: false,
        })
    }

    /// Whether training keeps only the inputs of the 3x3 convolutions and computes them with their norms again in the
    /// backward pass; their results are not recorded by a probe then.
    pub fn checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    /// Encoded maps and words to decoder maps and logits.
    pub fn forward_t(&self, encoded: &Encoded, mode: Mode, probe: &mut Probe) -> Result<Decoded> {
        let mut maps = Vec::with_capacity(3);
        let logits = self.decode(encoded.clone(), mode, probe, &mut |map| maps.push(map))?;
        match maps.try_into() {
            Ok(maps) => Ok(Decoded { maps, logits }),
            Err(maps) => bail!("{} maps were decoded", Vec::len(&maps)),
        }
    }

    /// The logits alone, in evaluation: each map is let go after its last use.
    pub fn logits(&self, encoded: Encoded, probe: &mut Probe) -> Result<Tensor> {
        self.decode(encoded, Mode::Eval, probe, &mut drop)
    }

    /// The logits; `y4, y3, y2` are given away in this order.
    fn decode(
        &self,
        encoded: Encoded,
        mode: Mode,
        probe: &mut Probe,
        keep: &mut dyn FnMut(Tensor),
    ) -> Result<Tensor> {
        let Encoded { maps, words } = encoded;
        let [c1, c2, c3, c4]: [Tensor; 4] = match maps.try_into() {
            Ok(maps) => maps,
            Err(maps) => bail!("the decoder needs four maps, got {}", Vec::len(&maps)),
        };
        let attend = |layer: &Option<TransformerDecoderLayer>, map: &Tensor| {
            let Some(layer) = layer else { return Ok(map.clone()) };
            let grid = FeatureGrid::from_map(map)?;
            grid.with_tokens(layer.forward_t(grid.tokens(), &words, mode)?)?.to_map()
        };
        let again = self.checkpointing && mode.is_train();
        let fuse = |fuse: &Fuse, coarse: Tensor, fine: Tensor, probe: &mut Probe| {
            if again {
                fuse.checkpointed(&coarse, &fine, mode)
            } else {
                fuse.forward_t(coarse, fine, mode, probe)
            }
        };
        let y4 = fuse(&self.fuse4, c4, c3, probe)?;
        let xs = attend(&self.attend4, &y4)?;
        keep(y4);
        probe.record("tf1", &xs);
        let y3 = fuse(&self.fuse3, xs, c2, probe)?;
        let xs = attend(&self.attend3, &y3)?;
        keep(y3);
        probe.record("tf2", &xs);
        let y2 = fuse(&self.fuse2, xs, c1, probe)?;
        let logits = self.classify.forward(&y2)?;
        keep(y2);
        Ok(logits)
    }
}
