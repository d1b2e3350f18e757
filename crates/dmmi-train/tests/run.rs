//! Whole runs of a tiny network on a tiny synthetic dataset, in process.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};
use dmmi_train::{
    Ended, EpochRecord, Error, Evaluation, Network, Observer, Outcome, PretrainRecord, Result,
    RunLog, RunOptions, Split, Start, StepRecord, TrainConfig, evaluate, load_model, train,
};
use refzom_dataset::synthetic::SyntheticRefZom;
use refzom_dataset::{Dataset, DatasetConfig, SyntheticConfig};

/// One dataset for all tests; written once.
fn data() -> &'static Path {
    static DATA: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DATA.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let config = SyntheticConfig {
            seed: 3,
            train_scenes: 5,
            val_scenes: 2,
            test_scenes: 2,
            sentences_per_scene: 3,
            ..SyntheticConfig::quickstart()
        };
        SyntheticRefZom::new(config).unwrap().write_to(dir.path().join("data")).unwrap();
        dir
    });
    Box::leak(dir.path().join("data").into_boxed_path())
}

fn config(out: &Path, sets: &[&str]) -> TrainConfig {
    let text = format!(
        r#"
seed = 5
out = {out:?}
[data]
image_size = [32, 40]
max_words = 12
vocab = "synthetic"
erase_with = "mask"
workers = 2
train = {{ dir = {data:?}, split = "train" }}
val = {{ dir = {data:?}, split = "val" }}
[model]
preset = "quickstart"
backbone = {{ embed_dim = 8, depths = [1, 1, 1, 1], num_heads = [1, 1, 2, 2], window_size = 4 }}
text = {{ hidden_size = 24, num_layers = 1, num_heads = 2, intermediate_size = 32 }}
decoder = {{ num_heads = 2, feed_forward = 32, dropout = 0.1 }}
[optimizer]
lr = 1e-3
text_layers_trained = "all"
[schedule]
epochs = 2
batch_size = 3
[checkpoint]
every_steps = 2
"#,
        data = data(),
    );
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    TrainConfig::from_toml(&text, "test", &sets).unwrap()
}

/// Runs on a thread with a large stack, as the program does.
fn run(
    config: TrainConfig,
    options: RunOptions,
    observer: &mut (dyn Observer + Send),
) -> Result<Outcome> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(256 << 20);
        builder.spawn_scoped(scope, || train(config, &options, observer)).unwrap().join().unwrap()
    })
}

fn cpu() -> RunOptions {
    RunOptions::on(Device::Cpu)
}

fn resume() -> RunOptions {
    RunOptions { resume: true, ..cpu() }
}

fn weights(outcome: &Outcome) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| std::fs::read(outcome.last.join(name)).unwrap();
    (read("model.safetensors"), read("optimizer.safetensors"))
}

/// Remembers what it was told; asks to stop at a step.
#[derive(Default)]
struct Memory {
    notes: Vec<String>,
    steps: Vec<StepRecord>,
    epochs: Vec<EpochRecord>,
    start: Option<Start>,
    pretraining: Vec<PretrainRecord>,
    stop_at: Option<(usize, Arc<AtomicBool>)>,
    /// The same for a step of `[pretrain]`.
    stop_pretraining_at: Option<(usize, Arc<AtomicBool>)>,
}

impl Observer for Memory {
    fn started(&mut self, start: &Start) -> Result<()> {
        self.start = Some(start.clone());
        Ok(())
    }
    fn pretraining(&mut self, record: &PretrainRecord) -> Result<()> {
        self.pretraining.push(record.clone());
        if let Some((step, flag)) = &self.stop_pretraining_at {
            flag.store(record.step >= *step, Ordering::Relaxed);
        }
        Ok(())
    }
    fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.steps.push(record.clone());
        if let Some((step, flag)) = &self.stop_at {
            flag.store(record.step >= *step, Ordering::Relaxed);
        }
        Ok(())
    }
    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        self.epochs.push(record.clone());
        Ok(())
    }
    fn note(&mut self, text: &str) -> Result<()> {
        self.notes.push(text.to_owned());
        Ok(())
    }
}

/// On a pool of its own, as `dmmi-cli` does.
fn run_on(threads: usize, config: TrainConfig) -> Outcome {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(256 << 20);
    pool.build().unwrap().install(|| train(config, &cpu(), &mut Memory::default())).unwrap()
}

