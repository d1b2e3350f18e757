//! Swin Transformer (Liu et al. 2021) in the form detection and segmentation use: any image size, features of every stage.
//!
//! Key names are the official ones. Each block pads its map to whole windows with zeros after `norm1`; `norm{i}` is applied
//! to what stage `i` emits.

mod block;
mod config;
mod patch;
mod window;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{
    LayerNorm, Mode, add_repeated, checkpoint, drop_path_rates, layer_norm_layer, resize_bicubic,
};

use self::block::{BlockConfig, SwinBlock};
use self::patch::{PatchEmbed, PatchMerging};
use self::window::{Pairs, Windows};
use crate::grid::FeatureGrid;
use crate::stage::{StageHook, StageInfo, StagedBackbone};

pub use self::config::SwinConfig;
pub use self::window::relative_position_index;

/// A Swin Transformer backbone.
#[derive(Clone, Debug)]
pub struct SwinTransformer {
    patch_embed: PatchEmbed,
    position: Option<Tensor>,
    stages: Vec<Stage>,
    infos: Vec<StageInfo>,
    window: usize,
    checkpointing: bool,
    kept: Arc<Mutex<Vec<Kept>>>,
}

/// Sizes whose windows are kept: four stages of a few image sizes.
const KEPT: usize = 16;

/// The windows of a map `(h, w)`.
type Kept = ((usize, usize), Windows);

#[derive(Clone, Debug)]
struct Stage {
    blocks: Vec<SwinBlock>,
    norm: LayerNorm,
    downsample: Option<PatchMerging>,
}

impl SwinTransformer {
    /// Keys `patch_embed`, `absolute_pos_embed` (where configured), `layers.{i}.blocks.{j}`, `layers.{i}.downsample`, `norm{i}`.
    pub fn new(cfg: &SwinConfig, vb: VarBuilder) -> Result<Self> {
        if let Err(why) = cfg.validate() {
            bail!("swin: {why}");
        }
        let rates = drop_path_rates(cfg.drop_path, cfg.depths.iter().sum());
        let mut rates = rates.into_iter();
        let pairs = Pairs::new(cfg.window_size, vb.device())?;
        let mut stages = Vec::new();
        let mut infos = Vec::new();
        for (i, &depth) in cfg.depths.iter().enumerate() {
            let dim = cfg.embed_dim << i;
            let vb_stage = vb.pp("layers").pp(i);
            let blocks = (0..depth)
                .map(|j| {
                    let block = BlockConfig {
                        dim,
                        heads: cfg.num_heads[i],
                        shift: if j % 2 == 0 { 0 } else { cfg.window_size / 2 },
                        hidden: cfg.mlp_ratio * dim,
                        drop_path: rates.next().unwrap_or(0.0),
                        init: cfg.init(),
                    };
                    SwinBlock::new(&block, &pairs, vb_stage.pp("blocks").pp(j))
                })
                .collect::<Result<Vec<_>>>()?;
            let downsample = if i + 1 < cfg.depths.len() {
                Some(PatchMerging::new(dim, cfg.init(), vb_stage.pp("downsample"))?)
            } else {
                None
            };
            let norm = layer_norm_layer(dim, 1e-5, vb.pp(format!("norm{i}")))?;
            stages.push(Stage { blocks, norm, downsample });
            infos.push(StageInfo { channels: dim, stride: cfg.patch_size << i });
        }
        let patch_embed = PatchEmbed::new(cfg.patch_size, cfg.embed_dim, vb.pp("patch_embed"))?;
        let position = match cfg.absolute_position {
            Some([h, w]) => {
                let shape = (1, cfg.embed_dim, h, w);
                Some(vb.get_with_hints(shape, "absolute_pos_embed", cfg.init())?)
            }
            None => None,
        };
        Ok(Self {
            patch_embed,
            position,
            stages,
            infos,
            window: cfg.window_size,
            checkpointing: false,
            kept: Arc::default(),
        })
    }

