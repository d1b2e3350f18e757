//! `dmmi-cli eval` as a user runs it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{checkpoint, dmmi};

const COCO33: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33");

/// An untrained checkpoint and a data set under odd names in `root`; the arguments that score it.
#[cfg(unix)]
fn arguments(root: &Path) -> Vec<String> {
    checkpoint(&root.join("model"));
    let data = root.join("data");
    fs::create_dir(&data).unwrap();
    for (from, to) in
        [("refs(final).p", "mine.p"), ("instances.json", "objects.json"), ("images", "photos")]
    {
        std::os::unix::fs::symlink(Path::new(COCO33).join(from), data.join(to)).unwrap();
    }
    let at = |name: &str| root.join(name).display().to_string();
    let (model, data) = (at("model"), at("data"));
    ["eval", "--checkpoint", &model, "--data", &data, "--device", "cpu", "--refs", "mine.p"]
        .into_iter()
        .chain(["--instances", "objects.json", "--images", "photos", "--split", "test"])
        .map(String::from)
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn data_of_other_names_is_scored_and_shown_even_if_it_cannot_be_written() {
    let root = tempfile::tempdir().unwrap();
    let arguments = arguments(root.path());
    let eval = |more: &[&str]| {
        let all: Vec<&str> =
            arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        dmmi(&all, b"")
    };
    let out = root.path().join("scores.json").display().to_string();
    let said = eval(&["--out", &out]);
    // A checkpoint of the synthetic vocabulary about photos.
    assert!(said.succeeds().stdout.contains("\nunknown     "), "{}", said.stdout);
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let written = json(&fs::read_to_string(&out).unwrap());
    assert!(fs::read_to_string(root.path().join("scores.md")).unwrap().starts_with("| checkpoint"));

    // In bfloat16: nearly the same.
    let rounded = json(&eval(&["--out", "-", "--dtype", "bf16"]).succeeds().stdout);
    let confidence =
        |written: &serde_json::Value| written["records"][0]["confidence"].as_f64().unwrap();
    let (exact, rounded_one) = (confidence(&written), confidence(&rounded));
    assert_eq!((&written["dtype"], &rounded["dtype"]), (&"f32".into(), &"bf16".into()));
    assert!(exact != rounded_one && (exact - rounded_one).abs() < 0.02, "{exact} {rounded_one}");

    // Into a device, where nothing can be beside it.
    let full = eval(&["--out", "/dev/full"]);
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.contains("cannot write /dev/full"), "{}", full.stderr);
    assert!(full.stdout.contains("RIS at original size"), "{}", full.stdout);
    assert!(!Path::new("/dev/full.md").exists());
}