#[test]
fn parts_of_a_batch_give_the_same_bytes_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = |threads, parts| {
        let parts = format!("schedule.parts={parts}");
        let out = dir.path().join(format!("{threads}-{parts}"));
        weights(&run_on(threads, config(&out, &[&parts])))
    };
    let (one, two, three) = (outcome(2, 1), outcome(1, 2), outcome(3, 2));
    assert!(two == three, "two parts on one and on three threads");
    assert!(one != two, "batch statistics are those of the parts");
}

#[test]
fn a_run_leaves_everything_that_is_promised() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let mut memory = Memory::default();
    let outcome = run(config(&out, &[]), cpu(), &mut memory).unwrap();
    assert_eq!((outcome.ended, outcome.step, outcome.epoch), (Ended::Complete, 10, 2));
    assert_eq!(memory.steps.len(), 10);
    assert_eq!(memory.epochs.len(), 2);
    assert!(memory.epochs.iter().all(|epoch| epoch.val.is_some() && epoch.score.is_some()));
    assert!(memory.steps.iter().all(|record| record.stats.total.is_finite()));
    let start = memory.start.unwrap();
    assert_eq!((start.train_samples, start.val_samples, start.steps_per_epoch), (15, Some(6), 5));
    assert_eq!(start.trained, start.parameters);

    // The saved configuration is complete: it reads back as itself, with the vocabulary's size.
    let saved = TrainConfig::from_file(out.join("config.toml"), &[]).unwrap();
    assert!(saved.model.text.vocab_size > 100);
    let names: Vec<String> = std::fs::read_dir(out.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("step-")).count(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("best-")).count(), 1, "{names:?}");

    // The best checkpoint gives the score it was chosen for.
    let best = outcome.best.unwrap();
    let loaded = load_model(&out, &Device::Cpu).unwrap();
    assert_eq!(loaded.file.step, best.step);
    let split = Split::for_model(&DatasetConfig::new(data(), "val"), &loaded.file, 4).unwrap();
    let scored: Evaluation =
        evaluate(&loaded.model, &Device::Cpu, &split, true, &mut |_, _| Ok(())).unwrap();
    assert_eq!(scored.records.len(), 6);
    let score = scored.summary().score(saved.eval.best_by).unwrap();
    assert!((score - best.score).abs() < 1e-6, "{score} {best:?}");
    assert!(scored.at_original_size.is_some());

    // A network that has diverged gets no score.
    let bias = loaded.store.get("model.classifier.conv1_1.bias").unwrap();
    bias.set(&(bias.as_tensor() * f64::NAN).unwrap()).unwrap();
    let error = evaluate(&loaded.model, &Device::Cpu, &split, false, &mut |_, _| Ok(()));
    let error = error.unwrap_err();
    assert!(!error.is_bad_input() && error.to_string().contains("not finite"), "{error}");
    let error = error.of_checkpoint(&loaded.path);
    let name = loaded.path.display().to_string();
    assert!(error.is_bad_input() && error.to_string().contains(&name), "{error}");
}

#[test]
fn interrupted_and_resumed_runs_end_with_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let whole = run(config(&root.path().join("a"), &[]), cpu(), &mut ()).unwrap();
    let again = run(config(&root.path().join("b"), &["data.workers=1"]), cpu(), &mut ()).unwrap();
    assert!(weights(&whole) == weights(&again), "two identical runs differ");

    // Stopped inside epoch 1, at the end of it and inside epoch 2, in different ways.
    let out = root.path().join("c");
    let stop = Arc::new(AtomicBool::new(false));
    let mut memory = Memory { stop_at: Some((3, stop.clone())), ..Memory::default() };
    let first = run(config(&out, &[]), RunOptions { stop, ..cpu() }, &mut memory).unwrap();
    assert_eq!((first.ended, first.step), (Ended::Interrupted, 3));
    for limit in ["stop.steps=5", "stop.steps=8"] {
        let part = run(config(&out, &[limit]), resume(), &mut RunLog::new(&out)).unwrap();
        assert_eq!(part.ended, Ended::Steps, "{limit}");
    }
    let last = run(config(&out, &[]), resume(), &mut RunLog::new(&out)).unwrap();
    assert_eq!(last.ended, Ended::Complete);
    assert!(weights(&whole) == weights(&last), "the resumed run differs");
    assert_eq!(whole.best, last.best);

    // A complete run has nothing left to do.
    let mut memory = Memory::default();
    let done = run(config(&out, &[]), resume(), &mut memory).unwrap();
    assert_eq!((done.ended, memory.steps.len()), (Ended::Complete, 0));
}

