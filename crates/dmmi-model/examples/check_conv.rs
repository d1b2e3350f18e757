#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods)]
use candle_core::{Device, Result, Tensor, Var};
use nn_ops::{Conv2dConfig, conv2d};
fn err(a: &Tensor, b: &Tensor) -> Result<(f32, f32)> {
    let d = (a - b)?;
    Ok((
        (d.abs()?.max_all()?.to_scalar::<f32>()? / b.abs()?.max_all()?.to_scalar::<f32>()?),
        (d.sqr()?.mean_all()?.to_scalar::<f32>()? / b.sqr()?.mean_all()?.to_scalar::<f32>()?)
            .sqrt(),
    ))
}
fn main() -> Result<()> {
    for (b, ci, co, h, w, p) in [
        (1, 64, 48, 20, 24, 1),
        (2, 35, 41, 17, 22, 1),
        (1, 300, 33, 21, 19, 1),
        (3, 32, 100, 41, 38, 1),
        (5, 33, 32, 12, 12, 1),
        (2, 40, 40, 13, 30, 0),
        (2, 40, 40, 13, 30, 2),
        (1, 896, 96, 40, 40, 1),
    ] {
        let v = |shape: &[usize], s: u64| -> Result<Var> {
            let n: usize = shape.iter().product();
            let mut x = s;
            let v: Vec<f32> = (0..n)
                .map(|_| {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    ((x >> 40) as f32) / 8388608.0 - 1.0
                })
                .collect();
            Var::from_tensor(&Tensor::from_vec(v, shape, &Device::Cpu)?)
        };
        let (x, k) = (v(&[b, ci, h, w], 1)?, v(&[co, ci, 3, 3], 2)?);
        let y = conv2d(&x, &k, None, Conv2dConfig::new(1, p))?;
        let z = x.conv2d(&k, p, 1, 1, 1)?;
        let g = v(y.dims(), 3)?;
        let (gy, gz) = (
            (&y * g.as_tensor())?.sum_all()?.backward()?,
            (&z * g.as_tensor())?.sum_all()?.backward()?,
        );
        println!(
            "{b} {ci} {co} {h} {w} {p}: y {:?} dx {:?} dw {:?}",
            err(&y, &z)?,
            err(gy.get(&x).unwrap(), gz.get(&x).unwrap())?,
            err(gy.get(&k).unwrap(), gz.get(&k).unwrap())?
        );
    }
    Ok(())
}
