//! Finite differences against backpropagation, for an operation of this crate and one of Candle's.
#![allow(clippy::print_stdout)] // its purpose
#![allow(clippy::disallowed_methods)] // Candle's pooling is the bad example

use candle_core::{Device, Result, Tensor};
use nn_ops::gradcheck::gradient_error;

fn main() -> Result<()> {
    let ramp: Vec<f64> = (0..48).map(|i| f64::from(i * 29 % 48) / 24.0 - 1.0).collect();
    let x = [Tensor::from_vec(ramp, (2, 1, 6, 4), &Device::Cpu)?];
    let ours = gradient_error(&x, |t| nn_ops::max_pool2d(&t[0], 2, 2, 0))?;
    let candles = gradient_error(&x, |t| t[0].max_pool2d(2))?;
    println!("max-pool 2x2, largest gradient error: here {ours:.0e}, Candle {candles:.2}");
    assert!(ours < 1e-8 && candles > 0.1);
    Ok(())
}