/// Cannot tell anything about an epoch.
struct Mute {
    evaluated: bool,
}

impl Observer for Mute {
    fn evaluated(&mut self, _: &Evaluation) -> Result<()> {
        if self.evaluated { Ok(()) } else { Err(mute()) }
    }
    fn epoch(&mut self, _: &EpochRecord) -> Result<()> {
        Err(mute())
    }
}

fn mute() -> Error {
    Error::Write { path: "stderr".into(), source: std::io::ErrorKind::BrokenPipe.into() }
}

#[test]
fn an_epoch_that_cannot_be_told_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let sets = ["checkpoint.every_steps="];
    let whole = run(config(&root.path().join("a"), &sets), cpu(), &mut ()).unwrap();
    let out = root.path().join("b");
    // The first process ends behind the evaluation, the second behind the same epoch.
    for (evaluated, resumed, kept) in
        [(false, false, "step-00000005-epoch-0000"), (true, true, "step-00000005-epoch-0001")]
    {
        let options = RunOptions { resume: resumed, ..cpu() };
        let error = run(config(&out, &sets), options, &mut Mute { evaluated }).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        assert!(out.join("checkpoints").join(kept).is_dir(), "no {kept}");
    }
    let last = run(config(&out, &sets), resume(), &mut ()).unwrap();
    assert!(weights(&whole) == weights(&last), "the resumed run differs");
    assert_eq!(whole.best, last.best);
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let whole = run(config(&root.path().join("a"), &[]), cpu(), &mut ()).unwrap();
    let out = root.path().join("b");
    let part = run(config(&out, &["stop.steps=6"]), cpu(), &mut ()).unwrap();
    let file = part.last.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&file, bytes).unwrap();
    let mut memory = Memory::default();
    let last = run(config(&out, &[]), resume(), &mut memory).unwrap();
    let noted =
        memory.notes.iter().any(|note| note.contains("passed over") && note.contains("optimizer"));
    assert!(noted, "{:?}", memory.notes);
    assert!(weights(&whole) == weights(&last));
}

#[test]
fn resuming_refuses_another_configuration_and_other_data() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    run(config(&out, &["stop.steps=2"]), cpu(), &mut ()).unwrap();
    let error = run(config(&out, &[]), cpu(), &mut ()).unwrap_err();
    assert!(matches!(error, Error::RunExists(_)), "{error}");
    for (set, key) in [
        ("optimizer.lr=2e-3", "optimizer.lr"),
        ("model.text.num_layers=2", "model.text.num_layers"),
        ("schedule.epochs=3", "schedule.epochs"),
        ("data.train.split=test", "data.train.split"),
    ] {
        let error = run(config(&out, &[set]), resume(), &mut ()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains(key), "{error}");
    }
    // What helps where memory ran out is allowed.
    let sets = ["checkpoint_activations=true", "stop.steps=3"];
    assert_eq!(run(config(&out, &sets), resume(), &mut ()).unwrap().step, 3);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let mut memory = Memory::default();
    let sets = ["optimizer.lr=1e30", "checkpoint.every_steps=1"];
    let error = run(config(&out, &sets), cpu(), &mut memory).unwrap_err();
    let text = error.to_string();
    let Error::NonFinite { step, samples, .. } = &error else { panic!("{error}") };
    assert!(*step >= 1 && samples.len() == 3, "{text}");
    assert!(text.contains("optimizer.lr") && text.contains(&format!("step {step}")), "{text}");
    assert_eq!(memory.steps.len(), *step);
    // The checkpoint of the last good step is there and whole.
    assert_eq!(load_model(out.join("last"), &Device::Cpu).unwrap().file.step, *step);
}

