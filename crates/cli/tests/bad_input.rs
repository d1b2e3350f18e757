//! Bad input ends with exit code 2 and one line that names the thing and the remedy.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dmmi-cli")).args(args).output().unwrap()
}

/// Runs, and checks code 2 and that one line of standard error holds every word.
#[track_caller]
fn refused(args: &[&str], words: &[&str]) {
    let output = run(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("error:"))
        .unwrap_or_else(|| panic!("{args:?}: {text}"));
    for word in words {
        assert!(line.contains(word), "{args:?}: no \"{word}\" in: {line}");
    }
    assert!(!text.contains("panicked") && !text.contains("backtrace"), "{text}");
}

fn file(root: &Path, name: &str, text: &str) -> String {
    let path = root.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const DATA: &str = "[data]\ntrain = { dir = \"nowhere\", split = \"train\" }\n";

#[test]
fn options_that_would_be_ignored() {
    refused(&["quickstart", "--mini", "--minutes", "3"], &["--minutes", "--mini"]);
    let convert = ["data", "convert", "data", "--to", "ref_zom", "--out", "x", "--masks", "png"];
    refused(&convert, &["--masks", "ref_zom", "jsonl"]);
    refused(&["bench", "--checkpoint-activations"], &["--checkpoint-activations", "--mode train"]);
}

#[test]
fn configurations() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| file(root.path(), name, text);
    refused(&["train", "--config", "nowhere.toml"], &["nowhere.toml", "No such file"]);
    let broken = path("broken.toml", "seed = 1\nlr == 3\n");
    refused(&["train", "--config", &broken], &["broken.toml", "line 2"]);
    let unknown = path("unknown.toml", &format!("{DATA}[optimizer]\nlearning_rate = 0.1\n"));
    refused(
        &["train", "--config", &unknown],
        &["unknown.toml", "optimizer", "learning_rate", "`lr`"],
    );
    let missing = path("missing.toml", "seed = 1\n");
    refused(&["train", "--config", &missing], &["data", "train"]);
    let good = path("good.toml", DATA);
    refused(&["train", "--config", &good, "--device", "cpu"], &["nowhere", "cannot read"]);
    for (set, words) in [
        ("optimizer.lr=0", ["optimizer.lr", "above 0"]),
        ("optimizer.lr=fast", ["lr", "fast"]),
        ("data.image_size=[0, 64]", ["data.image_size", "32"]),
        ("data.image_size=[64, 1000000]", ["data.image_size", "4096"]),
        ("schedule.batch_size=0", ["schedule.batch_size", "1"]),
        ("data.vocab=no/vocab.txt", ["data.vocab", "no/vocab.txt"]),
        ("model.preset=huge", ["model.preset", "quickstart"]),
        ("model.text.num_heads=7", ["num_heads", "7"]),
        ("optimizer", ["KEY=VALUE", "optimizer"]),
    ] {
        refused(&["train", "--config", &good, "--device", "cpu", "--set", set], &words);
    }
    let empty = path("empty.txt", "");
    for (set, words) in [
        (format!("data.vocab={empty}"), ["data.vocab", "empty"]),
        ("init.visual=nowhere.pth".to_owned(), ["init.visual", "nowhere.pth"]),
        ("model.text.hidden_size=1000000000".to_owned(), ["hidden_size", "1000000000"]),
        ("pretrain.steps=0".to_owned(), ["pretrain.steps", "leave [pretrain] out"]),
    ] {
        let out = root.path().join("run");
        let args = ["train", "--recipe", "coco33_overfit", "--device", "cpu"];
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33");
        let dirs = ["train", "val"].map(|split| format!("data.{split}.dir={data}"));
        let mut args: Vec<&str> = args.to_vec();
        args.extend(["--out", out.to_str().unwrap(), "--set", &dirs[0], "--set", &dirs[1]]);
        args.extend(["--set", &set]);
        refused(&args, &words);
    }
    refused(&["train", "--recipe", "nothing"], &["nothing", "quickstart"]);
}

#[test]
fn selftests_that_would_compare_nothing() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");
    let selftest = ["selftest", "--device", "cpu", "--only", "golden"];
    let with = |more: &[&'static str]| -> Vec<&'static str> {
        selftest.into_iter().chain(more.iter().copied()).collect()
    };
    refused(&with(&["--golden", "/nowhere"]), &["/nowhere"]);
    refused(&with(&["--golden", golden, "--case", "g99"]), &["--case g99", "g1_tiny_swin"]);
    // A case that is compared in f32 only is no failure.
    let output = run(&with(&["--golden", golden, "--case", "g8"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("all good"), "{text}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let program = env!("CARGO_BIN_EXE_dmmi-cli");
    let line = format!("{program} info --preset swin-tiny-release --tensors | head -1");
    let output = Command::new("bash").args(["-o", "pipefail", "-c", &line]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{text}");
    let full = format!("{program} info --preset quickstart > /dev/full");
    let output = Command::new("bash").args(["-c", &full]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write to standard output"), "{text}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_broken_standard_error_changes_no_exit_code() {
    let (_, closed) = std::io::pipe().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for stderr in [closed.into(), Stdio::from(full)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmmi-cli"));
        let status =
            command.args(["train", "--recipe", "nothing"]).stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn measurements_are_shown_even_if_they_cannot_be_written() {
    let bench =
        ["bench", "--preset", "quickstart", "--device", "cpu", "--iters", "1", "--no-parts"];
    let with = |more: &[&'static str]| -> Vec<&'static str> {
        bench.into_iter().chain(more.iter().copied()).collect()
    };
    let output = run(&with(&["--json", "/dev/full"]));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot write /dev/full"), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("first"));
    let output = run(&with(&["--by-op", "--json", "-"]));
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("all, waiting at each"));
    refused(&with(&["--json", "/nowhere/x.json"]), &["--json /nowhere/x.json"]);
}

#[test]
fn checkpoints() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().to_str().unwrap();
    refused(&["eval", "--checkpoint", "nowhere", "--data", dir], &["nowhere", "does not exist"]);
    refused(&["eval", "--checkpoint", dir, "--data", dir], &["no model.safetensors"]);
    refused(&["info", "--checkpoint", dir], &["no model.safetensors"]);
    file(root.path(), "model.safetensors", "not tensors");
    refused(&["info", "--checkpoint", dir], &["config.json"]);
    file(root.path(), "config.json", "{}");
    refused(&["info", "--checkpoint", dir], &["config.json", "does not describe"]);
}

#[test]
fn help_is_there_for_every_command() {
    for command in ["train", "eval", "predict", "synth", "quickstart", "info", "data"] {
        let output = run(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Usage: dmmi-cli"), "{command}");
    }
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["fly"]).status.code(), Some(2));
}
