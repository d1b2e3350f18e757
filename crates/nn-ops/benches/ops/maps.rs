//! Maps and sequences: resizing, pooling, turning, window sums.

use candle_core::Tensor;
use criterion::Criterion;
use nn_ops::Align;

use crate::harness::Case;

pub(crate) fn maps(c: &mut Criterion) {
    let case = |name, shapes| Case { name, shapes, products: None };
    let resize = |x: &[Tensor]| nn_ops::resize_bilinear(&x[0], (60, 60), Align::Corners);
    case("resize_bilinear 768 30 to 60", &[&[1, 768, 30, 30]]).run(c, &resize);
    let mask = |x: &[Tensor]| nn_ops::resize_bilinear(&x[0], (480, 480), Align::Corners);
    case("resize_bilinear 2 120 to 480", &[&[1, 2, 120, 120]]).run(c, &mask);
    let beside = |x: &[Tensor]| nn_ops::resize_beside(&x[0], &x[1], Align::Corners);
    case("resize_beside 768 30, 256 60", &[&[1, 768, 30, 30], &[1, 256, 60, 60]]).run(c, &beside);
    let table = |x: &[Tensor]| nn_ops::resize_bias_table(&x[0], 23);
    case("resize_bias_table 13 to 23", &[&[169, 16]]).forward(c, &table);

    let pool = |x: &[Tensor]| nn_ops::max_pool2d(&x[0], 3, 2, 1);
    case("max_pool2d 3/2 64 240x240", &[&[1, 64, 240, 240]]).run(c, &pool);
    case("global_avg_pool 2048 15x15", &[&[1, 2048, 15, 15]]).beside(
        c,
        &|x| nn_ops::global_avg_pool(&x[0]),
        Some(&|x| x[0].mean((2, 3))),
    );

    let candle = |x: &[Tensor]| x[0].transpose(1, 2)?.contiguous();
    case("turn 14400x128", &[&[1, 14_400, 128]]).beside(c, &|x| nn_ops::turn(&x[0]), Some(&candle));
    let windows = |x: &[Tensor]| nn_ops::text_windows(&x[0], 3);
    case("text_windows 4x20x768 by 3", &[&[4, 20, 768]]).run(c, &windows);
    let sums = |x: &[Tensor]| nn_ops::box_sum2d(&x[0], (120, 120), 5);
    case("box_sum2d 120x120x128 by 5", &[&[1, 14_400, 128]]).run(c, &sums);
    case("run_sum 4x20x768 by 3", &[&[4, 20, 768]]).run(c, &|x| nn_ops::run_sum(&x[0], 3));

    let split = |x: &[Tensor]| nn_ops::merge_heads(&nn_ops::split_heads(&x[0], 8)?);
    case("split_heads, merge_heads 900x512", &[&[1, 900, 512]]).run(c, &split);
}
