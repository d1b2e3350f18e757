//! Trained weights in our BERT: `all-MiniLM-L6-v2`, 6 layers of 384 channels over BERT's own vocabulary.
//!
//! The oracle is candle-transformers' BERT on the same file; a sentence encoder must also know that cats are pets.
//! `cargo xtask fetch-minilm` fetches the file (or name its folder in `DMMI_MINILM`); without it the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backbones::{BertConfig, BertEncoder};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert as oracle;
use nn_ops::{LoadReport, Mode, ParamStore};
use refzom_dataset::ExpressionTokenizer;

const SENTENCES: [&str; 6] = [
    "the two small cats on the left of the sofa",
    "a pair of kittens next to the couch",
    "quarterly earnings of the bank",
    "a man riding a wave on top of a surfboard",
    "giraffe",
    "the person wearing the unbelievably bright yellow raincoat, second from the right, holding an umbrella",
];
/// Longer than the longest sentence, so that every row has padding.
const LENGTH: usize = 32;

/// The folder with the weights, or nothing and a message.
fn folder() -> Option<PathBuf> {
    let usual = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/minilm"));
    let folder = std::env::var_os("DMMI_MINILM").map_or_else(usual, PathBuf::from);
    if !folder.join("model.safetensors").is_file() {
        println!("skipped: no model.safetensors in {}; cargo xtask fetch-minilm", folder.display());
        return None;
    }
    Some(folder)
}

fn config() -> BertConfig {
    BertConfig {
        hidden_size: 384,
        num_layers: 6,
        num_heads: 12,
        intermediate_size: 1536,
        ..BertConfig::base_uncased()
    }
}

/// Ids and attention mask `(B, L)`.
fn tokens(tokenizer: &ExpressionTokenizer) -> (Tensor, Tensor) {
    let encoded: Vec<_> = SENTENCES.iter().map(|s| tokenizer.encode(s).unwrap()).collect();
    assert!(encoded.iter().all(|e| !e.truncated && e.attention[LENGTH - 1] == 0));
    let shape = (SENTENCES.len(), LENGTH);
    let ids: Vec<u32> = encoded.iter().flat_map(|e| e.ids.clone()).collect();
    let mask: Vec<u32> = encoded.iter().flat_map(|e| &e.attention).map(|&a| a.into()).collect();
    let tensor = |values| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    (tensor(ids), tensor(mask))
}

/// Hugging Face names without `bert.`, which are ours.
fn load(folder: &Path, store: &ParamStore) -> LoadReport {
    let file = folder.join("model.safetensors");
    let tensors: BTreeMap<String, Tensor> =
        candle_core::safetensors::load(file, &Device::Cpu).unwrap().into_iter().collect();
    store.load(&tensors).unwrap()
}

fn largest(difference: &Tensor) -> f32 {
    difference.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn trained_weights_give_what_candle_transformers_gives() {
    let Some(folder) = folder() else { return };
    let store = ParamStore::new(0);
    let ours = BertEncoder::new(&config(), store.builder(DType::F32, &Device::Cpu)).unwrap();
    let report = load(&folder, &store);
    assert!(report.missing.is_empty() && report.mismatched.is_empty(), "{report:?}");
    // The pooler, which DMMI does not use, and a constant.
    let unused = ["embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight"];
    assert_eq!(report.unexpected, unused);

    let cfg = oracle::Config {
        hidden_size: 384,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        intermediate_size: 1536,
        ..oracle::Config::default()
    };
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
    let vb = VarBuilder::from_tensors(tensors.unwrap(), DType::F32, &Device::Cpu);
    let theirs = oracle::BertModel::load(vb, &cfg).unwrap();

    let tokenizer = ExpressionTokenizer::bert_base_uncased(LENGTH).unwrap();
    let (ids, mask) = tokens(&tokenizer);
    let got = ours.forward_t(&ids, &mask, Mode::Eval).unwrap();
    let want = theirs.forward(&ids, &ids.zeros_like().unwrap(), Some(&mask)).unwrap();
    assert_eq!(got.dims(), [SENTENCES.len(), LENGTH, 384]);
    // Hidden states reach 10; the states of padding are nobody's business, but are the same too.
    let difference = largest(&(&got - &want).unwrap());
    println!("largest hidden state {}, largest difference {difference}", largest(&want));
    assert!(difference < 1e-4, "{difference}");

    // What it was trained for: the mean over words compares sentences by meaning.
    let mask = mask.to_dtype(DType::F32).unwrap().unsqueeze(2).unwrap();
    let mean = got.broadcast_mul(&mask).unwrap().sum(1).unwrap();
    let norm = mean.sqr().unwrap().sum_keepdim(D::Minus1).unwrap().sqrt().unwrap();
    let unit = mean.broadcast_div(&norm).unwrap();
    let cosine = unit.matmul(&unit.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
    println!("cats and kittens {}, cats and earnings {}", cosine[0][1], cosine[0][2]);
    assert!(cosine[0][1] > 0.5 && cosine[0][2] < 0.2, "{cosine:?}");
}

#[test]
fn its_vocabulary_is_the_built_in_one() {
    let Some(folder) = folder() else { return };
    let theirs = ExpressionTokenizer::from_vocab_file(folder.join("vocab.txt"), LENGTH).unwrap();
    let ours = ExpressionTokenizer::bert_base_uncased(LENGTH).unwrap();
    assert_eq!(theirs.vocab_size(), ours.vocab_size());
    for sentence in SENTENCES {
        assert_eq!(theirs.encode(sentence).unwrap(), ours.encode(sentence).unwrap());
    }
}
