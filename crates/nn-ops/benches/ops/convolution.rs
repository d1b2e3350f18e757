//! Convolutions of the decoder, of ResNet-101 and of patch embedding: throughput counts the multiplications of the direct sum.

use candle_core::{DType, Device, Tensor};
use criterion::Criterion;
use nn_ops::{After, Conv2d, Conv2dConfig, Mode};

use crate::harness::Case;

pub(crate) fn convolution(c: &mut Criterion) {
    for (name, c_in, c_out, size, k, stride, padding) in [
        ("conv3x3 1536 to 768 30x30 (Winograd)", 1536, 768, 30, 3, 1, 1),
        ("conv3x3 768 to 768 60x60 (Winograd)", 768, 768, 60, 3, 1, 1),
        ("conv3x3 256 to 256 30x30 (ResNet, Winograd)", 256, 256, 30, 3, 1, 1),
        ("conv3x3/2 256 to 256 60x60 (ResNet)", 256, 256, 60, 3, 2, 1),
        ("conv7x7/2 3 to 64 480x480 (ResNet)", 3, 64, 480, 7, 2, 3),
        ("conv4x4/4 3 to 128 480x480 (Swin)", 3, 128, 480, 4, 4, 0),
        ("conv1x1 1024 to 256 30x30 (ResNet)", 1024, 256, 30, 1, 1, 0),
    ] {
        let shapes: [&[usize]; 3] = [&[1, c_in, size, size], &[c_out, c_in, k, k], &[c_out]];
        let out = (size + 2 * padding - k) / stride + 1;
        let products = Some(c_in * c_out * k * k * out * out);
        let case = Case { name, shapes: &shapes, products };
        let cfg = Conv2dConfig::new(stride, padding);
        case.run(c, &|x| nn_ops::conv2d(&x[0], &x[1], Some(&x[2]), cfg));
    }
    let store = nn_ops::ParamStore::new(1);
    nn_ops::batch_norm2d(768, store.builder(DType::F32, &Device::Cpu)).unwrap();
    let norm = nn_ops::batch_norm2d(768, store.frozen(DType::F32, &Device::Cpu)).unwrap();
    let shapes: [&[usize]; 2] = [&[1, 768, 60, 60], &[768, 768, 3, 3]];
    let products = Some(768 * 768 * 9 * 3600);
    let case = Case { name: "conv3x3 + norm + relu 768 to 768 60x60", shapes: &shapes, products };
    case.forward(c, &|x| {
        let conv = Conv2d::new(x[1].clone(), None, Conv2dConfig::new(1, 1));
        conv.forward_normalised(&x[0], &norm, After::Relu, Mode::Eval)
    });
    // Candle's own, which has no Winograd and no threads in its gradient: one small shape of both kinds.
    for (name, size, k) in
        [("conv3x3 256 to 256 15x15", 15, 3), ("conv1x1 256 to 256 30x30", 30, 1)]
    {
        let shapes: [&[usize]; 2] = [&[1, 256, size, size], &[256, 256, k, k]];
        let products = Some(256 * 256 * k * k * size * size);
        let case = Case { name, shapes: &shapes, products };
        let candle = |x: &[Tensor]| x[0].conv2d(&x[1], k / 2, 1, 1, 1);
        let f = |x: &[Tensor]| nn_ops::conv2d(&x[0], &x[1], None, Conv2dConfig::new(1, k / 2));
        case.beside(c, &f, Some(&candle));
    }
}
