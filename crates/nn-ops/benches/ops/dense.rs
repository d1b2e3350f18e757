//! Linear layers and matrix products: throughput counts multiplications.

use candle_core::{Result, Tensor};
use criterion::Criterion;
use nn_ops::{Activation, Linear};

use crate::harness::Case;

pub(crate) fn dense(c: &mut Criterion) {
    for (name, rows, inner, out) in [
        ("linear 14400x128 to 512 (Swin stage 1)", 14_400, 128, 512),
        ("linear 900x512 to 2048 (Swin stage 3)", 900, 512, 2048),
        ("linear 900x2048 to 512 (Swin stage 3)", 900, 2048, 512),
        ("linear 20x768 to 3072 (BERT)", 20, 768, 3072),
    ] {
        let shapes: [&[usize]; 3] = [&[1, rows, inner], &[out, inner], &[out]];
        let case = Case { name, shapes: &shapes, products: Some(rows * inner * out) };
        let candle =
            |x: &[Tensor]| x[0].squeeze(0)?.matmul(&x[1].t()?)?.broadcast_add(&x[2])?.unsqueeze(0);
        let f = |x: &[Tensor]| nn_ops::linear(&x[0], &x[1], Some(&x[2]));
        case.beside(c, &f, Some(&candle));
    }
    for (name, rows, inner, wide) in [
        ("feed-forward 14400x128 by 512 (Swin stage 1)", 14_400, 128, 512),
        ("feed-forward 900x512 by 2048 (Swin stage 3)", 900, 512, 2048),
        ("feed-forward 20x768 by 3072 (BERT)", 20, 768, 3072),
    ] {
        let shapes: [&[usize]; 5] =
            [&[1, rows, inner], &[wide, inner], &[wide], &[inner, wide], &[inner]];
        let case = Case { name, shapes: &shapes, products: Some(2 * rows * inner * wide) };
        case.run(c, &|x| {
            let layer = |i: usize| Linear::new(x[i].clone(), Some(x[i + 1].clone()));
            nn_ops::feed_forward(&x[0], &layer(1), Activation::Gelu, &layer(3))
        });
    }
    // Words over the cells of stages 1 and 3.
    for (name, n, d) in [("matmul 20x14400x128", 14_400, 128), ("matmul 20x900x512", 900, 512)] {
        let shapes: [&[usize]; 2] = [&[1, 20, n], &[1, n, d]];
        let case = Case { name, shapes: &shapes, products: Some(20 * n * d) };
        let candle = |x: &[Tensor]| x[0].matmul(&x[1]);
        case.beside(c, &|x| nn_ops::matmul(&x[0], &x[1]), Some(&candle));
    }
    let shapes: [&[usize]; 2] = [&[9, 16, 144, 32], &[9, 16, 144, 32]];
    let products = Some(9 * 16 * 144 * 144 * 32);
    let case = Case { name: "matmul_nt 9x16x144x32 (Swin stage 3)", shapes: &shapes, products };
    let candle = |x: &[Tensor]| -> Result<Tensor> { x[0].matmul(&x[1].t()?.contiguous()?) };
    case.beside(c, &|x| nn_ops::matmul_nt(&x[0], &x[1]), Some(&candle));
}
