//! The upstream watch: one test for each defect of Candle 0.11.1 that this crate works around. A failure here is good
//! news: that operation may be dropped in favour of Candle's.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the defects themselves are the subject

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use nn_ops::gradcheck::gradient_error;

/// Fails when `defect` is gone.
fn still(defect: bool, healed: &str, ours: &str) {
    assert!(defect, "Candle healed {healed}: reconsider nn_ops::{ours}");
}

/// Uneven values in (-1, 1).
fn values(shape: &[usize], seed: usize) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let v = (0..n).map(|i| (((i + 7) * (i + 3 * seed + 5) * 37 % 211) as f64) / 105.5 - 1.0);
    Tensor::from_vec(v.collect::<Vec<_>>(), shape, &Device::Cpu)
}

fn differs(a: &Tensor, b: &Tensor) -> Result<bool> {
    let d = (a - b)?.abs()?.to_dtype(DType::F64)?.max_all()?.to_scalar::<f64>()?;
    Ok(d.is_nan() || d > 1e-3)
}

/// The gradients are wrong (or absent, or an error) by finite differences.
fn wrong(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> bool {
    f(inputs).expect("the value alone can be computed");
    gradient_error(inputs, f).map_or(true, |e| e > 1e-2)
}

#[test]
fn layer_norm_drops_the_gradient() -> Result<()> {
    let f32 = DType::F32;
    let x = Var::from_tensor(&values(&[2, 3, 4], 1)?.to_dtype(f32)?)?;
    let (w, b) = (Tensor::ones(4, f32, &Device::Cpu)?, Tensor::zeros(4, f32, &Device::Cpu)?);
    let y = candle_nn::LayerNorm::new(w, b, 1e-5).forward(&x)?;
    still(y.sqr()?.sum_all()?.backward()?.get(&x).is_none(), "LayerNorm", "layer_norm");
    Ok(())
}

#[test]
fn layer_norm_computes_the_variance_in_one_pass() -> Result<()> {
    let f32 = DType::F32;
    let x = ((values(&[4, 768], 1)? * 2.0)? + 1000.0)?.to_dtype(f32)?;
    let (w, b) = (Tensor::ones(768, f32, &Device::Cpu)?, Tensor::zeros(768, f32, &Device::Cpu)?);
    let theirs = candle_nn::ops::layer_norm(&x, &w, &b, 1e-5)?;
    let ours = nn_ops::layer_norm(&x, &w, &b, 1e-5)?;
    still(differs(&theirs, &ours)?, "the variance of layer_norm", "layer_norm");
    Ok(())
}

#[test]
fn softmax_last_dim_drops_the_gradient() -> Result<()> {
    let x = Var::from_tensor(&values(&[2, 3], 1)?)?;
    let y = candle_nn::ops::softmax_last_dim(&x)?;
    still(y.sqr()?.sum_all()?.backward()?.get(&x).is_none(), "softmax_last_dim", "softmax");
    Ok(())
}

#[test]
fn linear_is_wrong_on_a_transposed_batch() -> Result<()> {
    let x = values(&[2, 5, 4], 1)?.transpose(1, 2)?;
    let w = values(&[3, 5], 2)?;
    let theirs = candle_nn::Linear::new(w.clone(), None).forward(&x);
    let right = nn_ops::linear(&x, &w, None)?;
    let defect = theirs.map_or(Ok(true), |t| differs(&t, &right))?;
    still(defect, "Linear on a transposed batch", "linear");
    Ok(())
}

#[test]
fn matmul_refuses_permuted_views() -> Result<()> {
    let q = values(&[2, 4, 3, 5], 1)?.transpose(1, 2)?;
    let defect = match q.matmul(&q.transpose(2, 3)?) {
        Ok(y) => differs(&y, &nn_ops::matmul_nt(&q, &q)?)?,
        Err(_) => true,
    };
    still(defect, "matmul of permuted rank-4 views", "matmul");
    Ok(())
}

#[test]
fn conv1d_has_wrong_gradients() -> Result<()> {
    let inputs = [values(&[2, 3, 5], 1)?, values(&[4, 3, 1], 2)?];
    let defect = wrong(&inputs, |t| t[0].conv1d(&t[1], 0, 1, 1, 1));
    still(defect, "the gradient of conv1d", "conv1x1");
    Ok(())
}

#[test]
fn conv2d_backward_refuses_a_stride_remainder() -> Result<()> {
    for (x, k, stride, padding) in
        [([2, 2, 5, 6], 1, 2, 0), ([2, 2, 6, 7], 3, 2, 1), ([2, 2, 9, 10], 4, 4, 0)]
    {
        let inputs = [values(&x, 1)?, values(&[3, 2, k, k], 2)?];
        let defect = wrong(&inputs, |t| t[0].conv2d(&t[1], padding, stride, 1, 1));
        still(defect, &format!("the backward of conv2d {k}/{stride} on {x:?}"), "conv2d");
    }
    Ok(())
}

#[test]
fn conv2d_lacks_bf16_on_cpu() -> Result<()> {
    let (x, w) = (
        values(&[1, 1, 3, 3], 1)?.to_dtype(DType::BF16)?,
        values(&[1, 1, 3, 3], 1)?.to_dtype(DType::BF16)?,
    );
    still(x.conv2d(&w, 0, 1, 1, 1).is_err(), "bf16 conv2d on CPU", "conv2d");
    Ok(())
}

#[test]
fn max_pool_gives_a_share_of_the_gradient_or_none() -> Result<()> {
    let x = [values(&[2, 2, 6, 4], 1)?];
    still(wrong(&x, |t| t[0].max_pool2d(2)), "the gradient of max_pool2d 2x2", "max_pool2d");
    let defect = wrong(&x, |t| t[0].max_pool2d_with_stride(3, 2));
    still(defect, "the backward of max_pool2d 3x3/2", "max_pool2d");
    Ok(())
}

#[test]
fn avg_pool_is_wrong_on_odd_sizes() -> Result<()> {
    let x = [values(&[2, 1, 5, 5], 1)?];
    let defect = wrong(&x, |t| t[0].avg_pool2d(2));
    still(defect, "the gradient of avg_pool2d on odd sizes", "global_avg_pool");
    Ok(())
}

#[test]
fn bilinear_upsampling_has_no_backward() -> Result<()> {
    let x = [values(&[2, 1, 3, 3], 1)?];
    let defect = wrong(&x, |t| t[0].upsample_bilinear2d(5, 5, true));
    still(defect, "the backward of upsample_bilinear2d", "resize_bilinear");
    Ok(())
}

#[test]
fn bilinear_upsampling_to_the_same_size_ignores_the_layout() -> Result<()> {
    let x = values(&[2, 2, 3, 3], 1)?.to_dtype(DType::F32)?.transpose(2, 3)?;
    let defect = differs(&x.upsample_bilinear2d(3, 3, false)?, &x)?;
    still(defect, "upsample_bilinear2d to the same size", "resize_bilinear");
    Ok(())
}

#[test]
fn nearest_upsampling_overwrites_the_gradient_of_another_branch() -> Result<()> {
    let x = [values(&[2, 1, 3, 3], 1)?];
    let both = |t: &[Tensor]| {
        let up = t[0].upsample_nearest2d(6, 6)?.flatten_from(1)?;
        Tensor::cat(&[up, t[0].flatten_from(1)?], 1)
    };
    still(wrong(&x, both), "upsample_nearest2d in two branches", "resize_bilinear");
    Ok(())
}

#[test]
fn unfold_has_a_wrong_gradient() -> Result<()> {
    let x = [values(&[2, 5], 1)?];
    still(wrong(&x, |t| t[0].unfold(1, 3, 1)), "the gradient of unfold", "text_windows");
    Ok(())
}

#[test]
fn relu_has_derivative_one_at_zero() -> Result<()> {
    let x = Var::zeros(1, DType::F32, &Device::Cpu)?;
    let g = x.relu()?.backward()?;
    let g = g.get(&x).unwrap().to_vec1::<f32>()?;
    still(g == [1.0], "relu'(0)", "relu");
    Ok(())
}

#[test]
fn gelu_has_a_rounded_gradient() -> Result<()> {
    let x = Var::from_tensor(&values(&[50], 1)?)?;
    let theirs = x.gelu_erf()?.backward()?;
    let ours = nn_ops::gelu(&x)?.backward()?;
    let d = (theirs.get(&x).unwrap() - ours.get(&x).unwrap())?.abs()?.max(0)?.to_scalar::<f64>()?;
    still(d > 1e-9, "the constants of gelu_erf's gradient", "gelu");
    Ok(())
}

#[test]
fn the_cpu_generator_cannot_be_seeded() {
    still(Device::Cpu.set_seed(1).is_err(), "CPU seeds", "Noise and nn_ops::ParamStore");
}

#[test]
fn running_statistics_are_trainable_variables() -> Result<()> {
    let map = candle_nn::VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    candle_nn::batch_norm(3, 1e-5, vb)?;
    still(map.all_vars().len() == 4, "buffers of VarMap", "ParamStore");
    Ok(())
}

#[test]
fn the_default_first_values_are_not_pytorchs() -> Result<()> {
    let map = candle_nn::VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let w = candle_nn::linear(256, 256, vb)?.weight().clone();
    let std = w.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt() * 16.0;
    still(std > 1.0, "the first values of Linear (PyTorch: 0.577)", "default_init");
    Ok(())
}
