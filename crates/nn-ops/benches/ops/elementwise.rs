//! Activations, norms, dropout, loss: throughput counts elements of the input.

use candle_core::{DType, Device, Result, Tensor};
use criterion::Criterion;
use nn_ops::{Mode, Noise};

use crate::harness::{Case, var};

fn candle_norm(xs: &Tensor, over: usize) -> Result<Tensor> {
    let centred = xs.broadcast_sub(&xs.mean_keepdim(over)?)?;
    let variance = centred.sqr()?.mean_keepdim(over)?;
    centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)
}

pub(crate) fn elementwise(c: &mut Criterion) {
    let noise = Noise::new(1, 1);
    let train = Mode::Train(&noise);
    let shapes: [&[usize]; 1] = [&[14_400, 512]];
    let case = |name| Case { name, shapes: &shapes, products: None };
    case("gelu 14400x512").beside(c, &|x| nn_ops::gelu(&x[0]), Some(&|x| x[0].gelu_erf()));
    case("relu 14400x512").beside(c, &|x| nn_ops::relu(&x[0]), Some(&|x| x[0].relu()));
    case("dropout 14400x512").run(c, &|x| nn_ops::dropout(&x[0], 0.1, train));

    let shapes: [&[usize]; 1] = [&[8, 3600, 128]];
    let case = Case { name: "drop_path 8x3600x128", shapes: &shapes, products: None };
    case.run(c, &|x| nn_ops::drop_path(&x[0], 0.2, train));
    let shapes: [&[usize]; 2] = [&[8, 3600, 128], &[8, 3600, 128]];
    let case = Case { name: "add_drop_path 8x3600x128", shapes: &shapes, products: None };
    case.run(c, &|x| nn_ops::add_drop_path(&x[0], &x[1], 0.2, train));

    for (name, n, d) in [("layer_norm 14400x128", 14_400, 128), ("layer_norm 20x768", 20, 768)] {
        let shapes: [&[usize]; 3] = [&[1, n, d], &[d], &[d]];
        let case = Case { name, shapes: &shapes, products: None };
        let f = |x: &[Tensor]| nn_ops::layer_norm(&x[0], &x[1], &x[2], 1e-5);
        let candle =
            |x: &[Tensor]| candle_norm(&x[0], 2)?.broadcast_mul(&x[1])?.broadcast_add(&x[2]);
        case.beside(c, &f, Some(&candle));
    }
    let shapes: [&[usize]; 1] = [&[1, 14_400, 128]];
    let case = Case { name: "instance_norm 14400x128", shapes: &shapes, products: None };
    let f = |x: &[Tensor]| nn_ops::instance_norm(&x[0], 1e-5);
    case.beside(c, &f, Some(&|x| candle_norm(&x[0], 1)));

    let store = nn_ops::ParamStore::new(1);
    let norm = nn_ops::batch_norm2d(768, store.builder(DType::F32, &Device::Cpu)).unwrap();
    let shapes: [&[usize]; 1] = [&[1, 768, 60, 60]];
    let case = |name| Case { name, shapes: &shapes, products: None };
    case("batch_norm train 768 60x60").run(c, &|x| norm.forward_t(&x[0], train));
    case("batch_norm eval 768 60x60").run(c, &|x| norm.forward_t(&x[0], Mode::Eval));

    let masks = var(&[1, 480, 480]).as_detached_tensor().ge(0f32).unwrap();
    let shapes: [&[usize]; 1] = [&[1, 2, 480, 480]];
    let case = Case { name: "pixel_cross_entropy 480x480", shapes: &shapes, products: None };
    let candle = |x: &[Tensor]| {
        let rows = x[0].flatten_from(2)?.squeeze(0)?.t()?; // without weights
        candle_nn::loss::cross_entropy(&rows, &masks.flatten_all()?.to_dtype(DType::U32)?)
    };
    let f = |x: &[Tensor]| nn_ops::pixel_cross_entropy(&x[0], &masks, [0.9, 1.1]);
    case.beside(c, &f, Some(&candle));

    let ids =
        Tensor::from_vec((0..80u32).map(|i| i * 311 % 30_522).collect(), (4, 20), &Device::Cpu);
    let ids = ids.unwrap();
    let shapes: [&[usize]; 1] = [&[30_522, 768]];
    let case = Case { name: "embedding 4x20 of 30522x768", shapes: &shapes, products: None };
    let candle = |x: &[Tensor]| x[0].index_select(&ids.flatten_all()?, 0)?.reshape((4, 20, 768));
    case.beside(c, &|x| nn_ops::embedding(&x[0], &ids, Some(0)), Some(&|x| candle(x)));
}
