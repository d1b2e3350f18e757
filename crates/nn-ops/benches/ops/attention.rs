//! Attention of windows with bias and mask, of cells over cells, of words; its softmax, bias and rows.

use candle_core::{D, Device, Result, Tensor};
use criterion::Criterion;
use nn_ops::{Mode, Noise, Projected, RowIndex, RowMap, ScoreTerms};

use crate::harness::{Case, var};

/// From Candle's operations: all scores in memory.
fn composed(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, terms: ScoreTerms) -> Result<Tensor> {
    let (g, n, c) = q.dims3()?;
    let split = |t: &Tensor| t.reshape((g, (), heads, c / heads))?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let mut scores = (q.matmul(&k.t()?.contiguous()?)? / ((c / heads) as f64).sqrt())?;
    if let Some(bias) = terms.bias {
        scores = scores.broadcast_add(bias)?;
    }
    if let Some(mask) = terms.mask {
        scores = scores.broadcast_add(&mask.unsqueeze(1)?)?;
    }
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
    weights.matmul(&v)?.transpose(1, 2)?.reshape((g, n, c))
}

pub(crate) fn attention(c: &mut Criterion) {
    // Swin: windows, heads.
    for (name, g, heads) in [
        ("attend 100 windows 4 heads (Swin stage 1)", 100, 4),
        ("attend 9 windows 16 heads (Swin stage 3)", 9, 16),
    ] {
        let width = heads * 32;
        let mask = var(&[g, 144, 144]).as_detached_tensor();
        let shapes: [&[usize]; 2] = [&[g, 144, 3 * width], &[heads, 144, 144]];
        let case = Case { name, shapes: &shapes, products: Some(2 * g * 144 * 144 * width) };
        let f = |x: &[Tensor]| {
            let terms = ScoreTerms { bias: Some(&x[1]), mask: Some(&mask) };
            nn_ops::attend_projected(Projected::One(&x[0]), heads, terms, 0.0, Mode::Eval)
        };
        let candle = |x: &[Tensor]| {
            let terms = ScoreTerms { bias: Some(&x[1]), mask: Some(&mask) };
            let part = |i: usize| x[0].narrow(2, i * width, width);
            composed(&part(0)?, &part(1)?, &part(2)?, heads, terms)
        };
        case.beside(c, &f, Some(&candle));
    }
    // The text decoder: cells over cells, words over cells.
    for (name, n, s, width, heads) in [
        ("attend 900 over 900 8 heads of 64", 900, 900, 512, 8),
        ("attend 20 over 900 8 heads of 96", 20, 900, 768, 8),
        ("attend 20 over 20 12 heads of 64 (BERT)", 20, 20, 768, 12),
    ] {
        let shapes: [&[usize]; 3] = [&[1, n, width], &[1, s, width], &[1, s, width]];
        let case = Case { name, shapes: &shapes, products: Some(2 * n * s * width) };
        let none = ScoreTerms::default();
        let f = |x: &[Tensor]| nn_ops::attend(&x[0], &x[1], &x[2], heads, none);
        let candle = |x: &[Tensor]| composed(&x[0], &x[1], &x[2], heads, none);
        case.beside(c, &f, Some(&candle));
    }
    // In training attention weights are dropped.
    let noise = Noise::new(1, 1);
    let shapes: [&[usize]; 1] = [&[1, 20, 3 * 768]];
    let case =
        Case { name: "attend with dropout 20 over 20 12 heads", shapes: &shapes, products: None };
    case.run(c, &|x| {
        let (terms, train) = (ScoreTerms::default(), Mode::Train(&noise));
        nn_ops::attend_projected(Projected::One(&x[0]), 12, terms, 0.1, train)
    });
    parts(c);
}

fn parts(c: &mut Criterion) {
    let shapes: [&[usize]; 2] = [&[9, 16, 144, 144], &[16, 144, 144]];
    let case = Case { name: "attention_softmax 9x16x144x144", shapes: &shapes, products: None };
    let f = |x: &[Tensor]| {
        nn_ops::attention_softmax(&x[0], 0.2, ScoreTerms { bias: Some(&x[1]), mask: None })
    };
    let candle =
        |x: &[Tensor]| candle_nn::ops::softmax(&(&x[0] * 0.2)?.broadcast_add(&x[1])?, D::Minus1);
    case.beside(c, &f, Some(&candle));

    let shapes: [&[usize]; 1] = [&[20, 14_400]];
    let case = Case { name: "softmax 20x14400", shapes: &shapes, products: None };
    let candle = |x: &[Tensor]| candle_nn::ops::softmax(&x[0], D::Minus1);
    case.beside(c, &|x| nn_ops::softmax(&x[0]), Some(&candle));

    let places = (0..144u32 * 144).map(|i| i * 7 % 529).collect();
    let index = RowIndex::new(places, 529, &Device::Cpu).unwrap();
    let shapes: [&[usize]; 1] = [&[529, 16]];
    let case = Case { name: "relative_bias 529x16 to 16x20736", shapes: &shapes, products: None };
    case.run(c, &|x| nn_ops::relative_bias(&x[0], &index));

    // Shifted windows of 12 over 120 x 120 cells.
    let cells = (0..14_400).map(|i: usize| {
        let (window, at) = (i / 144, i % 144);
        let y = (window / 10 * 12 + at / 12 + 6) % 120;
        let x = (window % 10 * 12 + at % 12 + 6) % 120;
        Some(y * 120 + x)
    });
    let map = RowMap::new(cells, 14_400).unwrap().in_groups_of(144).unwrap();
    let shapes: [&[usize]; 1] = [&[1, 14_400, 384]];
    let case = Case { name: "take_rows 14400x384 (windows)", shapes: &shapes, products: None };
    case.run(c, &|x| nn_ops::take_rows(&x[0], &map, None));
}
