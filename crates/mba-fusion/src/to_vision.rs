//! Words gathered for each cell (spec section 3).
//!
//! Checkpoint prefix `..fusion.image_lang_att.`: `refineimg{11,33,55}`, `vis_weight`, `f_value.0`, `W.0`.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{Linear, Probe, conv1x1, instance_norm, linear_no_bias, matmul, scale_rows};

use crate::config::{VISION_NARROWING, VISION_WINDOWS, beside};
use crate::scales::Scales;
use crate::vision_window::VisionWindow;
use crate::window_sums::WindowSums;
use crate::{IN_EPS, MbaConfig, Variant};

const KEYS: [&str; 3] = ["refineimg11", "refineimg33", "refineimg55"];

/// The similarity maps of all scales.
#[derive(Clone, Debug)]
enum Maps {
    Release(Vec<(&'static str, VisionWindow)>),
    Paper(WindowSums),
}

/// Attention of cells over words.
#[derive(Clone, Debug)]
pub(crate) struct TextToVision {
    maps: Maps,
    scales: Scales,
    value: Linear,
    out: Linear,
}

impl TextToVision {
    pub(crate) fn new(cfg: &MbaConfig, vb: &VarBuilder) -> Result<Self> {
        let (c, d, fusion) = (cfg.visual_dim, cfg.text_dim, &cfg.fusion);
        let paper = vb.pp("vision");
        let (maps, value) = match fusion.variant {
            Variant::Release => {
                let window = |size: &usize| {
                    let found = beside(*size, &VISION_WINDOWS, &VISION_NARROWING).zip(beside(
                        *size,
                        &VISION_WINDOWS,
                        &KEYS,
                    ));
                    let Some((narrowing, key)) = found else {
                        bail!("mba: the release has no vision window of side {size}");
                    };
                    Ok((key, VisionWindow::new(cfg, *size, c / narrowing, vb.pp(key))?))
                };
                let windows = fusion.vision_windows.iter().map(window).collect::<Result<_>>()?;
                (Maps::Release(windows), conv1x1(d, c, vb.pp("f_value").pp("0"))?)
            }
            Variant::Paper => (
                Maps::Paper(WindowSums::of_cells(cfg, &paper)?),
                linear_no_bias(d, c, paper.pp("w_v"))?,
            ),
        };
        let count = fusion.vision_windows.len();
        Ok(Self {
            maps,
            scales: Scales::new(fusion.variant, fusion.lambda, count, "vis", vb)?,
            value,
            out: conv1x1(c, c, vb.pp("W").pp("0"))?,
        })
    }

    /// Cells `(B, N, C)`, words `(B, L, D)`, mask `(B, L, 1)` to what each cell gathered, `(B, N, C)`.
    pub(crate) fn forward(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        mask: &Tensor,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let value = scale_rows(&self.value.forward(words)?, mask)?; // (B, L, C)
        let score_mask = mask.affine(1e4, -1e4)?.transpose(1, 2)?.contiguous()?; // (B, 1, L)
        let maps = match &self.maps {
            Maps::Release(windows) => {
                let mut maps = Vec::with_capacity(windows.len());
                for (name, window) in windows {
                    let map = window.forward(visual, extent, words, mask, &score_mask)?;
                    probe.record(name, &map);
                    maps.push(map);
                }
                maps
            }
            Maps::Paper(sums) => {
                let maps = sums.over_words(visual, extent, words, &score_mask)?;
                for (k, map) in sums.windows().iter().zip(&maps) {
                    probe.record(&format!("vision{k}"), map);
                }
                maps
            }
        };
        let map = self.scales.combine(&maps)?; // (B, N, L)
        let out = instance_norm(&self.out.forward(&matmul(&map, &value)?)?, IN_EPS)?;
        probe.record("out_v", &out);
        Ok(out)
    }
}
