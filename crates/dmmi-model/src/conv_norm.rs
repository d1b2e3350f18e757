//! 3x3 convolution without bias, BatchNorm, ReLU: the unit of the decoder.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{After, BatchNorm2d, Conv2d, Conv2dConfig, Mode, batch_norm2d, conv2d_no_bias};

/// Convolution and norm under two keys, as the release names them.
#[derive(Clone, Debug)]
pub(crate) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm2d,
}

impl ConvNorm {
    pub(crate) fn new(
        c_in: usize,
        c_out: usize,
        (conv_key, norm_key): (&str, &str),
        vb: VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            conv: conv2d_no_bias(c_in, c_out, 3, Conv2dConfig::new(1, 1), vb.pp(conv_key))?,
            norm: batch_norm2d(c_out, vb.pp(norm_key))?,
        })
    }

    /// `(B, Cin, h, w)` to `(B, Cout, h, w)`.
    pub(crate) fn forward_t(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        self.conv.forward_normalised(xs, &self.norm, After::Relu, mode)
    }
}
