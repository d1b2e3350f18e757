//! The program itself, killed with SIGKILL at many moments and resumed, ends with the very bytes of an undisturbed run.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use refzom_dataset::SyntheticConfig;
use refzom_dataset::synthetic::SyntheticRefZom;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmmi-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn write_inputs(root: &Path) -> PathBuf {
    let config = SyntheticConfig {
        seed: 9,
        train_scenes: 8,
        val_scenes: 2,
        test_scenes: 1,
        sentences_per_scene: 2,
        ..SyntheticConfig::quickstart()
    };
    let data = root.join("data");
    SyntheticRefZom::new(config).unwrap().write_to(&data).unwrap();
    let text = format!(
        r#"
seed = 11
[data]
image_size = [32, 32]
max_words = 12
vocab = "synthetic"
train = {{ dir = {data:?}, split = "train" }}
val = {{ dir = {data:?}, split = "val" }}
[model]
preset = "quickstart"
backbone = {{ embed_dim = 8, depths = [1, 1, 1, 1], num_heads = [1, 1, 2, 2], window_size = 4 }}
text = {{ hidden_size = 16, num_layers = 1, num_heads = 2, intermediate_size = 32 }}
decoder = {{ num_heads = 2, feed_forward = 32, dropout = 0.1 }}
[pretrain]
steps = 4
batch_size = 2
[optimizer]
lr = 1e-3
text_layers_trained = "all"
[schedule]
epochs = 3
batch_size = 2
[checkpoint]
every_steps = 3
keep_last = 2
"#
    );
    let path = root.join("run.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The bytes that decide everything afterwards.
fn final_state(run: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut steps: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect();
    steps.sort();
    let last = steps.pop().unwrap();
    assert!(last.ends_with("step-00000024-epoch-0003"), "{}", last.display());
    let read = |name: &str| std::fs::read(last.join(name)).unwrap();
    (read("model.safetensors"), read("optimizer.safetensors"))
}

fn half_written(run: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-"))
}

/// Ends the process with SIGKILL. True if it was still running.
fn kill(child: &mut Child) -> bool {
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

fn wait_until(child: &mut Child, limit: Duration, done: impl Fn() -> bool) {
    let clock = Instant::now();
    while clock.elapsed() < limit && child.try_wait().unwrap().is_none() && !done() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_and_resumed_equals_undisturbed() {
    let root = tempfile::tempdir().unwrap();
    let config = write_inputs(root.path());
    let config = config.to_str().unwrap();
    let (whole, broken) = (root.path().join("whole"), root.path().join("broken"));
    let out = |dir: &Path| dir.to_str().unwrap().to_owned();
    let base = |dir: &Path| -> Vec<String> {
        ["train", "--config", config, "--device", "cpu", "--quiet", "--out", &out(dir)]
            .map(String::from)
            .to_vec()
    };
    let start = |dir: &Path, resume: bool, slow: u64| {
        let args = base(dir);
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        if resume {
            args.push("--resume");
        }
        let mut command = program(&args);
        if slow > 0 {
            command.env("DMMI_TEST_SLOW_CHECKPOINT_MS", slow.to_string());
        }
        command.spawn().unwrap()
    };

    let status = start(&whole, false, 0).wait_with_output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));

    // Moments: before and after the first step (`[pretrain]`), inside a checkpoint write (while a `.tmp-` folder is there) and at odd times between.
    let mut in_write = 0;
    let mut kills = 0;
    for (attempt, delay) in [0_u64, 35, 10, 0, 90, 0, 60, 10, 0, 230, 60].into_iter().enumerate() {
        let mut child = start(&broken, attempt > 0, 25);
        wait_until(&mut child, Duration::from_secs(60), || half_written(&broken));
        std::thread::sleep(Duration::from_millis(delay));
        let caught = half_written(&broken);
        if kill(&mut child) {
            kills += 1;
            in_write += usize::from(caught && half_written(&broken));
        }
    }
    assert!(kills >= 5 && in_write >= 2, "{kills} kills, {in_write} of them inside a write");

    let end = start(&broken, true, 0).wait_with_output().unwrap();
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    assert!(final_state(&whole) == final_state(&broken), "weights or optimiser differ");
    assert!(!half_written(&broken), "a leftover was not removed");

    // Every step stands in the log once, with the same losses.
    let losses = |run: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(run.join("steps.csv")).unwrap();
        // All columns before the seconds, which no two runs share.
        text.lines().map(|line| line.split(',').take(9).collect::<Vec<_>>().join(",")).collect()
    };
    assert_eq!(losses(&whole), losses(&broken));
}

#[test]
fn a_run_outlives_its_standard_error_and_its_reader() {
    let root = tempfile::tempdir().unwrap();
    let config = write_inputs(root.path());
    let out = root.path().join("run");
    let (_, closed) = std::io::pipe().unwrap();
    let (config, out_text) = (config.to_str().unwrap(), out.to_str().unwrap());
    let args = ["train", "--config", config, "--device", "cpu", "--out", out_text];
    assert!(program(&args).stderr(closed).status().unwrap().success());
    final_state(&out);
}
