//! Patches of the image, and merging of 2x2 cells between stages.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{
    Conv2d, Conv2dConfig, LayerNorm, Linear, RowMap, conv2d_layer, layer_norm_layer,
    linear_with_init, reshape, take_rows,
};

use crate::grid::FeatureGrid;

/// A convolution with kernel = stride = patch, then a layer norm. Keys `proj`, `norm`.
#[derive(Clone, Debug)]
pub(super) struct PatchEmbed {
    proj: Conv2d,
    norm: LayerNorm,
    patch: usize,
}

impl PatchEmbed {
    pub(super) fn new(patch: usize, dim: usize, vb: VarBuilder) -> Result<Self> {
        let cfg = Conv2dConfig::new(patch, 0);
        Ok(Self {
            proj: conv2d_layer(3, dim, patch, cfg, vb.pp("proj"))?,
            norm: layer_norm_layer(dim, 1e-5, vb.pp("norm"))?,
            patch,
        })
    }

    /// `(B, 3, H, W)`, padded with zeros to whole patches, to a grid of `C` channels.
    pub(super) fn forward(&self, images: &Tensor) -> Result<FeatureGrid> {
        let (_, _, h, w) = images.dims4()?;
        let images = pad_end(images, 2, h.next_multiple_of(self.patch) - h)?;
        let images = pad_end(&images, 3, w.next_multiple_of(self.patch) - w)?;
        let grid = FeatureGrid::from_map(&self.proj.forward(&images)?)?;
        grid.with_tokens(self.norm.forward(grid.tokens())?)
    }
}

/// Zeros after the end of one dimension.
fn pad_end(xs: &Tensor, dim: usize, n: usize) -> Result<Tensor> {
    if n == 0 { Ok(xs.clone()) } else { xs.pad_with_zeros(dim, 0, n) }
}

/// Four neighbours side by side, a layer norm, and a projection to twice the channels. Keys `norm`, `reduction`.
#[derive(Clone, Debug)]
pub(super) struct PatchMerging {
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    pub(super) fn new(dim: usize, init: Init, vb: VarBuilder) -> Result<Self> {
        let zero = Init::Const(0.0);
        Ok(Self {
            norm: layer_norm_layer(4 * dim, 1e-5, vb.pp("norm"))?,
            reduction: linear_with_init(4 * dim, 2 * dim, false, init, zero, vb.pp("reduction"))?,
        })
    }

    /// `(B, h w, C)` to `(B, ceil(h/2) ceil(w/2), 2 C)`; odd sides are padded with zeros. `squares` are the grid's.
    pub(super) fn forward(&self, grid: &FeatureGrid, squares: &RowMap) -> Result<FeatureGrid> {
        let (b, _, c) = grid.tokens().dims3()?;
        let (h, w) = grid.extent();
        let (h, w) = (h.div_ceil(2), w.div_ceil(2));
        let xs = reshape(&take_rows(grid.tokens(), squares, None)?, (b, h * w, 4 * c))?;
        FeatureGrid::new(self.reduction.forward(&self.norm.forward(&xs)?)?, (h, w))
    }
}
