//! The bottleneck block: 1x1, 3x3 (strided), 1x1 convolutions with BatchNorm, and a shortcut.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{After, BatchNorm2d, Conv2d, Conv2dConfig, Mode, add, batch_norm2d, relu};

/// Output channels of a bottleneck per inner channel.
pub(super) const EXPANSION: usize = 4;

/// A square convolution without bias, drawn as torchvision does: normal with variance `2 / (Cout k²)`.
pub(super) fn conv(
    c_in: usize,
    c_out: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let stdev = (2.0 / (c_out * kernel * kernel) as f64).sqrt();
    let init = Init::Randn { mean: 0.0, stdev };
    let weight = vb.get_with_hints((c_out, c_in, kernel, kernel), "weight", init)?;
    Ok(Conv2d::new(weight, None, cfg))
}

/// Keys `conv1..3`, `bn1..3`, `downsample.{0,1}`.
#[derive(Clone, Debug)]
pub(super) struct Bottleneck {
    layers: [(Conv2d, BatchNorm2d); 3],
    shortcut: Option<(Conv2d, BatchNorm2d)>,
}

impl Bottleneck {
    pub(super) fn new(c_in: usize, inner: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let out = inner * EXPANSION;
        let layer = |i: usize, a: usize, b: usize, k: usize, cfg: Conv2dConfig| {
            let conv = conv(a, b, k, cfg, vb.pp(format!("conv{i}")))?;
            Ok::<_, candle_core::Error>((conv, batch_norm2d(b, vb.pp(format!("bn{i}")))?))
        };
        let one = Conv2dConfig::new(1, 0);
        let layers = [
            layer(1, c_in, inner, 1, one)?,
            layer(2, inner, inner, 3, Conv2dConfig::new(stride, 1))?,
            layer(3, inner, out, 1, one)?,
        ];
        let shortcut = if stride != 1 || c_in != out {
            let vb = vb.pp("downsample");
            let conv = conv(c_in, out, 1, Conv2dConfig::new(stride, 0), vb.pp("0"))?;
            Some((conv, batch_norm2d(out, vb.pp("1"))?))
        } else {
            None
        };
        Ok(Self { layers, shortcut })
    }

    /// `(B, Cin, h, w)` to `(B, 4 inner, h / stride, w / stride)`.
    pub(super) fn forward_t(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let apply = |(conv, norm): &(Conv2d, BatchNorm2d), xs: &Tensor, after: After| {
            conv.forward_normalised(xs, norm, after, mode)
        };
        let ys = apply(&self.layers[0], xs, After::Relu)?;
        let ys = apply(&self.layers[1], &ys, After::Relu)?;
        let ys = apply(&self.layers[2], &ys, After::Nothing)?;
        let short = match &self.shortcut {
            Some(s) => apply(s, xs, After::Nothing)?,
            None => xs.clone(),
        };
        relu(&add(&ys, &short)?)
    }
}
