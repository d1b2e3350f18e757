//! One fusion stage: attention both ways, the gated visual residual, and the updated words (spec section 3, release).
//!
//! Checkpoint prefixes: Swin `backbone.layers.{i}.`, ResNet `backbone.all_fusion{i+1}.`.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use nn_ops::{Linear, Probe, conv1x1, default_init, gelu, linear_with_init, relu};

use crate::attention::BidirectionalAttention;
use crate::{GateInit, MbaConfig};

/// What a stage hands on.
#[derive(Clone, Debug)]
pub struct Fused {
    /// `r`, `(B, N, C)`: the visual residual before its gate.
    pub residual: Tensor,
    /// `V + g r`, `(B, N, C)`.
    pub visual: Tensor,
    /// `E + GELU(W_l(..))`, `(B, L, D)`.
    pub text: Tensor,
}

/// Multi-scale bi-directional attention after one stage of a backbone.
#[derive(Clone, Debug)]
pub struct MbaStage {
    vis_project: Linear,
    attention: BidirectionalAttention,
    project_mm: Linear,
    gate: (Linear, Linear),
    words: Linear,
}

impl MbaStage {
    /// Keys `fusion.{vis_project.0, image_lang_att, project_mm.0}`, `res_gate.{0,2}`, `W_l.0`.
    pub fn new(cfg: &MbaConfig, vb: VarBuilder) -> Result<Self> {
        if let Err(why) = cfg.validate() {
            bail!("mba: {why}");
        }
        let (c, d) = (cfg.visual_dim, cfg.text_dim);
        let fusion = vb.pp("fusion");
        let zero = Init::Const(0.0);
        let (first, second) = match cfg.gate {
            GateInit::Zero => (zero, zero),
            GateInit::OpensFromZero => (default_init(c), zero),
            GateInit::Default => (default_init(c), default_init(c)),
        };
        let gate = |i: usize, init: Init| {
            linear_with_init(c, c, false, init, zero, vb.pp("res_gate").pp(i))
        };
        Ok(Self {
            vis_project: conv1x1(c, c, fusion.pp("vis_project").pp("0"))?,
            attention: BidirectionalAttention::new(cfg, fusion.pp("image_lang_att"))?,
            project_mm: conv1x1(c, c, fusion.pp("project_mm").pp("0"))?,
            gate: (gate(0, first)?, gate(2, second)?),
            words: conv1x1(d, d, vb.pp("W_l").pp("0"))?,
        })
    }

    /// Cells `(B, N, C)` of a map of `extent = (h, w)`, words `(B, L, D)`, mask `(B, L)` with 1 on real words.
    ///
    /// # Errors
    /// When the cells do not fill the extent or the mask does not fit the words.
    pub fn forward(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        mask: &Tensor,
    ) -> Result<Fused> {
        self.forward_probed(visual, extent, words, mask, &mut Probe::off())
    }

    /// The same, recording `vis_project`, the six similarity maps, `out_v` and `out_l`.
    pub fn forward_probed(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        mask: &Tensor,
        probe: &mut Probe,
    ) -> Result<Fused> {
        let (b, n, _) = visual.dims3()?;
        let (bw, l, _) = words.dims3()?;
        if n != extent.0 * extent.1 {
            bail!("{n} tokens cannot fill a {}x{} grid", extent.0, extent.1);
        }
        if bw != b || mask.dims() != [b, l] {
            bail!("words {:?} and mask {:?} for {b} images", words.dims(), mask.dims());
        }
        let mask = mask.to_dtype(visual.dtype())?.detach().unsqueeze(2)?; // (B, L, 1)
        let vis = gelu(&self.vis_project.forward(visual)?)?;
        probe.record("vis_project", &vis);
        let (out_visual, out_text) = self.attention.forward(visual, extent, words, &mask, probe)?;
        let residual = gelu(&self.project_mm.forward(&(vis * out_visual)?)?)?;
        let gate = self.gate.1.forward(&relu(&self.gate.0.forward(&residual)?)?)?.tanh()?;
        let visual = (visual + (gate * &residual)?)?;
        let text = (words + gelu(&self.words.forward(&out_text)?)?)?;
        Ok(Fused { residual, visual, text })
    }
}