#[test]
fn a_loss_can_be_switched_off_by_its_factor() {
    let root = tempfile::tempdir().unwrap();
    let sets = ["loss.similarity=0", "loss.contrastive=0", "stop.steps=2"];
    let mut memory = Memory::default();
    run(config(&root.path().join("run"), &sets), cpu(), &mut memory).unwrap();
    let stats = memory.steps[1].stats;
    assert!(stats.similarity > 0.0 && stats.total == stats.segmentation, "{stats:?}");
}

#[test]
fn patience_ends_a_run_early_and_without_val_the_last_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let sets =
        ["schedule.epochs=30", "stop.patience=1", "optimizer.lr=1e-12", "checkpoint.every_steps="];
    let early = run(config(&root.path().join("a"), &sets), cpu(), &mut ()).unwrap();
    assert_eq!(early.ended, Ended::Patience);
    assert!(early.epoch < 30);
    // More patience, and it goes on.
    let steps = format!("stop.steps={}", early.step + 1);
    let longer = [sets[0], "stop.patience=9", sets[2], sets[3], &steps];
    let later = run(config(&root.path().join("a"), &longer), resume(), &mut ()).unwrap();
    assert_eq!((later.ended, later.step), (Ended::Steps, early.step + 1));

    let mut memory = Memory::default();
    let blind = run(
        config(&root.path().join("b"), &["data.val=", "schedule.epochs=1"]),
        cpu(),
        &mut memory,
    );
    let blind = blind.unwrap();
    assert_eq!(blind.best, None);
    assert_eq!(blind.checkpoint, blind.last);
    assert!(
        memory.notes.iter().any(|note| note.contains("no validation split")),
        "{:?}",
        memory.notes
    );
}

#[test]
fn a_score_that_counts_nothing_is_told_and_tries_no_patience() {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("own");
    copy(data(), &own);
    for file in ["refs(synthetic).p", "instances.json"] {
        std::fs::remove_file(own.join(file)).unwrap();
    }
    let picture = std::fs::read_dir(own.join("images")).unwrap().next().unwrap().unwrap();
    let picture = format!("images/{}", picture.file_name().to_string_lossy());
    let line = format!(r#"{{"image": "{picture}", "expression": "a dog", "mask": null}}"#);
    std::fs::write(own.join("val.jsonl"), line).unwrap();
    let dir = format!("data.val.dir={}", own.display());
    let sets = [dir.as_str(), "schedule.epochs=3", "stop.patience=1", "eval.best_by=overall_iou"];
    let mut memory = Memory::default();
    let outcome = run(config(&root.path().join("a"), &sets), cpu(), &mut memory).unwrap();
    assert_eq!((outcome.ended, outcome.best), (Ended::Complete, None));
    assert!(memory.notes.iter().any(|note| note.contains("oIoU")), "{:?}", memory.notes);
}

/// Copies a folder and all below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn damaged_pictures_are_left_out_and_counted_unless_none_remains() {
    let root = tempfile::tempdir().unwrap();
    let broken = root.path().join("data");
    copy(data(), &broken);
    let (dataset, _) = Dataset::load(&DatasetConfig::new(&broken, "train")).unwrap();
    let pictures: BTreeSet<_> = dataset.samples().iter().map(|s| s.image_path.clone()).collect();
    let pictures: Vec<_> = pictures.into_iter().collect();
    assert_eq!(pictures.len(), 5);
    let cut = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    cut(&pictures[0]);
    let dir = format!("data.train.dir={}", broken.display());
    let sets = [dir.as_str(), "stop.steps=1", "schedule.batch_size=2"];
    let mut memory = Memory::default();
    run(config(&root.path().join("a"), &sets), cpu(), &mut memory).unwrap();
    let name = pictures[0].file_name().unwrap().to_str().unwrap();
    let noted = memory.notes.iter().any(|note| note.contains("3 left out") && note.contains(name));
    assert!(noted, "{:?}", memory.notes);
    assert_eq!(memory.start.unwrap().train_samples, 12);

    pictures[1..].iter().for_each(|path| cut(path));
    let error = run(config(&root.path().join("b"), &sets), cpu(), &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("can be decoded"), "{error}");
}

