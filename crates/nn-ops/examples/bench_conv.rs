//! Forward, dx, dw of 3x3 convolutions.
use candle_core::{Device, Result, Tensor, Var};
use nn_ops::{Conv2dConfig, conv2d};
use std::time::Instant;

fn main() -> Result<()> {
    for (b, ci, co, s) in [
        (1, 1536, 768, 30),
        (1, 768, 768, 30),
        (1, 1024, 768, 60),
        (1, 768, 768, 60),
        (1, 896, 768, 120),
        (1, 768, 768, 120),
        (1, 64, 128, 120),
        (1, 128, 256, 60),
        (8, 64, 64, 24),
    ] {
        let var = |shape: &[usize]| {
            let n: usize = shape.iter().product();
            let v: Vec<f32> = (0..n).map(|i| (i * 7919 % 4001) as f32 / 1000.0 - 2.0).collect();
            Tensor::from_vec(v, shape, &Device::Cpu)
        };
        let (x, w) = (var(&[b, ci, s, s])?, var(&[co, ci, 3, 3])?);
        let cfg = Conv2dConfig::new(1, 1);
        let best = |f: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
            let mut t = f64::MAX;
            for _ in 0..4 {
                let s = Instant::now();
                f()?;
                t = t.min(s.elapsed().as_secs_f64());
            }
            Ok(t * 1e3)
        };
        let f = best(&mut || conv2d(&x, &w, None, cfg).map(|_| ()))?;
        let (vx, vw) = (Var::from_tensor(&x)?, Var::from_tensor(&w)?);
        let y = conv2d(&vx, &w, None, cfg)?;
        let dx = best(&mut || y.backward().map(|_| ()))?;
        let y = conv2d(&x, &vw, None, cfg)?;
        let dw = best(&mut || y.backward().map(|_| ()))?;
        let gf = 18.0 * (b * ci * co * s * s) as f64 / 1e6;
        println!(
            "{b} {ci} {co} {s}: forward {f:.1} ms ({:.0} GF/s direct) dx {dx:.1} dw {dw:.1}",
            gf / f
        );
    }
    Ok(())
}
