//! One pass of an untrained model, with its losses: `cargo run --release -p dmmi-model --example forward`
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Result, Tensor};
use dmmi_model::{Dmmi, DmmiConfig, DmmiInput, LossConfig, LossTerms, Targets};
use nn_ops::{Mode, ParamStore};

fn main() -> Result<()> {
    let device = Device::Cpu;
    let store = ParamStore::new(7);
    let model = Dmmi::new(&DmmiConfig::quickstart(100), store.builder(DType::F32, &device))?;
    let pixels = Tensor::arange(0f32, (2 * 3 * 64 * 64) as f32, &device)?.sin()?;
    let ids = Tensor::new(&[[2u32, 14, 15, 16, 3, 0], [2, 17, 18, 3, 0, 0]], &device)?;
    let input = DmmiInput {
        images: pixels.reshape((2, 3, 64, 64))?,
        erased_ids: Some(ids.clone()),
        attention: ids.ne(0u32)?,
        ids,
    };
    let out = model.forward(&input, Mode::Eval)?;
    let targets = Targets {
        masks: Tensor::zeros((2, 64, 64), DType::U8, &device)?,
        has_target: Tensor::new(&[1u8, 0], &device)?,
    };
    let terms = LossTerms::of(&out, &targets, &LossConfig::release())?;
    println!("logits {:?}, words {:?}", out.logits.dims(), out.words.dims());
    println!(
        "segmentation {}, similarity {}, contrastive {}",
        terms.segmentation, terms.similarity, terms.contrastive
    );
    Ok(())
}
