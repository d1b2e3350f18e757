//! One fusion stage: attention both ways, the gated visual residual, and the updated words (spec section 3).
//!
//! Checkpoint prefixes: Swin `backbone.layers.{i}.`, ResNet `backbone.all_fusion{i+1}.`. The paper's variant differs inside
//! the attention only. A side that gathers nothing has no parameters and goes through unchanged.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use nn_ops::{
    Linear, Mode, Noise, Probe, add, checkpoint, conv1x1, default_init, linear_with_init, mul,
    relu, tanh,
};

use crate::to_text::VisionToText;
use crate::to_vision::TextToVision;
use crate::{GateInit, MbaConfig};

/// What a stage hands on.
#[derive(Clone, Debug)]
pub struct Fused {
    /// `r`, `(B, N, C)`: the visual residual before its gate; `V` itself if cells gather nothing.
    pub residual: Tensor,
    /// `V + g r`, `(B, N, C)`.
    pub visual: Tensor,
    /// `E + GELU(W_l(..))`, `(B, L, D)`.
    pub text: Tensor,
}

/// Multi-scale bi-directional attention after one stage of a backbone.
#[derive(Clone, Debug)]
pub struct MbaStage {
    vision: Option<VisionSide>,
    text: Option<TextSide>,
    checkpointing: bool,
}

#[derive(Clone, Debug)]
struct VisionSide {
    project: Linear,
    attention: TextToVision,
    project_mm: Linear,
    gate: (Linear, Linear),
}

#[derive(Clone, Debug)]
struct TextSide {
    attention: VisionToText,
    words: Linear,
}

impl MbaStage {
    /// Keys `fusion.{vis_project.0, image_lang_att, project_mm.0}`, `res_gate.{0,2}`, `W_l.0`.
    pub fn new(cfg: &MbaConfig, vb: VarBuilder) -> Result<Self> {
        if let Err(why) = cfg.validate() {
            bail!("mba: {why}");
        }
        let directions = cfg.fusion.directions;
        Ok(Self {
            vision: directions.to_vision().then(|| VisionSide::new(cfg, &vb)).transpose()?,
            text: directions.to_text().then(|| TextSide::new(cfg, &vb)).transpose()?,
            checkpointing: false,
        })
    }

    /// Whether the attention of both sides keeps only its inputs for the backward pass and is computed again there. What
    /// lies inside is then not recorded by a probe, and the loss must be differentiated by [`nn_ops::Gradients::of`].
    pub fn checkpointing(&mut self, on: bool) {
        self.checkpointing = on;
    }

    /// Cells `(B, N, C)` of a map of `extent = (h, w)`, words `(B, L, D)`, mask `(B, L)` with 1 on real words.
    ///
    /// Cells of one picture, `(1, N, C)`, go with any number of sentences: what does not depend on the words is then
    /// computed once.
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

    /// The same, recording `vis_project`, the similarity maps, `out_v` and `out_l`.
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
        if (b != 1 && bw != b) || mask.dims() != [bw, l] {
            bail!("words {:?} and mask {:?} for {b} images", words.dims(), mask.dims());
        }
        let mask = mask.to_dtype(visual.dtype())?.detach().unsqueeze(2)?; // (B, L, 1)
        // Without a gradient nothing is kept anyway.
        let again = self.checkpointing && (visual.track_op() || words.track_op());
        let text = match &self.text {
            Some(side) => side.forward(visual, words, &mask, again, probe)?,
            None => words.clone(),
        };
        let (residual, visual) = match &self.vision {
            Some(side) => side.forward(visual, extent, words, &mask, again, probe)?,
            None => (each(visual, bw)?, visual.clone()),
        };
        Ok(Fused { residual, visual, text })
    }

    /// Whether the gate is zero whatever the residual: cells then leave the stage as they came. Reads the gate's weights.
    pub fn is_closed(&self) -> Result<bool> {
        let Some(side) = &self.vision else { return Ok(true) };
        for layer in [&side.gate.0, &side.gate.1] {
            let largest = layer.weight()?.detach().abs()?.flatten_all()?.max(0)?;
            if largest.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()? == 0.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What one picture has, `(1, ..)`, once for each of `n` sentences; anything else as it is.
pub(crate) fn each(xs: &Tensor, n: usize) -> Result<Tensor> {
    if n == 1 || xs.dim(0)? != 1 {
        return Ok(xs.clone());
    }
    let mut shape = xs.dims().to_vec();
    shape[0] = n;
    xs.broadcast_as(shape)?.contiguous()
}

impl VisionSide {
    fn new(cfg: &MbaConfig, vb: &VarBuilder) -> Result<Self> {
        let c = cfg.visual_dim;
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
            project: conv1x1(c, c, fusion.pp("vis_project").pp("0"))?,
            attention: TextToVision::new(cfg, &fusion.pp("image_lang_att"))?,
            project_mm: conv1x1(c, c, fusion.pp("project_mm").pp("0"))?,
            gate: (gate(0, first)?, gate(2, second)?),
        })
    }

    /// The residual `r` and the gated sum `V + g r`.
    fn forward(
        &self,
        visual: &Tensor,
        extent: (usize, usize),
        words: &Tensor,
        mask: &Tensor,
        again: bool,
        probe: &mut Probe,
    ) -> Result<(Tensor, Tensor)> {
        let vis = self.project.forward_gelu(visual)?;
        probe.record("vis_project", &vis);
        let gathered = if again {
            let attention = self.attention.clone();
            checkpoint(&[visual, words, mask], Mode::Train(&Noise::new(0, 0)), move |x, _| {
                attention.forward(&x[0], extent, &x[1], &x[2], &mut Probe::off())
            })?
        } else {
            self.attention.forward(visual, extent, words, mask, probe)?
        };
        let vis = each(&vis, gathered.dim(0)?)?;
        let residual = self.project_mm.forward_gelu(&mul(&vis, &gathered)?)?;
        let gate = tanh(&self.gate.1.forward(&relu(&self.gate.0.forward(&residual)?)?)?)?;
        let sum = add(&each(visual, residual.dim(0)?)?, &mul(&gate, &residual)?)?;
        Ok((residual, sum))
    }
}

impl TextSide {
    fn new(cfg: &MbaConfig, vb: &VarBuilder) -> Result<Self> {
        let d = cfg.text_dim;
        Ok(Self {
            attention: VisionToText::new(cfg, &vb.pp("fusion").pp("image_lang_att"))?,
            words: conv1x1(d, d, vb.pp("W_l").pp("0"))?,
        })
    }

    /// The updated words.
    fn forward(
        &self,
        visual: &Tensor,
        words: &Tensor,
        mask: &Tensor,
        again: bool,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let gathered = if again {
            let attention = self.attention.clone();
            checkpoint(&[visual, words, mask], Mode::Train(&Noise::new(0, 0)), move |x, _| {
                attention.forward(&x[0], &x[1], &x[2], &mut Probe::off())
            })?
        } else {
            self.attention.forward(visual, words, mask, probe)?
        };
        add(words, &self.words.forward_gelu(&gathered)?)
    }
}
