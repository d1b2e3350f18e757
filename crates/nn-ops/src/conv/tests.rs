//! The convolution on every kernel, stride and padding DMMI-like networks use, and some that nobody uses.

use super::*;
use crate::audit::{audit, several};

fn case(x: &[usize], w: &[usize], large: (usize, usize, usize), cfg: Conv2dConfig) -> Result<()> {
    let bias = [w[0]];
    let small = several(&[x, w, &bias])?;
    let big_x = [large.0, x[1], large.1, large.2];
    let large = several(&[&big_x, w, &bias])?;
    let name = format!("conv2d {x:?} {w:?} {cfg:?}");
    let f = |xs: &[Tensor]| conv2d(&xs[0], &xs[1], Some(&xs[2]), cfg);
    audit(&name, &small, &large, &f, &|xs| composed(&xs[0], &xs[1], Some(&xs[2]), cfg))
}

#[test]
fn kernel_3() -> Result<()> {
    case(&[2, 2, 5, 4], &[3, 2, 3, 3], (2, 33, 41), Conv2dConfig::new(1, 1))?;
    case(&[2, 2, 6, 7], &[2, 2, 3, 3], (5, 34, 47), Conv2dConfig::new(2, 1))
}

#[test]
fn kernel_1() -> Result<()> {
    case(&[2, 3, 3, 4], &[2, 3, 1, 1], (3, 45, 37), Conv2dConfig::new(1, 0))?;
    case(&[2, 2, 5, 6], &[3, 2, 1, 1], (2, 60, 71), Conv2dConfig::new(2, 0))?;
    case(&[2, 2, 2, 3], &[2, 2, 1, 1], (2, 60, 71), Conv2dConfig::new(1, 1))
}

#[test]
fn stems() -> Result<()> {
    case(&[2, 1, 8, 9], &[2, 1, 7, 7], (2, 63, 80), Conv2dConfig::new(2, 3))?;
    case(&[2, 2, 9, 10], &[2, 2, 4, 4], (3, 67, 70), Conv2dConfig::new(4, 0))
}

#[test]
fn rectangular_padding_and_kernels() -> Result<()> {
    let cfg = |stride, padding| Conv2dConfig { stride, padding };
    case(&[2, 2, 4, 3], &[2, 2, 3, 3], (2, 50, 51), cfg(1, (0, 2)))?;
    case(&[2, 2, 3, 5], &[2, 2, 1, 3], (2, 50, 51), cfg(1, (0, 1)))?;
    case(&[2, 2, 3, 5], &[2, 2, 3, 2], (2, 50, 51), cfg(3, (2, 0)))?;
    // Padding wider than the map, stride wider than the kernel.
    case(&[2, 1, 1, 2], &[2, 1, 3, 3], (2, 70, 61), cfg(1, (4, 3)))?;
    case(&[2, 1, 7, 8], &[2, 1, 2, 2], (2, 70, 61), cfg(5, (0, 0)))
}

fn agrees(name: &str, x: &[usize], w: &[usize], cfg: Conv2dConfig) -> Result<()> {
    let xs = several(&[x, w, &[w[0]]])?;
    let f = |x: &[Tensor]| conv2d(&x[0], &x[1], Some(&x[2]), cfg);
    let oracle = |x: &[Tensor]| composed(&x[0], &x[1], Some(&x[2]), cfg);
    crate::audit::oracle(name, &xs, &f, &oracle)?;
    crate::audit::threads(name, &xs, &f)
}

/// Unfolded tiles: rows of one image, several images, images of which some tiles hold fewer.
#[test]
fn tiles_of_rows_and_of_images() -> Result<()> {
    let cfg = |stride, padding| Conv2dConfig { stride, padding };
    // 150 channels x 9 x 40 columns x 40 rows is more than one tile of 2^20 elements.
    agrees("rows", &[2, 150, 81, 80], &[3, 150, 3, 3], cfg(2, (1, 1)))?;
    agrees("images", &[17, 150, 29, 31], &[3, 150, 3, 3], cfg(2, (1, 1)))?;
    agrees("small images", &[16, 40, 4, 4], &[20, 40, 2, 2], cfg(2, (0, 0)))?;
    agrees("wide padding", &[5, 3, 4, 3], &[20, 3, 3, 3], cfg(1, (4, 3)))
}

