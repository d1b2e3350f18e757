//! Runs the real program; makes a checkpoint with untrained weights, which is enough to predict with.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use candle_core::Device;
use dmmi_model::DmmiConfig;
use dmmi_train::{ModelFile, Network, save_model};
use refzom_dataset::synthetic::synthetic_vocab;

/// What a run of the program said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `dmmi-cli` with `args`, feeding `stdin`.
pub(crate) fn dmmi(args: &[&str], stdin: &[u8]) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dmmi-cli"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may refuse before it reads: a closed pipe is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

impl Said {
    /// Asserts bad input: exit code 2, nothing on standard output, one line that names `parts`.
    pub(crate) fn refuses(&self, parts: &[&str]) {
        let Self { code, stdout, stderr } = self;
        assert_eq!(*code, Some(2), "{stderr}");
        assert_eq!(stdout, "", "standard output of a refusal");
        assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "expected {part:?} in: {stderr}");
        }
    }

    /// Asserts success.
    pub(crate) fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }
}

/// Writes an untrained checkpoint.
pub(crate) fn checkpoint(dir: &Path) {
    let vocab = synthetic_vocab();
    let model = DmmiConfig::quickstart(vocab.lines().count());
    // The tests' threads have small stacks; building a network needs none of the training's.
    let network = Network::new(&model, 5, &Device::Cpu).unwrap();
    let file = ModelFile {
        format: 1,
        model,
        image_size: [64, 64],
        resize: Default::default(),
        max_words: 20,
        vocab,
        step: 0,
        epoch: 0,
        score: None,
    };
    save_model(dir, &network.store, &file).unwrap();
}
