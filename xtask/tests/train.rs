//! `cargo xtask train` as a person runs it, with a cargo that keeps what it was told and builds nothing.

#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The parts of `dmmi-cli train --dump` that are read.
const SWIN: &str = "kind = 'swin'\npatch_size = 4\nembed_dim = 128\ndepths = [2, 2, 18, 2]\nnum_heads = [4, 8, 16, 32]\nmlp_ratio = 4\nwindow_size = 12";
const BERT: &str = "hidden_size = 768\nnum_layers = 12\nnum_heads = 12\nintermediate_size = 3072\nmax_positions = 512\nvocab_size = 0";

struct Bench {
    home: TempDir,
}

impl Bench {
    /// A stand-in for cargo that answers `--dump` with `dump`.
    fn new(before: &str, backbone: &str, text: &str) -> Self {
        let bench = Self { home: tempfile::tempdir().unwrap() };
        let dump = format!(
            "out = '{}'\n{before}\n[model.backbone]\n{backbone}\n[model.text]\n{text}\n",
            bench.path().join("run").display()
        );
        std::fs::write(bench.path().join("dump"), dump).unwrap();
        let script = "#!/bin/sh\nhere=$(dirname \"$0\")\necho \"$*\" >> \"$here/calls\"\n\
            case \" $* \" in *' --dump '*) cat \"$here/dump\";; *) echo \"process $$\"; exit 7;; esac\n";
        let cargo = bench.path().join("cargo");
        std::fs::write(&cargo, script).unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("train").args(args).args(["--device", "cpu"]);
        command.env("CARGO", self.path().join("cargo")).env("HF_HOME", self.path());
        command.env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
        command
    }

    /// Standard error of a dry run.
    fn dry(&self, args: &[&str]) -> String {
        let output = self.command(&[&["--dry-run"], args].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        text
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.path().join("calls")).unwrap_or_default()
    }
}

#[test]
fn encoders_of_full_size_get_weights_unless_the_run_names_some() {
    let told = Bench::new("", SWIN, BERT).dry(&["-c", "run.toml"]);
    assert!(told.contains("init.visual=") && told.contains("init.text="), "{told}");
    assert!(!told.contains("random") && !told.contains("--features"), "{told}");
    assert!(told.contains("cargo run --release -p dmmi-cli"), "{told}");
    let told = Bench::new("", "kind = 'resnet'\nlayers = [3, 4, 23, 3]\nwidth = 64", BERT)
        .dry(&["--recipe", "refzom_resnet101"]);
    assert!(told.contains("resnet101-1k would be fetched"), "{told}");
    let told = Bench::new("[init]\nvisual = 'x.pth'", SWIN, BERT).dry(&["-c", "run.toml"]);
    assert!(!told.contains("--set"), "{told}");
}

#[test]
fn an_encoder_without_weights_is_told_of() {
    let narrow = SWIN.replace("128", "24");
    let told = Bench::new("", &narrow, BERT).dry(&["-c", "run.toml"]);
    assert!(told.contains("a visual encoder of this size; it starts from random"), "{told}");
    assert!(!told.contains("init.visual=") && told.contains("init.text="), "{told}");
}

#[test]
fn only_a_checkpoint_replaces_weights_on_resume() {
    let bench = Bench::new("", SWIN, BERT);
    let resume = ["-c", "run.toml", "--resume"];
    let checkpoints = bench.path().join("run/checkpoints");
    for unfinished in ["pretraining", ".tmp-9-step-2"] {
        std::fs::create_dir_all(checkpoints.join(unfinished)).unwrap();
    }
    assert!(bench.dry(&resume).contains("init.visual="));
    std::fs::create_dir(checkpoints.join("step-00000002-epoch-0001")).unwrap();
    let told = bench.dry(&resume);
    assert!(!told.contains("init.") && told.contains("checkpoint"), "{told}");
    assert!(bench.dry(&resume[..2]).contains("init.visual="));
}

#[test]
fn what_only_tells_fetches_nothing() {
    let bench = Bench::new("", SWIN, BERT);
    for option in ["--dump", "--help", "-h"] {
        assert!(!bench.dry(&["--recipe", "x", option]).contains("init."));
    }
    assert_eq!(bench.calls(), "", "a dry run of these asks nothing");
}

/// Ctrl-C reaches the training only: there is no process of ours left that could end before it.
#[test]
fn the_process_becomes_the_training() {
    let bench = Bench::new("", &SWIN.replace("128", "24"), "hidden_size = 48");
    let child = bench.command(&["-c", "run.toml"]).stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("process {id}\n"));
    assert_eq!(output.status.code(), Some(7));
    let calls = bench.calls();
    let calls: Vec<&str> = calls.lines().collect();
    assert!(calls.len() == 2 && calls[0].ends_with("--device cpu --dump"), "{calls:?}");
    assert!(calls[1].ends_with("-- train -c run.toml --device cpu"), "{calls:?}");
}
