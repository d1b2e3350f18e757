//! Forward alone and forward + backward of the main operations, at the sizes of the quickstart (batch 16, small maps) and
//! of Swin-B at 480 pixels (batch 1). `cargo bench -p nn-ops -- gelu` runs one of them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use nn_ops::{Align, Conv2dConfig, Mode, Noise, ScoreTerms};

fn var(shape: &[usize]) -> Var {
    let n: usize = shape.iter().product();
    let v: Vec<f32> = (0..n).map(|i| (i * 7919 % 4001) as f32 / 1000.0 - 2.0).collect();
    Var::from_tensor(&Tensor::from_vec(v, shape, &Device::Cpu).unwrap()).unwrap()
}

fn case(
    c: &mut Criterion,
    name: &str,
    shapes: &[&[usize]],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let vars: Vec<Var> = shapes.iter().map(|s| var(s)).collect();
    let frozen: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let mut group = c.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1));
    group.bench_function("forward", |b| b.iter(|| f(&frozen).unwrap()));
    group.bench_function("both", |b| b.iter(|| f(&tracked).unwrap().backward().unwrap()));
}

fn ops(c: &mut Criterion) {
    let linear = |x: &[Tensor]| nn_ops::linear(&x[0], &x[1], Some(&x[2]));
    case(c, "linear 16x576x64 to 256", &[&[16, 576, 64], &[256, 64], &[256]], linear);
    case(c, "linear 3600x512 to 2048", &[&[1, 3600, 512], &[2048, 512], &[2048]], linear);
    let product = |x: &[Tensor]| nn_ops::matmul_nt(&x[0], &x[1]);
    case(c, "scores 64x4x36x16", &[&[64, 4, 36, 16], &[64, 4, 36, 16]], product);
    case(c, "scores 25x16x144x32", &[&[25, 16, 144, 32], &[25, 16, 144, 32]], product);
    let softmax = |x: &[Tensor]| {
        let terms = ScoreTerms { bias: Some(&x[1]), mask: None };
        nn_ops::attention_softmax(&x[0], 0.2, terms)
    };
    case(c, "softmax 64x4x36x36", &[&[64, 4, 36, 36], &[4, 36, 36]], softmax);
    case(c, "softmax 25x16x144x144", &[&[25, 16, 144, 144], &[16, 144, 144]], softmax);
    for (name, b, ch, size, k, stride, padding) in [
        ("conv3x3 16x64 24x24", 16, 64, 24, 3, 1, 1),
        ("conv3x3 512 30x30", 1, 512, 30, 3, 1, 1),
        ("conv7x7/2 3 to 64 240x240", 1, 3, 240, 7, 2, 3),
        ("conv1x1 256 60x60", 1, 256, 60, 1, 1, 0),
    ] {
        let out = if ch == 3 { 64 } else { ch };
        let shapes: [&[usize]; 3] = [&[b, ch, size, size], &[out, ch, k, k], &[out]];
        let cfg = Conv2dConfig::new(stride, padding);
        case(c, name, &shapes, |x| nn_ops::conv2d(&x[0], &x[1], Some(&x[2]), cfg));
    }
    let layer = |x: &[Tensor]| nn_ops::layer_norm(&x[0], &x[1], &x[2], 1e-5);
    case(c, "layer_norm 16x576x64", &[&[16, 576, 64], &[64], &[64]], layer);
    case(c, "layer_norm 14400x128", &[&[1, 14400, 128], &[128], &[128]], layer);
    let instance = |x: &[Tensor]| nn_ops::instance_norm(&x[0], 1e-5);
    case(c, "instance_norm 16x576x64", &[&[16, 576, 64]], instance);
    case(c, "instance_norm 14400x128", &[&[1, 14400, 128]], instance);
    case(c, "gelu 16x576x256", &[&[16, 576, 256]], |x| nn_ops::gelu(&x[0]));
    case(c, "gelu 14400x512", &[&[14400, 512]], |x| nn_ops::gelu(&x[0]));
    case(c, "relu 14400x512", &[&[14400, 512]], |x| nn_ops::relu(&x[0]));
    let noise = Noise::new(1, 1);
    case(c, "dropout 16x576x64", &[&[16, 576, 64]], |x| {
        nn_ops::dropout(&x[0], 0.1, Mode::Train(&noise))
    });
    let resize = |x: &[Tensor]| nn_ops::resize_bilinear(&x[0], (60, 60), Align::Corners);
    case(c, "resize 512 30 to 60", &[&[1, 512, 30, 30]], resize);
    case(c, "max_pool 3x3/2 64 240x240", &[&[1, 64, 240, 240]], |x| {
        nn_ops::max_pool2d(&x[0], 3, 2, 1)
    });
    let vb = nn_ops::ParamStore::new(1);
    let bn = nn_ops::batch_norm2d(512, vb.builder(DType::F32, &Device::Cpu)).unwrap();
    case(c, "batch_norm 512 60x60", &[&[1, 512, 60, 60]], |x| {
        bn.forward_t(&x[0], Mode::Train(&noise))
    });
}

criterion_group!(benches, ops);
criterion_main!(benches);