    /// Adds the learnt vector of each cell.
    fn with_position(&self, grid: FeatureGrid) -> Result<FeatureGrid> {
        let Some(position) = &self.position else { return Ok(grid) };
        let (h, w) = grid.extent();
        let position = match position.dims4()? {
            (_, _, ph, pw) if (ph, pw) == (h, w) => position.clone(),
            _ => resize_bicubic(position, (h, w))?,
        };
        let cells = position.flatten_from(2)?.transpose(1, 2)?.contiguous()?; // (1, N, C)
        grid.with_tokens(add_repeated(grid.tokens(), &cells.squeeze(0)?)?)
    }

    /// The windows of a map, made once for a size: their mask is as large as the scores of one head, and on a GPU an upload.
    fn windows_of(&self, extent: (usize, usize), device: &Device) -> Result<Windows> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            |(size, w): &&(_, Windows)| *size == extent && w.mask.device().same_device(device);
        if let Some((_, windows)) = kept.iter().find(known) {
            return Ok(windows.clone());
        }
        let windows = Windows::new(extent, self.window, device)?;
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((extent, windows.clone()));
        Ok(windows)
    }

    fn run_blocks(&self, stage: &Stage, mut grid: FeatureGrid, mode: Mode) -> Result<FeatureGrid> {
        let windows = self.windows_of(grid.extent(), grid.tokens().device())?;
        for block in &stage.blocks {
            grid = if self.checkpointing {
                let (block, windows, extent) = (block.clone(), windows.clone(), grid.extent());
                let tokens = checkpoint(&[grid.tokens()], mode, move |xs, mode| {
                    let grid = FeatureGrid::new(xs[0].clone(), extent)?;
                    Ok(block.forward_t(&grid, &windows, mode)?.tokens().clone())
                })?;
                grid.with_tokens(tokens)?
            } else {
                block.forward_t(&grid, &windows, mode)?
            };
        }
        Ok(grid)
    }
}

impl StagedBackbone for SwinTransformer {
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
        let mut grid = self.with_position(self.patch_embed.forward(images)?)?;
        let mut maps = Vec::with_capacity(self.stages.len());
        for (i, stage) in self.stages.iter().enumerate() {
            hook.before_stage(i, &grid);
            let out = hook.after_stage(i, self.run_blocks(stage, grid, mode)?)?;
            maps.push(out.emit.with_tokens(stage.norm.forward(out.emit.tokens())?)?.to_map()?);
            grid = match &stage.downsample {
                Some(d) => {
                    let device = out.carry.tokens().device();
                    d.forward(&out.carry, &self.windows_of(out.carry.extent(), device)?.squares)?
                }
                None => out.carry,
            };
        }
        hook.before_stage(self.stages.len(), &grid);
        Ok(maps)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use nn_ops::ParamStore;

    use super::*;

    #[test]
    fn positions_are_resized_bicubically_and_learn() -> Result<()> {
        let cfg = SwinConfig {
            embed_dim: 4,
            depths: [1; 4],
            num_heads: [1; 4],
            window_size: 2,
            absolute_position: Some([2, 3]),
            ..SwinConfig::tiny_w7()
        };
        let store = ParamStore::new(3);
        let swin = SwinTransformer::new(&cfg, store.builder(DType::F32, &Device::Cpu))?;
        let table = store.get("absolute_pos_embed").expect("made above");
        let empty = Tensor::zeros((1, 15, 4), DType::F32, &Device::Cpu)?;
        let grid = swin.with_position(FeatureGrid::new(empty, (3, 5))?)?;
        let want = resize_bicubic(table.as_tensor(), (3, 5))?;
        let apart = (grid.to_map()? - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(apart < 1e-7, "{apart:e}");
        let grads = grid.tokens().sqr()?.sum_all()?.backward()?;
        let grad = grads.get(table.as_tensor()).expect("reached");
        assert!(grad.abs()?.max_all()?.to_scalar::<f32>()? > 0.0);
        Ok(())
    }
}
