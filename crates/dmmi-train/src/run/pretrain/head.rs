//! What is laid on the visual encoder while it learns categories, and thrown away afterwards.

use backbones::StageInfo;
use candle_core::{DType, Device, Result, Tensor};
use nn_ops::{Align, Conv2d, Conv2dConfig, ParamStore, conv2d_layer, relu, resize_bilinear};

/// Before the names of its parameters.
pub(super) const PREFIX: &str = "pretrain_head";

/// A feature pyramid (Lin et al., CVPR 2017) from the coarsest map to the finest, and a class a cell of the finest: kernel-1
/// convolutions to one width, bilinear sums, a 3x3 convolution, a kernel-1 convolution.
pub(super) struct Head {
    /// Its parameters, by names that begin with [`PREFIX`].
    pub(super) store: ParamStore,
    lateral: Vec<Conv2d>,
    smooth: Conv2d,
    classes: Conv2d,
}

impl Head {
    /// First values depend on `seed` and the names only.
    pub(super) fn new(
        stages: &[StageInfo],
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let store = ParamStore::new(seed);
        let vb = store.builder(DType::F32, device).pp(PREFIX);
        let width = 2 * stages.first().map_or(16, |finest| finest.channels);
        let one = Conv2dConfig::new(1, 0);
        let lateral = stages.iter().enumerate().map(|(i, stage)| {
            conv2d_layer(stage.channels, width, 1, one, vb.pp(format!("lateral{}", i + 1)))
        });
        let lateral = lateral.collect::<Result<_>>()?;
        let smooth = conv2d_layer(width, width, 3, Conv2dConfig::new(1, 1), vb.pp("smooth"))?;
        let classes = conv2d_layer(width, classes, 1, one, vb.pp("classes"))?;
        Ok(Self { store, lateral, smooth, classes })
    }

    /// Maps `(B, C_n, h_n, w_n)` of the stages to logits `(B, K, h_1, w_1)`.
    pub(super) fn forward(&self, maps: &[Tensor]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (map, lateral) in maps.iter().zip(&self.lateral).rev() {
            let fine = lateral.forward(map)?;
            sum = Some(match sum {
                None => fine,
                Some(coarse) => {
                    let (_, _, h, w) = fine.dims4()?;
                    nn_ops::add(&fine, &resize_bilinear(&coarse, (h, w), Align::Corners)?)?
                }
            });
        }
        match sum {
            Some(sum) => self.classes.forward(&relu(&self.smooth.forward(&sum)?)?),
            None => candle_core::bail!("no map to classify"),
        }
    }
}