#[test]
fn words_that_the_vocabulary_does_not_know_are_told() {
    let root = tempfile::tempdir().unwrap();
    let vocab = root.path().join("vocab.txt");
    std::fs::write(&vocab, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n").unwrap();
    let vocab = format!("data.vocab={}", vocab.display());
    let mut memory = Memory::default();
    let sets = [vocab.as_str(), "stop.steps=1"];
    let out = root.path().join("run");
    run(config(&out, &sets), resume(), &mut memory).unwrap();
    // Whoever names the wrong folder sees which one it is.
    let anew = format!("no checkpoint in {} yet", out.display());
    assert!(memory.notes.iter().any(|note| note.starts_with(&anew)), "{:?}", memory.notes);
    let told =
        |note: &String| note.starts_with("training split: 15 of 15") && note.contains("data.vocab");
    assert!(memory.notes.iter().any(told), "{:?}", memory.notes);
}

#[test]
fn a_model_is_loaded_whole_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let outcome = run(config(&root.path().join("run"), &["stop.steps=1"]), cpu(), &mut ()).unwrap();
    // Moved elsewhere without its manifest, as people do.
    let moved = root.path().join("moved");
    copy(&outcome.last, &moved);
    std::fs::remove_file(moved.join("MANIFEST")).unwrap();
    load_model(&moved, &Device::Cpu).unwrap();
    let text = std::fs::read_to_string(moved.join("config.json")).unwrap();
    let refused = |text: &str, words: &[&str]| {
        std::fs::write(moved.join("config.json"), text).unwrap();
        let error = load_model(&moved, &Device::Cpu).err().unwrap();
        assert!(error.is_bad_input(), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "no \"{word}\" in: {error}");
        }
    };
    refused(
        &text.replace("\"embed_dim\": 8", "\"embed_dim\": 16"),
        &["another shape", "config.json"],
    );
    refused(
        &text.replace("\"num_layers\": 1", "\"num_layers\": 2"),
        &["missing", "encoder.layer.1"],
    );
    refused(&text.replace("\"format\": 1", "\"format\": 9"), &["format 9"]);
    refused(&text.replace("\"num_heads\": 2", "\"num_heads\": 5"), &["num_heads"]);
    std::fs::write(moved.join("config.json"), &text).unwrap();
    let weights = std::fs::read(moved.join("model.safetensors")).unwrap();
    std::fs::write(moved.join("model.safetensors"), &weights[..weights.len() - 8]).unwrap();
    let error = load_model(&moved, &Device::Cpu).err().unwrap();
    assert!(error.to_string().contains("not a readable safetensors file"), "{error}");
}

#[test]
fn a_run_can_start_from_given_weights() {
    let root = tempfile::tempdir().unwrap();
    let first = run(config(&root.path().join("a"), &["stop.steps=2"]), cpu(), &mut ()).unwrap();
    let init = format!("init={}", first.last.display());
    let mut memory = Memory::default();
    run(config(&root.path().join("b"), &[&init, "stop.steps=1"]), cpu(), &mut memory).unwrap();
    assert!(memory.notes.iter().any(|note| note.contains("start from")), "{:?}", memory.notes);
    let sets = [init.as_str(), "stop.steps=1", "model.backbone.embed_dim=16"];
    let error = run(config(&root.path().join("c"), &sets), cpu(), &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("has shape"), "{error}");
}

#[test]
fn an_encoder_can_start_from_a_file_of_another_library() {
    let root = tempfile::tempdir().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../backbones/tests/data/swin_official.pth");
    let visual = format!("init.visual={file}");
    let text = format!("init.text={file}");
    let sets = [
        "stop.steps=1",
        "model.backbone.embed_dim=8",
        "model.backbone.depths=[1, 2, 1, 1]",
        "model.backbone.num_heads=[1, 2, 4, 8]",
        "model.backbone.window_size=3",
        "model.backbone.mlp_ratio=4",
        visual.as_str(),
    ];
    let mut memory = Memory::default();
    run(config(&root.path().join("a"), &sets), cpu(), &mut memory).unwrap();
    let note = memory.notes.iter().find(|note| note.contains("start from")).unwrap();
    for words in ["Swin, official names", "window 2 to 3", "fusion with the text", "missing 0"] {
        assert!(note.contains(words), "no \"{words}\" in: {note}");
    }
    let refused = |sets: &[&str], word: &str| {
        let error = run(config(&root.path().join("b"), sets), cpu(), &mut ()).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains(word), "{error}");
    };
    refused(&["stop.steps=1", &text], "a BERT");
    let deeper = [&sets[..], &["model.backbone.depths=[1, 2, 2, 1]"]].concat();
    refused(&deeper, "missing");
}

