//! `dmmi-cli quickstart --mini` from nothing to a report: the whole pipeline in seconds.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::dmmi;

#[test]
fn mini_makes_data_trains_scores_predicts_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a run");
    let shown = out.display().to_string();
    let args = ["quickstart", "--mini", "--quiet", "--device", "cpu", "--out", &shown];
    let said = dmmi(&args, b"");
    let stdout = &said.succeeds().stdout;
    assert!(stdout.contains("oIoU") && stdout.contains("zero-target Acc"), "{stdout}");

    let html = fs::read_to_string(out.join("report.html")).unwrap();
    for part in [
        "<svg",
        "data:image/png;base64,",
        "RIS protocol",
        "GRES protocol",
        "Do it again",
        "[optimizer]",
    ] {
        assert!(html.contains(part), "report without {part}");
    }
    let scores: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("test.json")).unwrap()).unwrap();
    assert!(scores["records"].as_array().is_some_and(|records| !records.is_empty()));
    assert!(fs::read_dir(out.join("predictions")).unwrap().count() >= 3);

    // The command it proposes works as printed, whatever the folder is called.
    let line = stdout.lines().find(|line| line.contains(" -- predict ")).unwrap();
    let words = shell_words(line.split_once(" -- ").unwrap().1);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    dmmi(&words, b"").succeeds();

    // Again: a complete run is not touched; an unfinished one is taken up.
    let before = fs::read(out.join("report.html")).unwrap();
    dmmi(&args, b"").refuses(&["complete", "--out"]);
    assert_eq!(fs::read(out.join("report.html")).unwrap(), before);
    fs::remove_file(out.join("report.html")).unwrap();
    let other = ["quickstart", "--mini", "--seed", "8", "--out", &shown];
    dmmi(&other, b"").refuses(&["--seed 7"]);
    let said = dmmi(&args, b"");
    assert!(said.succeeds().stderr.contains("going on"), "{}", said.stderr);
    let again: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("test.json")).unwrap()).unwrap();
    assert_eq!(again["records"], scores["records"], "the same weights give the same answers");
}

#[test]
fn folders_that_hold_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    let said = dmmi(&["quickstart", "--mini", "--out", dir.path().to_str().unwrap()], b"");
    said.refuses(&["not empty", "--out"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let file = dir.path().join("thesis.txt");
    dmmi(&["quickstart", "--mini", "--out", file.to_str().unwrap()], b"").refuses(&["thesis.txt"]);
}

#[test]
fn synth_writes_a_dataset_and_refuses_the_impossible() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("data");
    let shown = out.display().to_string();
    let said = dmmi(
        &["synth", "--preset", "mini", "--train", "5", "--size", "72x64", "--out", &shown],
        b"",
    );
    assert!(said.succeeds().stdout.contains("train"), "{}", said.stdout);
    for name in ["refs(synthetic).p", "instances.json", "vocab.txt"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let first = fs::read_dir(out.join("images")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(image::image_dimensions(first).unwrap(), (72, 64));
    dmmi(&["synth", "--out", &shown], b"").refuses(&["not empty"]);
    let fresh = dir.path().join("fresh").display().to_string();
    dmmi(&["synth", "--size", "5", "--out", &fresh], b"").refuses(&["width"]);
    dmmi(&["synth", "--train", "0", "--val", "0", "--test", "0", "--out", &fresh], b"")
        .refuses(&["scene"]);
    assert!(!Path::new(&fresh).exists());
}

/// Starts the program, sends Ctrl-C when `now` says so of its standard error so far, and answers with what it said.
#[cfg(unix)]
fn interrupted(args: &[&str], mut now: impl FnMut(&str) -> bool) -> (Option<i32>, String) {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmmi-cli"));
    let mut child =
        command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut pipe, mut said) = (child.stderr.take().unwrap(), Vec::new());
    let id = child.id().to_string();
    let mut byte = [0];
    while !now(&String::from_utf8_lossy(&said)) && pipe.read(&mut byte).unwrap() == 1 {
        said.push(byte[0]);
    }
    Command::new("kill").args(["-INT", &id]).status().unwrap();
    pipe.read_to_end(&mut said).unwrap();
    (child.wait().unwrap().code(), String::from_utf8(said).unwrap())
}

#[test]
#[cfg(unix)]
fn an_interruption_says_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("data").display().to_string();
    let begun = |_: &str| {
        while fs::read_dir(dir.path()).unwrap().count() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        true
    };
    let (code, said) = interrupted(&["synth", "--train", "100000", "--out", &out], begun);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("no picture is kept; the same command"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let out = dir.path().join("run").display().to_string();
    let args = ["quickstart", "--mini", "--quiet", "--device", "cpu", "--out", &out];
    let (code, said) = interrupted(&args, |said| said.contains("3/4"));
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("training is complete; the same command"), "{said}");
    dmmi(&args, b"").succeeds();
}

/// Splits a line as a POSIX shell does, for words in single quotes without escapes.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}
