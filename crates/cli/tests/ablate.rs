//! `ablate` and `info` as a user runs them.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::dmmi;
use dmmi_train::recipes::ABLATIONS;

#[test]
fn every_ablation_runs_and_a_second_command_trains_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("ablation");
    let shown = out.display().to_string();
    let args = ["ablate", "--mini", "--quiet", "--device", "cpu", "--out", &shown];
    let first = dmmi(&args, b"");
    first.succeeds();
    for name in ABLATIONS {
        let row = first.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.contains(" M "), "no number of parameters in: {row}");
        assert_eq!(out.join(name).join("result.json").exists(), name != "windows_1_2_3", "{name}");
    }
    // The full model's windows are the released ones: one run serves both rows.
    assert!(first.stdout.contains("windows_1_2_3 (= dmmi)"), "{}", first.stdout);
    assert!(first.stderr.contains("the same configuration as dmmi"), "{}", first.stderr);
    let markdown = fs::read_to_string(out.join("ablation.md")).unwrap();
    assert_eq!(markdown.lines().filter(|l| l.starts_with("| ")).count(), 1 + ABLATIONS.len());
    let html = fs::read_to_string(out.join("ablation.html")).unwrap();
    assert!(html.contains("</html>") && !html.contains("http://") && !html.contains("<script"));
    let json = fs::read_to_string(out.join("ablation.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), ABLATIONS.len());

    let lines = |text: &str| {
        text.lines().filter(|l| !l.starts_with("took")).map(String::from).collect::<Vec<_>>()
    };
    let second = dmmi(&args, b"");
    assert_eq!(lines(&second.succeeds().stdout), lines(&first.stdout));
    let once = second.stderr.matches("done before").count();
    assert_eq!(once, ABLATIONS.len() - 1, "{}", second.stderr);
    // A command for one of them keeps the rows of the others.
    let one: Vec<&str> = args.into_iter().chain(["no_mba"]).collect();
    dmmi(&one, b"").succeeds();
    let json = fs::read_to_string(out.join("ablation.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), ABLATIONS.len());
    // Other settings would compare what cannot be compared.
    dmmi(&["ablate", "--out", &shown], b"").refuses(&["--mini", "--out"]);
}

#[test]
fn a_lost_result_is_made_again_and_own_files_can_join() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().join("out").display().to_string();
    let own = dir.path().join("narrow.toml");
    fs::write(&own, "# Narrow.\nbase = \"quickstart\"\n[model.backbone]\nembed_dim = 16\n")
        .unwrap();
    let own = own.display().to_string();
    let args = ["ablate", "--mini", "--quiet", "--device", "cpu", "--out", &shown, "no_mba", &own];
    let first = dmmi(&args, b"");
    let table = |text: &str| text.lines().find(|l| l.starts_with("narrow")).unwrap().to_owned();
    let row = table(&first.succeeds().stdout);
    fs::remove_file(dir.path().join("out/narrow/result.json")).unwrap();
    let second = dmmi(&args, b"");
    assert_eq!(table(&second.succeeds().stdout), row);
    fs::write(dir.path().join("out/narrow/result.json"), "{}").unwrap();
    dmmi(&args, b"").refuses(&["result.json", "damaged"]);
}

#[test]
fn stop_minutes_inside_pretrain_leave_no_row_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().join("out").display().to_string();
    let args = ["ablate", "--mini", "--quiet", "--device", "cpu", "--out", &shown, "no_mba"];
    let args: Vec<&str> = args.into_iter().chain(["--set", "stop.minutes=1e-9"]).collect();
    let said = dmmi(&args, b"");
    assert_eq!(said.code, Some(130), "{}", said.stderr);
    assert!(said.stderr.contains("stop.minutes over"), "{}", said.stderr);
    assert!(dir.path().join("out/no_mba/checkpoints/pretraining").exists());
}

#[test]
fn bad_names_and_folders_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().join("out").display().to_string();
    dmmi(&["ablate", "--out", &shown, "no_such"], b"").refuses(&["no_such", "no_mba", ".toml"]);
    dmmi(&["ablate", "--out", &shown, "lavt", "lavt"], b"").refuses(&["lavt", "twice"]);
    dmmi(&["ablate", "--out", &shown, "/no/such.toml"], b"").refuses(&["/no/such.toml"]);
    let impossible = ["ablate", "--out", &shown, "dmmi", "--set", "model.contrast=off"];
    dmmi(&impossible, b"").refuses(&["loss.contrastive", "model.contrast"]);
    for (set, instead) in [("seed=3", "--seed"), ("out=x", "--out"), ("data.val.dir=x", "--out")] {
        dmmi(&["ablate", "--out", &shown, "--set", set], b"").refuses(&[set, instead]);
    }
    let epochs = ["ablate", "--out", &shown, "--epochs", "2", "--set", "schedule.epochs=3"];
    dmmi(&epochs, b"").refuses(&["schedule.epochs=3", "--epochs"]);
    let mini = ["ablate", "--out", &shown, "--mini", "--set", "pretrain.steps=9"];
    dmmi(&mini, b"").refuses(&["pretrain.steps=9", "--mini"]);
    let data = dir.path().join("data.toml");
    fs::write(&data, "base = \"quickstart\"\n").unwrap();
    dmmi(&["ablate", "--out", &shown, data.to_str().unwrap()], b"").refuses(&["data.toml"]);
    fs::remove_file(data).unwrap();
    fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    let here = dir.path().display().to_string();
    dmmi(&["ablate", "--mini", "--out", &here, "dmmi"], b"").refuses(&["not empty", "--out"]);
    let list = dmmi(&["ablate", "--list"], b"");
    let list = &list.succeeds().stdout;
    assert_eq!(list.lines().count(), ABLATIONS.len());
    assert!(list.lines().all(|line| line.len() > 25), "{list}");
}

#[test]
fn info_prices_presets_and_recipes() {
    let said = dmmi(&["info", "--preset", "swin-base-paper", "--size", "448"], b"");
    let text = &said.succeeds().stdout;
    for part in [
        "448 x 448",
        "variant = \"paper\"",
        "backbone stage 3",
        "fusion (MBA) stage 4",
        "text encoder",
        "GiB",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let said = dmmi(&["info", "--recipe", "ablation/no_mba", "--size", "96x64"], b"");
    let text = &said.succeeds().stdout;
    assert!(!text.contains("fusion (MBA)") && text.contains("64 x 96"), "{text}");
    dmmi(&["info", "--preset", "vgg"], b"").refuses(&[
        "vgg",
        "swin-base-release",
        "resnet50-paper",
    ]);
    dmmi(&["info", "--recipe", "vgg"], b"").refuses(&["vgg", "quickstart"]);
    dmmi(&["info", "--preset", "quickstart", "--size", "0"], b"").refuses(&["--size"]);
}