/// Panels filled from the maps: rows of every length, sums of several runs, groups of images, outputs that fill no panel.
#[test]
fn panels_of_small_maps() -> Result<()> {
    let cfg = |padding| Conv2dConfig { stride: 1, padding };
    for (h, w) in [(2, 2), (4, 4), (3, 8), (5, 16), (5, 7), (1, 1), (6, 12)] {
        agrees("3x3", &[16, 40, h, w], &[23, 40, 3, 3], cfg((1, 1)))?;
        agrees("5x5", &[5, 7, h, w], &[50, 7, 5, 5], cfg((2, 2)))?;
        agrees("1x1", &[3, 33, h, w], &[33, 33, 1, 1], cfg((0, 0)))?;
    }
    agrees("2x3", &[3, 20, 9, 11], &[8, 20, 2, 3], cfg((0, 2)))?;
    // 2^21 values of the result are a group.
    agrees("groups", &[11, 3, 128, 128], &[25, 3, 2, 2], cfg((1, 0)))
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    let xs = several(&[&[2, 2, 3, 3], &[2, 3, 1, 1], &[3], &[2, 2, 5, 5], &[2, 2, 1, 1]])?;
    let cfg = Conv2dConfig::new(1, 0);
    assert!(conv2d(&xs[0], &xs[1], None, cfg).is_err(), "channels");
    assert!(conv2d(&xs[0], &xs[4], Some(&xs[2]), cfg).is_err(), "bias");
    assert!(conv2d(&xs[0], &xs[3], None, cfg).is_err(), "kernel larger than the map");
    assert!(conv2d(&xs[0], &xs[4], None, Conv2dConfig::new(0, 0)).is_err(), "stride");
    let empty = Tensor::zeros((2, 2, 0, 3), xs[0].dtype(), xs[0].device())?;
    assert!(conv2d(&empty, &xs[4], None, Conv2dConfig::new(1, 1)).is_err(), "empty");
    Ok(())
}

/// Sizes that Winograd takes: odd maps, paddings 0 to 2, channels that fill no panel, several blocks, several depths.
#[test]
fn winograd_agrees_with_the_oracle() -> Result<()> {
    for (x, c_out, padding) in [
        ([2, 35, 17, 22], 41, (1, 1)),
        ([1, 300, 27, 25], 33, (0, 2)),
        ([3, 32, 41, 38], 100, (2, 0)),
        ([5, 33, 12, 12], 32, (1, 1)),
    ] {
        let w = [c_out, x[1], 3, 3];
        let xs = several(&[&x, &w, &[c_out]])?;
        let cfg = Conv2dConfig { stride: 1, padding };
        assert!(winograd::fits(&Geometry::of(&xs[0], &xs[1], cfg)?));
        let f = |x: &[Tensor]| conv2d(&x[0], &x[1], Some(&x[2]), cfg);
        crate::audit::oracle("winograd", &xs, &f, &|x| composed(&x[0], &x[1], Some(&x[2]), cfg))?;
        crate::audit::threads("winograd", &xs, &f)?;
    }
    Ok(())
}

/// The rounding of F(4x4, 3x3) over as many channels as the decoder has: value, input gradient and weight gradient against
/// double precision, relative to the root of the mean square. A direct sum in f32 gives 2e-7 to 1e-6.
#[test]
fn winograd_rounds_little() -> Result<()> {
    let x = several(&[&[1, 896, 40, 40], &[64, 896, 3, 3]])?;
    let cfg = Conv2dConfig::new(1, 1);
    let all = |dtype: DType| -> Result<Vec<Tensor>> {
        let vars = x.iter().map(|t| candle_core::Var::from_tensor(&t.to_dtype(dtype)?));
        let vars = vars.collect::<Result<Vec<_>>>()?;
        let y = conv2d(&vars[0], &vars[1], None, cfg)?;
        let grads = y.mul(&crate::audit::values(y.dims(), 9)?.to_dtype(dtype)?)?.backward()?;
        let grad = |v: &candle_core::Var| match grads.get(v) {
            Some(g) => g.to_dtype(DType::F64),
            None => bail!("no gradient"),
        };
        Ok(vec![y.to_dtype(DType::F64)?, grad(&vars[0])?, grad(&vars[1])?])
    };
    let rms = |t: &Tensor| t.sqr()?.mean_all()?.sqrt()?.to_scalar::<f64>();
    for (found, want) in all(DType::F32)?.iter().zip(all(DType::F64)?) {
        let error = (found - &want)?;
        let most = error.abs()?.max_all()?.to_scalar::<f64>()?;
        let (error, size) = (rms(&error)?, rms(&want)?);
        assert!(
            error < 3e-6 * size && most < 3e-5 * size,
            "rms {error:e}, most {most:e} of {size:e}"
        );
    }
    Ok(())
}
