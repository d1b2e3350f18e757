//! A training loop of one's own from the crate's parts: no `train`, no run folder, nothing hidden.
//!
//! `cargo run --release -p dmmi-train --example custom_loop -- DATA_DIR [STEPS]`, where `dmmi-cli synth --out DATA_DIR` made the data.

#![allow(clippy::print_stdout)]

use dmmi_train::{Network, PolyDecay, RunData, StepSettings, TrainConfig, evaluate, train_step};

const CONFIG: &str = r#"
[data]
image_size = [64, 64]
vocab = "synthetic"
train = { dir = "DATA", split = "train" }
val = { dir = "DATA", split = "val" }
[model]
preset = "quickstart"
[optimizer]
lr = 1e-3
text_layers_trained = "all"
[schedule]
batch_size = 8
"#;

fn run() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "data/synthetic".to_owned());
    let steps: usize = args.next().map_or(Ok(50), |text| text.parse())?;

    let config = TrainConfig::from_toml(&CONFIG.replace("DATA", &dir), "example", &[])?;
    let data = RunData::open(&config)?;
    let config = config.with_vocabulary(data.vocab_size())?;
    let network = Network::new(&config.model, config.seed, &candle_core::Device::Cpu)?;
    let (mut optimizer, trained) = network.optimizer(&config.optimizer)?;
    let schedule = PolyDecay { base: config.optimizer.lr, total: steps, power: 0.9, warmup: 5 };

    let mut step = 0;
    'run: for epoch in 0.. {
        for batch in data.train.epoch(epoch, 0)? {
            if step == steps {
                break 'run;
            }
            let settings = StepSettings {
                seed: config.seed,
                step,
                epoch: epoch + 1,
                lr: schedule.lr(step),
                parts: 1,
                clip_norm: Some(5.0),
                check_gradients: step == 0,
            };
            let losses = &config.loss;
            let stats = train_step(&network, &mut optimizer, &trained, &batch?, losses, &settings)?;
            step += 1;
            println!("step {step:>4}  loss {:.4}  |gradient| {:.3}", stats.total, stats.grad_norm);
        }
    }
    if let Some(val) = &data.val {
        let scores = evaluate(&network.eval, &network.device, val, false, &mut |_, _| Ok(()))?;
        println!("{:?}", scores.summary());
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    // Candle's backward pass recurses over the graph: it needs a large stack.
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(run)?;
    thread.join().map_err(|_| anyhow::anyhow!("the training thread panicked"))?
}
