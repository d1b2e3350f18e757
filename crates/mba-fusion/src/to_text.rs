//! Cells gathered for each word (spec section 3).
//!
//! Checkpoint prefix `..fusion.image_lang_att.`: `refinelan{11,21,31}`, `lan_weight`, `f_value_v.0`, `W2.0`.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{Linear, Probe, conv1x1, instance_norm, linear_no_bias, matmul};

use crate::centred::Centred;
use crate::config::{TEXT_NARROWING, TEXT_WINDOWS, beside};
use crate::scales::Scales;
use crate::stage::each;
use crate::text_window::TextWindow;
use crate::window_sums::WindowSums;
use crate::{IN_EPS, MbaConfig, Variant};

const KEYS: [&str; 3] = ["refinelan11", "refinelan21", "refinelan31"];

/// The similarity maps of all scales.
#[derive(Clone, Debug)]
enum Maps {
    Release(Vec<(&'static str, TextWindow)>),
    Paper(WindowSums),
}

/// Attention of words over cells.
#[derive(Clone, Debug)]
pub(crate) struct VisionToText {
    maps: Maps,
    scales: Scales,
    value: Linear,
    out: Linear,
}

impl VisionToText {
    pub(crate) fn new(cfg: &MbaConfig, vb: &VarBuilder) -> Result<Self> {
        let (c, d, fusion) = (cfg.visual_dim, cfg.text_dim, &cfg.fusion);
        let paper = vb.pp("text");
        let (maps, value) = match fusion.variant {
            Variant::Release => {
                let window = |size: &usize| {
                    let found = beside(*size, &TEXT_WINDOWS, &TEXT_NARROWING).zip(beside(
                        *size,
                        &TEXT_WINDOWS,
                        &KEYS,
                    ));
                    let Some((narrowing, key)) = found else {
                        bail!("mba: the release has no text window of {size} words");
                    };
                    Ok((key, TextWindow::new(cfg, *size, c / narrowing, vb.pp(key))?))
                };
                let windows = fusion.text_windows.iter().map(window).collect::<Result<_>>()?;
                (Maps::Release(windows), conv1x1(c, d, vb.pp("f_value_v").pp("0"))?)
            }
            Variant::Paper => (
                Maps::Paper(WindowSums::of_words(cfg, &paper)?),
                linear_no_bias(c, d, paper.pp("w_v"))?,
            ),
        };
        let count = fusion.text_windows.len();
        Ok(Self {
            maps,
            scales: Scales::new(fusion.variant, fusion.lambda, count, "lan", vb)?,
            value,
            out: conv1x1(d, d, vb.pp("W2").pp("0"))?,
        })
    }

    /// Cells `(B, N, C)`, words `(B, L, D)`, mask `(B, L, 1)` to what each word gathered, `(B, L, D)`.
    pub(crate) fn forward(
        &self,
        visual: &Tensor,
        words: &Tensor,
        mask: &Tensor,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let (maps, centred) = match &self.maps {
            Maps::Release(windows) => {
                let centred = Centred::of(visual, &self.value)?;
                let mut maps = Vec::with_capacity(windows.len());
                for (name, window) in windows {
                    let map = window.forward(visual, centred.as_ref(), words, mask)?;
                    probe.record(name, &map);
                    maps.push(map);
                }
                (maps, centred)
            }
            Maps::Paper(sums) => {
                let maps = sums.over_cells(visual, words, mask)?;
                for (k, map) in sums.windows().iter().zip(&maps) {
                    probe.record(&format!("text{k}"), map);
                }
                (maps, None)
            }
        };
        let map = self.scales.combine(&maps)?; // (B, L, N)
        let gathered = match (&self.maps, centred) {
            (_, Some(centred)) => centred.gathered(&map, &self.value)?,
            (maps, None) => {
                let value = self.value.forward(visual)?; // (B, N, D)
                let value = match maps {
                    Maps::Release(_) => instance_norm(&value, IN_EPS)?,
                    Maps::Paper(_) => value,
                };
                matmul(&map, &each(&value, map.dim(0)?)?)?
            }
        };
        let out = self.out.forward(&gathered)?;
        probe.record("out_l", &out);
        Ok(out)
    }
}
