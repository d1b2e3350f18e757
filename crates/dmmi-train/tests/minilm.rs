//! A DMMI whose words come from trained text weights: `all-MiniLM-L6-v2` (384 wide) under a small Swin, on synthetic scenes.
//!
//! `cargo xtask fetch-minilm` fetches the file (or name its folder in `DMMI_MINILM`); without it the test says so and passes.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use dmmi_train::{Network, RunData, StepSettings, TrainConfig, train_step};
use nn_ops::LoadReport;
use refzom_dataset::SyntheticConfig;
use refzom_dataset::synthetic::SyntheticRefZom;

const STEPS: usize = 12;

fn weights() -> Option<PathBuf> {
    let usual = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/minilm"));
    let folder = std::env::var_os("DMMI_MINILM").map_or_else(usual, PathBuf::from);
    let file = folder.join("model.safetensors");
    if !file.is_file() {
        println!("skipped: no {}; cargo xtask fetch-minilm", file.display());
        return None;
    }
    Some(file)
}

/// First values of the text encoder from a file with Hugging Face's names.
fn init_text(network: &Network, file: &Path) -> LoadReport {
    let tensors = candle_core::safetensors::load(file, &network.device).unwrap();
    let named = tensors.into_iter().map(|(name, tensor)| (format!("bert_model.{name}"), tensor));
    let named: BTreeMap<String, Tensor> = named.collect();
    network.store.load(&named).unwrap()
}

fn config(dir: &Path) -> TrainConfig {
    let text = format!(
        r#"
seed = 5
[data]
image_size = [32, 48]
vocab = "bert-base-uncased"
erase_with = "mask"
workers = 1
train = {{ dir = {dir:?}, split = "train" }}
[model]
preset = "quickstart"
backbone = {{ embed_dim = 16, depths = [1, 1, 1, 1], num_heads = [1, 1, 2, 2], window_size = 4 }}
text = {{ vocab_size = 30522, hidden_size = 384, num_layers = 6, num_heads = 12, intermediate_size = 1536, max_positions = 512 }}
decoder = {{ num_heads = 4, feed_forward = 64, dropout = 0.0 }}
[optimizer]
text_layers_trained = 4
[schedule]
batch_size = 4
"#
    );
    TrainConfig::from_toml(&text, "test", &[]).unwrap()
}

fn train(file: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let scenes = SyntheticConfig {
        seed: 3,
        train_scenes: 8,
        val_scenes: 1,
        test_scenes: 1,
        sentences_per_scene: 3,
        ..SyntheticConfig::quickstart()
    };
    SyntheticRefZom::new(scenes).unwrap().write_to(dir.path().join("data")).unwrap();
    let config = config(&dir.path().join("data"));
    let data = RunData::open(&config).unwrap();
    let network = Network::new(&config.model, config.seed, &Device::Cpu).unwrap();
    let report = init_text(&network, file);
    assert!(report.mismatched.is_empty(), "{report:?}");
    let missing = report.missing.iter().filter(|name| name.starts_with("bert_model.")).count();
    assert_eq!((missing, report.loaded.len()), (0, 101), "{:?}", report.unexpected);

    let (mut optimizer, trained) = network.optimizer(&config.optimizer).unwrap();
    let parameter = |name: &str| {
        let var = network.store.get(&format!("bert_model.{name}")).unwrap();
        var.as_detached_tensor().copy().unwrap()
    };
    let watched =
        ["encoder.layer.0.attention.self.query.weight", "encoder.layer.5.output.dense.weight"];
    let before = watched.map(&parameter);
    let (mut losses, mut step) = (Vec::new(), 0);
    'run: for epoch in 0.. {
        for batch in data.train.epoch(epoch, 0).unwrap() {
            if step == STEPS {
                break 'run;
            }
            // The first step checks that every trained parameter gets a gradient, those of the text encoder too.
            let settings = StepSettings {
                seed: config.seed,
                step,
                epoch: epoch + 1,
                lr: 4e-4,
                clip_norm: Some(5.0),
                check_gradients: step == 0,
                parts: 1,
            };
            let batch = batch.unwrap();
            let stats =
                train_step(&network, &mut optimizer, &trained, &batch, &config.loss, &settings);
            let loss = stats.unwrap().total;
            println!("step {step}: loss {loss:.4}");
            losses.push(loss);
            step += 1;
        }
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (losses[0], mean(&losses[STEPS - 4..]));
    println!("loss before the first step {first:.4}, mean of the last 4 {last:.4}");
    assert!(last < 0.85 * first, "the loss does not fall: {losses:?}");
    let moved = |index: usize| {
        let change = (parameter(watched[index]) - &before[index]).unwrap();
        change.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()
    };
    assert!(moved(0) > 0.0, "a trained layer of the text encoder stood still");
    assert_eq!(moved(1), 0.0, "a frozen layer moved");
}

#[test]
fn a_dmmi_on_trained_words_learns() {
    let Some(file) = weights() else { return };
    // Candle's backward pass recurses over the graph: it needs a large stack.
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(move || train(&file));
    thread.unwrap().join().unwrap();
}
