//! Every copy of the CPU kernels gives what the others give: element-wise and row-wise kernels the same bits, matrix products
//! the same bits among those that fuse (all but `Level::Baseline` on x86-64).
//!
//! One test: the level is the process's.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use candle_core::{Device, Result, Tensor, Var};
use nn_ops::simd::{self, Level};
use nn_ops::{Align, Conv2dConfig, Mode, ScoreTerms};

/// Odd sizes: every kernel has a rest that fills no register.
fn var(shape: &[usize], step: usize) -> Result<Var> {
    let n: usize = shape.iter().product();
    let v = (0..n).map(|i| (i * step % 4001) as f32 / 1000.0 - 2.0).collect::<Vec<_>>();
    Var::from_tensor(&Tensor::from_vec(v, shape, &Device::Cpu)?)
}

/// Values and gradients of an operation.
fn both(shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Vec<f32>>> {
    let vars = shapes.iter().enumerate().map(|(i, s)| var(s, 7919 + 2 * i));
    let vars = vars.collect::<Result<Vec<_>>>()?;
    let frozen: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let (frozen, y) = (f(&frozen)?, f(&tracked)?);
    let weights = var(y.dims(), 5077)?.as_detached_tensor();
    let grads = (&y * weights)?.sum_all()?.backward()?;
    let mut all = vec![frozen, y];
    all.extend(tracked.iter().filter_map(|t| grads.get(t).cloned()));
    all.iter().map(|t| t.flatten_all()?.to_vec1()).collect()
}

/// Kernels that round alike at every level.
fn alike() -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    all.extend(both(&[&[3, 1357]], |x| nn_ops::relu(&x[0]))?);
    all.extend(both(&[&[3, 1357]], |x| nn_ops::gelu(&x[0]))?);
    all.extend(both(&[&[2, 37, 83], &[83], &[83]], |x| {
        nn_ops::layer_norm(&x[0], &x[1], &x[2], 1e-5)
    })?);
    all.extend(both(&[&[2, 131, 37]], |x| nn_ops::instance_norm(&x[0], 1e-5))?);
    all.extend(both(&[&[2, 3, 19, 71], &[3, 19, 71]], |x| {
        nn_ops::attention_softmax(&x[0], 0.3, ScoreTerms { bias: Some(&x[1]), mask: None })
    })?);
    all.extend(both(&[&[1, 5, 13, 17]], |x| {
        nn_ops::resize_bilinear(&x[0], (31, 23), Align::Corners)
    })?);
    all.extend(both(&[&[1, 5, 13, 17]], |x| nn_ops::max_pool2d(&x[0], 3, 2, 1))?);
    all.extend(both(&[&[2, 7 * 9, 37]], |x| nn_ops::box_sum2d(&x[0], (7, 9), 3))?);
    let store = nn_ops::ParamStore::new(1);
    let vb = store.builder(candle_core::DType::F32, &Device::Cpu);
    let norm = nn_ops::batch_norm2d(11, vb)?;
    all.extend(both(&[&[2, 11, 9, 13]], |x| norm.forward_t(&x[0], Mode::Eval))?);
    Ok(all)
}

/// Kernels of matrix products in panels.
fn products() -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    // Winograd takes 32 channels and 32 tiles or more.
    all.extend(both(&[&[2, 35, 22, 27], &[41, 35, 3, 3], &[41]], |x| {
        nn_ops::conv2d(&x[0], &x[1], Some(&x[2]), Conv2dConfig::new(1, 1))
    })?);
    all.extend(both(&[&[2, 133, 3 * 38], &[2, 71, 3 * 38], &[2, 71, 3 * 38]], |x| {
        nn_ops::attend(&x[0], &x[1], &x[2], 3, ScoreTerms::default())
    })?);
    Ok(all)
}

#[test]
fn all_levels_agree() -> Result<()> {
    println!("best level of this processor: {:?}", simd::best());
    simd::limit(Level::Baseline);
    let (plain, rounded) = (alike()?, products()?);
    let mut fused = None;
    for level in [Level::Avx2, Level::Avx512] {
        simd::limit(level);
        if simd::level() != level {
            println!("not checked: {level:?}");
            continue;
        }
        assert!(alike()? == plain, "{level:?} rounds otherwise than the baseline");
        let found = products()?;
        let fused = fused.get_or_insert_with(|| found.clone());
        assert!(found == *fused, "{level:?} adds otherwise than the level below");
        for (a, b) in found.iter().zip(&rounded) {
            let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
            let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < 1e-5 * largest, "{level:?} is {off} of {largest} from the baseline");
        }
    }
    Ok(())
}
