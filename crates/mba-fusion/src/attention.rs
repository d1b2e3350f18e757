//! Attention both ways, averaged over the scales with learnt weights (spec section 3, release).
//!
//! Checkpoint prefix `..fusion.image_lang_att.`.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{Linear, Probe, conv1x1, instance_norm, matmul, softmax};

use crate::config::{TEXT_NARROWING, TEXT_WINDOWS, VISION_NARROWING, VISION_WINDOWS};
use crate::text_window::TextWindow;
use crate::vision_window::VisionWindow;
use crate::{IN_EPS, MbaConfig};

const VISION_KEYS: [&str; 3] = ["refineimg11", "refineimg33", "refineimg55"];
const TEXT_KEYS: [&str; 3] = ["refinelan11", "refinelan21", "refinelan31"];

/// Words gathered for each cell and cells gathered for each word.
#[derive(Clone, Debug)]
pub(crate) struct BidirectionalAttention {
    vision: Vec<VisionWindow>,
    text: Vec<TextWindow>,
    vision_weights: Tensor,
    text_weights: Tensor,
    value_text: Linear,
    value_visual: Linear,
    out_visual: Linear,
    out_text: Linear,
}

impl BidirectionalAttention {
    pub(crate) fn new(cfg: &MbaConfig, vb: VarBuilder) -> Result<Self> {
        let (c, d) = (cfg.visual_dim, cfg.text_dim);
        let vision = (0..3)
            .map(|i| {
                let inner = c / VISION_NARROWING[i];
                VisionWindow::new(cfg, VISION_WINDOWS[i], inner, vb.pp(VISION_KEYS[i]))
            })
            .collect::<Result<_>>()?;
        let text = (0..3)
            .map(|i| {
                let inner = c / TEXT_NARROWING[i];
                TextWindow::new(cfg, TEXT_WINDOWS[i], inner, vb.pp(TEXT_KEYS[i]))
            })
            .collect::<Result<_>>()?;
        let weights = |name: &str| vb.get_with_hints(3, name, Init::Const(1.0));
        let layer = |a: usize, b: usize, name: &str| conv1x1(a, b, vb.pp(name).pp("0"));
        Ok(Self {
            vision,
            text,
            vision_weights: weights("vis_weight")?,
            text_weights: weights("lan_weight")?,
            value_text: layer(d, c, "f_value")?,
            value_visual: layer(c, d, "f_value_v")?,
            out_visual: layer(c, c, "W")?,
            out_text: layer(d, d, "W2")?,
        })
    }

    /// Cells `(B, N, C)`, words `(B, L, D)`, mask `(B, L, 1)` to (`(B, N, C)`, `(B, L, D)`): what each cell and each word
    /// gathered from the other side.
    pub(crate) fn forward(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        mask: &Tensor,
        probe: &mut Probe,
    ) -> Result<(Tensor, Tensor)> {
        let value_text = self.value_text.forward(words)?.broadcast_mul(mask)?; // (B, L, C)
        let value_visual = instance_norm(&self.value_visual.forward(visual)?, IN_EPS)?; // (B, N, D)
        let score_mask = mask.affine(1e4, -1e4)?.transpose(1, 2)?.contiguous()?; // (B, 1, L)
        let mut vision_maps = Vec::with_capacity(3);
        for (window, name) in self.vision.iter().zip(VISION_KEYS) {
            let map = window.forward(visual, extent, words, mask, &score_mask)?;
            probe.record(name, &map);
            vision_maps.push(map);
        }
        let mut text_maps = Vec::with_capacity(3);
        for (window, name) in self.text.iter().zip(TEXT_KEYS) {
            let map = window.forward(visual, words, mask)?;
            probe.record(name, &map);
            text_maps.push(map);
        }
        let map = weighted(&vision_maps, &self.vision_weights)?.squeeze(1)?; // (B, N, L)
        let gathered = self.out_visual.forward(&matmul(&map, &value_text)?)?;
        let out_visual = instance_norm(&gathered, IN_EPS)?;
        let map = weighted(&text_maps, &self.text_weights)?.squeeze(1)?; // (B, L, N)
        let out_text = self.out_text.forward(&matmul(&map, &value_visual)?)?;
        probe.record("out_v", &out_visual);
        probe.record("out_l", &out_text);
        Ok((out_visual, out_text))
    }
}

/// `Σ softmax(weights)_r maps_r`.
fn weighted(maps: &[Tensor], weights: &Tensor) -> Result<Tensor> {
    let weights = softmax(weights)?;
    let mut total: Option<Tensor> = None;
    for (r, map) in maps.iter().enumerate() {
        let share = map.broadcast_mul(&weights.narrow(0, r, 1)?.reshape((1, 1, 1, 1))?)?;
        total = Some(match total {
            Some(t) => (t + share)?,
            None => share,
        });
    }
    match total {
        Some(t) => Ok(t),
        None => candle_core::bail!("no similarity maps to weigh"),
    }
}
