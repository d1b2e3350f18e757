//! A checkpoint of the authors' code (g5: official names, widths shrunk) becomes a folder, runs, and becomes a file again that
//! PyTorch loads with `strict=True` (where Python with torch is at hand: `DMMI_PYTHON`, or `python3` on the path).

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
    path.to_str().unwrap().to_owned()
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dmmi-cli")).args(args).output().unwrap()
}

#[track_caller]
fn done(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(args: &[&str], words: &[&str]) {
    let output = run(args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    for word in words {
        assert!(error.contains(word), "{args:?}: no \"{word}\" in: {error}");
    }
}

/// The shrunken text encoder knows 40 word pieces.
fn vocabulary(root: &Path) -> String {
    let path = root.join("vocab.txt");
    let mut pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    pieces.extend(('a'..='z').map(String::from));
    pieces.extend(('a'..='i').map(|c| format!("##{c}")));
    assert_eq!(pieces.len(), 40);
    std::fs::write(&path, pieces.join("\n") + "\n").unwrap();
    path.to_str().unwrap().to_owned()
}

const TEXT_HEADS: &str = "2";

#[test]
fn there_and_back() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let vocab = vocabulary(root.path());
    let options = ["--vocab", &vocab, "--text-heads", TEXT_HEADS, "--image-size", "64"];
    let convert = |from: &str, to: &str| done(&[&["convert", from, to], &options[..]].concat());
    let out = convert(&golden("g5_ckpt_legacy.pth"), &at("ours"));
    for words in [
        "Swin 4 channels",
        "dead copies",
        "constants of the window size",
        "missing 0",
        "unexpected 0",
    ] {
        assert!(out.contains(words), "no \"{words}\" in: {out}");
    }
    // Every container gives the same weights.
    convert(&golden("g5_ckpt_zip_cuda_tag.pth"), &at("zip"));
    let weights =
        |name: &str| std::fs::read(Path::new(&at(name)).join("model.safetensors")).unwrap();
    assert!(weights("ours") == weights("zip"));
    let info = done(&["info", "--checkpoint", &at("ours")]);
    assert!(info.contains("40 pieces"), "{info}");

    let said = done(&["convert", &at("ours"), &at("back.pth")]);
    assert!(said.contains(&format!("--text-heads {TEXT_HEADS}")) && said.contains("64 x 64"));
    convert(&at("back.pth"), &at("again"));
    assert!(weights("ours") == weights("again"));
    strict_in_pytorch(&at("back.pth"), &golden("g5_ckpt_zip.pth"));

    // Nothing is overwritten, and what is missing is asked for.
    refused(&["convert", &at("ours"), &at("back.pth")], &["back.pth", "--force"]);
    refused(&["convert", &at("ours"), &at("folder")], &["folder", ".pth"]);
    let weights_file = at("ours/model.safetensors");
    refused(&["convert", &weights_file, &at("folder")], &["folder", "must end in .pth"]);
    done(&["convert", &weights_file, &at("too.pth")]);
    refused(&["convert", &at("non.pth"), &at("x")], &["non.pth", "does not exist"]);
    let ignored = ["convert", &at("ours"), &at("x.pth"), "--vocab", &vocab];
    refused(&ignored, &["--vocab", "leave it out"]);
    let file = golden("g5_ckpt_zip.pth");
    refused(&["convert", &file, &at("x")], &["g5_ckpt_zip.pth", "8 channels", "heads"]);
    refused(&["convert", &file, &at("x"), "--text-heads", TEXT_HEADS], &["40", "--vocab"]);
    refused(&["info", "--checkpoint", &file], &["g5_ckpt_zip.pth", "convert"]);
    refused(&["convert", &golden("g5_quirks_zip.pth"), &at("x")], &["no checkpoint of DMMI"]);
    refused(&["convert", &vocab, &at("x")], &["vocab.txt", "torch.save"]);
}

const STRICT: &str = r#"
import sys, torch
ours = torch.load(sys.argv[1], weights_only=True)
theirs = torch.load(sys.argv[2], weights_only=False, map_location="cpu")
for part in ("model", "bert_model"):
    root = torch.nn.Module()
    for name, value in theirs[part].items():
        *path, last = name.split(".")
        module = root
        for step in path:
            if step not in module._modules:
                module.add_module(step, torch.nn.Module())
            module = module._modules[step]
        module.register_buffer(last, torch.zeros_like(value))
    root.load_state_dict(ours[part], strict=True)
    for name, value in root.state_dict().items():
        # Dead copies and counts are made anew.
        if ".decoder_layer." not in name and "num_batches" not in name:
            assert torch.equal(value, theirs[part][name]), name
        assert ours[part][name].dtype == theirs[part][name].dtype, name
print("strict", sum(len(ours[part]) for part in ("model", "bert_model")))
"#;

fn strict_in_pytorch(ours: &str, theirs: &str) {
    let python = std::env::var("DMMI_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_torch = Command::new(&python).args(["-c", "import torch"]).output();
    if !has_torch.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} has no torch; set DMMI_PYTHON to one that has");
        return;
    }
    let output = Command::new(&python).args(["-c", STRICT, ours, theirs]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "strict 704");
}
