//! Linear layers on a CPU with factors rounded to bf16. A choice of the process, so a test binary of its own.

use candle_core::{DType, Device, Result, Tensor};
use nn_ops::{Activation, Linear, feed_forward};

fn values(shape: (usize, usize), step: usize) -> Result<Tensor> {
    let value = |i: usize| ((i * step) % 1013) as f32 / 1013.0 - 0.4;
    Tensor::from_vec((0..shape.0 * shape.1).map(value).collect(), shape, &Device::Cpu)
}

fn rounded(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::BF16)?.to_dtype(DType::F32)
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    (a - b)?.abs()?.max_all()?.to_scalar()
}

#[test]
fn factors_are_rounded_and_sums_are_not() -> Result<()> {
    let (x, w) = (values((100, 200), 7919)?, values((50, 200), 104_729)?);
    let layer = Linear::new(w.clone(), None);
    let exact = layer.forward(&x)?;
    let of_rounded = Linear::new(rounded(&w)?, None).forward(&rounded(&x)?)?;
    assert!(difference(&exact, &of_rounded)? > 1e-4);

    let can = nn_ops::device::set_bf16_products(true);
    let found = layer.forward(&x)?;
    assert!(difference(&found, if can { &of_rounded } else { &exact })? < 1e-5);
    let second = Linear::new(values((30, 50), 31)?, None);
    let middle = feed_forward(&x, &layer, Activation::Relu, &second)?;
    assert_eq!(difference(&middle, &second.forward(&nn_ops::relu(&found)?)?)?, 0.0);

    nn_ops::device::set_bf16_products(false);
    assert_eq!(difference(&layer.forward(&x)?, &exact)?, 0.0);
    Ok(())
}
