//! A two-layer segmenter learns to find bright cells: parameters by name, noise by step, AdamW.
#![allow(clippy::print_stdout)] // its purpose

use candle_core::{DType, Device, Result, Tensor};
use nn_ops::{
    AdamW, AdamWConfig, Align, Conv2dConfig, Gradients, Mode, Noise, ParamGroup, ParamStore, Tape,
};

fn main() -> Result<()> {
    let store = ParamStore::new(7); // the first values depend on this seed and each parameter's name
    let vb = store.builder(DType::F32, &Device::Cpu);
    let narrow = nn_ops::conv2d_layer(1, 8, 3, Conv2dConfig::new(2, 1), vb.pp("narrow"))?;
    let wide = nn_ops::conv2d_layer(8, 1, 3, Conv2dConfig::new(1, 1), vb.pp("wide"))?;
    let norm = nn_ops::batch_norm2d(8, vb.pp("norm"))?;
    let forward = |xs: &Tensor, mode: Mode| -> Result<Tensor> {
        let xs = nn_ops::relu(&norm.forward_t(&narrow.forward(xs)?, mode)?)?; // (B, 8, 5, 6)
        let xs = nn_ops::dropout(&xs, 0.05, mode)?;
        nn_ops::resize_bilinear(&wide.forward(&xs)?, (9, 11), Align::Corners) // (B, 1, 9, 11)
    };

    let pixels: Vec<f32> =
        (0..2 * 99).map(|i| ((i / 11 * 3 + i % 11) % 17) as f32 / 17.0).collect();
    let images = Tensor::from_vec(pixels, (2, 1, 9, 11), &Device::Cpu)?;
    let target = images.ge(0.5)?.to_dtype(DType::F32)?;

    let params = store.parameters(); // running statistics are not among them
    let group = ParamGroup {
        name: "all".into(),
        params: params.clone(),
        weight_decay: 0.01,
        lr_scale: 1.0,
    };
    let mut adamw = AdamW::new(vec![group], AdamWConfig::default())?;
    let mut losses = Vec::new();
    for step in 0..200 {
        let noise = Noise::new(7, step); // a resumed run draws the same
        let tape = Tape::begin(); // gradients past Candle's graph
        let ys = forward(&images, Mode::Train(&noise))?;
        let loss = (ys - &target)?.sqr()?.mean_all()?;
        let mut grads = Gradients::of(&loss, &params)?;
        drop(tape);
        assert!(grads.missing(&params).is_empty(), "{:?}", grads.missing(&params));
        grads.clip(1.0)?;
        adamw.step(&grads, 0.02)?;
        losses.push(loss.to_scalar::<f32>()?);
    }
    println!("loss {:.3} -> {:.3}", losses[0], losses[199]);
    assert!(losses[199] < 0.5 * losses[0]);
    let ys = forward(&images, Mode::Eval)?; // dropout off, running statistics
    println!("evaluated: {:?}", ys.dims());
    Ok(())
}