#[test]
fn both_encoders_are_taken_from_one_file_and_no_name_of_the_network_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let first = run(config(&root.path().join("a"), &["stop.steps=2"]), cpu(), &mut ()).unwrap();
    let all = load_model(&first.last, &Device::Cpu).unwrap().store.tensors();
    let file = root.path().join("part.safetensors");
    let keep = |parts: &[&str]| {
        let kept = all.iter().filter(|(name, _)| parts.iter().any(|part| name.starts_with(part)));
        let kept: HashMap<String, Tensor> = kept.map(|(n, t)| (n.clone(), t.clone())).collect();
        candle_core::safetensors::save(&kept, &file).unwrap();
    };
    let init = format!("init={}", file.display());
    let start = |out: &str, memory: &mut Memory| {
        let sets = [init.as_str(), "seed=6", "stop.steps=1", "optimizer.lr=1e-12"];
        run(config(&root.path().join(out), &sets), cpu(), memory)
    };

    let encoder = |name: &&str| {
        let fusion = ["fusion", "res_gate", "W_l"].iter().any(|part| name.contains(part));
        name.starts_with("bert_model.") || (name.starts_with("model.backbone.") && !fusion)
    };
    let encoders: Vec<&str> = all.keys().map(String::as_str).filter(encoder).collect();
    keep(&encoders);
    let mut memory = Memory::default();
    let begun = start("b", &mut memory).unwrap();
    let notes: Vec<_> = memory.notes.iter().filter(|n| n.contains("start from")).collect();
    assert!(notes.len() == 2 && notes.iter().all(|n| !n.contains("not part of")), "{notes:?}");
    let begun = load_model(&begun.last, &Device::Cpu).unwrap().store.tensors();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for name in encoders.into_iter().filter(|name| !name.contains("running_")) {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(values(&all[name]).iter().zip(&values(&begun[name])).all(near), "{name}");
    }

    keep(&["model."]);
    let error = start("c", &mut Memory::default()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("belong to the network"), "{error}");
}

const RESNET: &str = r#"model.backbone={kind="resnet",layers=[1,1,1,1],width=4}"#;
const SWIN: &str = "model.backbone.embed_dim=8";

#[test]
fn the_visual_encoder_learns_categories_first_and_nothing_else_changes() {
    let root = tempfile::tempdir().unwrap();
    for (name, backbone) in [("swin", SWIN), ("resnet", RESNET)] {
        let sets = [backbone, "pretrain={steps=60,batch_size=4,lr=3e-3}", "stop.steps=1"];
        let config = config(&root.path().join(name), &sets);
        let mut memory = Memory::default();
        let outcome = run(config.clone(), cpu(), &mut memory).unwrap();
        assert_eq!((outcome.ended, outcome.step), (Ended::Steps, 1));
        let losses: Vec<f64> = memory.pretraining.iter().map(|record| record.loss).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert_eq!(losses.len(), 60);
        assert!(mean(&losses[50..]) < 0.6 * mean(&losses[..10]), "{name}: {losses:?}");
        let noted = |text: &str| memory.notes.iter().any(|note| note.contains(text));
        assert!(noted("visual encoder: 60 steps") && noted("pictures"), "{:?}", memory.notes);

        // The checkpoint before the first step: of the visual encoder all has changed, of the rest nothing.
        let before = outcome.last.with_file_name("step-00000000-epoch-0000");
        let after = load_model(&before, &Device::Cpu).unwrap().store.tensors();
        let vocabulary = load_model(&before, &Device::Cpu).unwrap().file.model;
        let first = Network::new(&vocabulary, config.seed, &Device::Cpu).unwrap().store.tensors();
        assert_eq!(after.len(), first.len());
        for (key, tensor) in &first {
            let values =
                |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let visual = key.strip_prefix("model.backbone.").is_some_and(|rest| {
                !["fusion", "res_gate", "W_l"].iter().any(|part| rest.contains(part))
            });
            let changed = values(tensor) != values(&after[key]);
            assert_eq!(changed, visual && !key.ends_with("num_batches_tracked"), "{name}: {key}");
        }
    }
}

#[test]
fn stopped_while_it_learns_categories_and_resumed_ends_with_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    for (name, backbone) in [("swin", SWIN), ("resnet", RESNET)] {
        let sets =
            [backbone, "pretrain={steps=9,batch_size=3}", "schedule.parts=2", "stop.steps=2"];
        let place = |part: &str| root.path().join(format!("{name}-{part}"));
        let whole = run(config(&place("a"), &sets), cpu(), &mut ()).unwrap();
        let out = place("b");
        for (step, resumed) in [(3, false), (8, true)] {
            let stop = Arc::new(AtomicBool::new(false));
            let mut memory =
                Memory { stop_pretraining_at: Some((step, stop.clone())), ..Memory::default() };
            let options = RunOptions { stop, resume: resumed, ..cpu() };
            let part = run(config(&out, &sets), options, &mut memory).unwrap();
            assert_eq!((part.ended, part.step), (Ended::Interrupted, 0));
            assert_eq!(memory.pretraining.last().map(|record| record.step), Some(step));
            assert!(memory.steps.is_empty());
        }
        // The state it left belongs to this run and is not written over.
        let error = run(config(&out, &sets), cpu(), &mut ()).unwrap_err();
        assert!(matches!(error, Error::RunExists(_)), "{error}");
        let other = [sets[0], "pretrain={steps=10,batch_size=3}", sets[2], sets[3]];
        let error = run(config(&out, &other), resume(), &mut ()).unwrap_err();
        assert!(error.to_string().contains("pretrain.steps"), "{error}");
        let error = run(config(&out, &[sets[0], sets[2]]), resume(), &mut ()).unwrap_err();
        assert!(error.to_string().contains("pretrain"), "{error}");

        let mut memory = Memory::default();
        let last = run(config(&out, &sets), resume(), &mut memory).unwrap();
        assert_eq!(memory.pretraining.len(), 1);
        assert!(weights(&whole) == weights(&last), "{name}: the resumed run differs");
        assert!(!out.join("checkpoints/pretraining").exists());
    }
}

#[test]
fn minutes_end_the_learning_of_categories_too() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let sets = ["pretrain={steps=3,batch_size=3}", "stop.minutes=1e-9"];
    let mut memory = Memory::default();
    let part = run(config(&out, &sets), cpu(), &mut memory).unwrap();
    assert_eq!((part.ended, part.step, memory.pretraining.len()), (Ended::Minutes, 0, 0));
    let sets = [sets[0], "stop.steps=1"];
    let last = run(config(&out, &sets), resume(), &mut memory).unwrap();
    assert_eq!((last.ended, memory.pretraining.len()), (Ended::Steps, 3));
}

#[test]
fn categories_must_exist_and_settings_be_possible() {
    let root = tempfile::tempdir().unwrap();
    let refused = |set: &str| {
        let text =
            format!("[pretrain]\n{set}\n[data]\ntrain = {{ dir = \"x\", split = \"train\" }}");
        TrainConfig::from_toml(&text, "test", &[]).unwrap_err().to_string()
    };
    for (set, key) in [
        ("steps = 0", "pretrain.steps"),
        ("steps = 1\nlr = 0.0", "pretrain.lr"),
        ("steps = 1\nbatch_size = 0", "pretrain.batch_size"),
        ("steps = 1\nstep = 2", "step"),
    ] {
        let message = refused(set);
        assert!(message.contains(key), "{message}");
    }
    let own = root.path().join("own");
    copy(data(), &own);
    let picture = std::fs::read_dir(own.join("images")).unwrap().next().unwrap().unwrap();
    let picture = format!("images/{}", picture.file_name().to_string_lossy());
    let line = format!(r#"{{"image": "{picture}", "expression": "a dog", "mask": null}}"#);
    for file in ["refs(synthetic).p", "instances.json"] {
        std::fs::remove_file(own.join(file)).unwrap();
    }
    std::fs::write(own.join("train.jsonl"), [line.as_str(); 3].join("\n")).unwrap();
    let dir = format!("data.train.dir={}", own.display());
    let sets = [dir.as_str(), "data.val=", "pretrain={steps=2}"];
    let error = run(config(&root.path().join("run"), &sets), cpu(), &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("[pretrain]"), "{error}");
}
