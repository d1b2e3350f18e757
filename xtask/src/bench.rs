//! `cargo xtask bench`: this implementation and PyTorch doing the same work, in turns, with outputs compared.
//!
//! Ours is `dmmi-cli bench`, PyTorch's is `benches/peer/dmmi_peer.py`, eager and compiled. Every turn is a process of its own,
//! so that memory is what a user of either would see, and turns alternate, so that a slow minute of the machine hits both.

mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use serde_json::Value;

use crate::exit::failed;

/// What the comparison takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Python with torch (2.4 or later) and numpy.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// What to measure: infer (a mask) or train (forward, losses, backward, AdamW).
    #[arg(long, value_parser = ["infer", "train"], default_value = "infer")]
    mode: String,
    /// A preset of `dmmi-cli`: swin-base-release, resnet101-release, quickstart (seconds), ...
    #[arg(long, default_value = "swin-base-release")]
    preset: String,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Arithmetic on both sides.
    #[arg(long, value_parser = ["f32", "tf32", "bf16"], default_value = "f32")]
    dtype: String,
    /// Pictures at a time.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Picture size in pixels: S or WIDTHxHEIGHT; the preset's if not given.
    #[arg(long)]
    size: Option<String>,
    /// CPU threads on both sides.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Turns of each side.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Timed passes in a turn.
    #[arg(long, default_value_t = 3)]
    iters: u32,
    /// Untimed passes before them, beside the first.
    #[arg(long, default_value_t = 1)]
    warmup: u32,
    /// Turns of compiled PyTorch; each may compile for minutes. 0: none.
    #[arg(long, default_value_t = 1)]
    compiled: usize,
    /// Seconds after which a turn is given up.
    #[arg(long, default_value_t = 1800)]
    limit: u64,
    /// PyTorch's maps in channels-last memory.
    #[arg(long)]
    channels_last: bool,
    /// Write the tables to this file, too (Markdown).
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Finds whether both sides can run, runs the turns and prints the tables; 1 if outputs disagree.
#[allow(clippy::print_stdout)] // the result
pub(crate) fn run(args: &Args) -> Result<u8> {
    ensure!(args.pairs > 0, "--pairs 0: at least one turn of each side is needed");
    let versions = Command::new(&args.python)
        .args(["-c", "import torch, numpy"])
        .output()
        .with_context(|| format!("--python {}: cannot be started", args.python.display()))?;
    ensure!(
        versions.status.success(),
        "--python {}: torch or numpy is missing there; install them (pip install torch numpy) or name another interpreter",
        args.python.display()
    );
    let sides = Sides::new(args)?;
    let work = sides.work.clone();
    let found = measure(args, &sides);
    // The weights alone are more than a gigabyte.
    let _ = std::fs::remove_dir_all(work);
    let (turns, agree) = found?;
    let text = table::markdown(args, &turns);
    println!("{text}");
    if let Some(path) = &args.out {
        std::fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !agree {
        eprintln!("error: the two sides do not give the same outputs, so their times say nothing");
    }
    Ok(u8::from(!agree))
}

/// The turns of each side, as their own JSON.
struct Turns {
    ours: Vec<Value>,
    eager: Vec<Value>,
    compiled: Vec<Value>,
    /// Why there are no compiled turns, if that was not asked for.
    not_compiled: Option<String>,
    /// What was compared, in words.
    agreement: String,
}

/// The two programs.
struct Sides {
    ours: PathBuf,
    peer: PathBuf,
    work: PathBuf,
}

impl Sides {
    fn new(args: &Args) -> Result<Self> {
        let root = crate::root();
        let mut build = Command::new(env!("CARGO"));
        build.current_dir(&root).args(["build", "--release", "--quiet", "--bin", "dmmi-cli"]);
        if args.device.starts_with("cuda") {
            build.args(["-p", "dmmi-cli", "--features", "cuda"]);
        } else {
            // The selection that the tests are built with: nothing is compiled twice.
            build.arg("--workspace");
        }
        if !build.status()?.success() {
            return Err(failed!("dmmi-cli does not build"));
        }
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let work = target.join(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&work)
            .with_context(|| format!("cannot make {}", work.display()))?;
        Ok(Self {
            ours: target.join("release/dmmi-cli"),
            peer: root.join("benches/peer/dmmi_peer.py"),
            work,
        })
    }

    fn file(&self, name: &str) -> String {
        self.work.join(name).to_string_lossy().into_owned()
    }
}

fn measure(args: &Args, sides: &Sides) -> Result<(Turns, bool)> {
    let turns = 1 + 2 * args.pairs + args.compiled;
    let bar = ProgressBar::new(turns as u64);
    let style = indicatif::ProgressStyle::with_template("{prefix} [{bar:8}] {pos}/{len} {elapsed}");
    bar.set_style(style?.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(500));
    let ours = |name: &str, more: &[&str]| {
        bar.set_prefix(format!("ours, {name}"));
        let mut command = Command::new(&sides.ours);
        command.args(["bench", "--preset", &args.preset]).args(more);
        if let Some(size) = &args.size {
            command.args(["--size", size]);
        }
        let found = turn(args, command, &sides.file("ours.json"));
        bar.inc(1);
        found
    };
    let (weights, outputs) = (sides.file("weights.safetensors"), sides.file("outputs.safetensors"));
    let more = ["--save-weights", &weights, "--save-outputs", &outputs, "--no-parts"];
    let short = [&more[..], &["--iters", "1", "--warmup", "0"]].concat();
    let first = ours("outputs", &short)?;
    let model = sides.file("model.json");
    std::fs::write(&model, serde_json::to_string(&first)?)?;
    let size = format!("{}x{}", first["width"], first["height"]);
    let peer = |name: &str, more: &[&str]| {
        bar.set_prefix(format!("PyTorch, {name}"));
        let mut command = Command::new(&args.python);
        command.arg(&sides.peer).args(["--model", &model, "--weights", &weights]);
        command.args(["--check", &outputs, "--size", &size]);
        command.args(["--tokens", &first["tokens"].to_string()]).args(more);
        if args.channels_last {
            command.arg("--channels-last");
        }
        let found = turn(args, command, &sides.file("peer.json"));
        bar.inc(1);
        found
    };
    let numbers = [args.iters.to_string(), args.warmup.to_string()];
    let timed = ["--iters", &numbers[0], "--warmup", &numbers[1]];
    let (mut mine, mut eager, mut compiled) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=args.pairs {
        let name = format!("turn {pair} of {}", args.pairs);
        mine.push(ours(&name, &timed)?);
        eager.push(peer(&format!("eager, {name}"), &timed)?);
    }
    let mut not_compiled = None;
    for pair in 1..=args.compiled {
        let more = [&timed[..], &["--compile"]].concat();
        match peer(&format!("compiled, turn {pair} of {}", args.compiled), &more) {
            Ok(found) => compiled.push(found),
            Err(error) => {
                not_compiled = Some(format!("{error:#}"));
                break;
            }
        }
    }
    bar.finish_and_clear();
    let (agree, agreement) = table::agreement(args, &eager[0]["check"])?;
    Ok((Turns { ours: mine, eager, compiled, not_compiled, agreement }, agree))
}

/// Runs one turn with the arguments both sides share, and reads what it measured.
fn turn(args: &Args, mut command: Command, json: &str) -> Result<Value> {
    let _ = std::fs::remove_file(json);
    command.args(["--mode", &args.mode, "--device", &args.device, "--dtype", &args.dtype]);
    command.args(["--batch", &args.batch.to_string(), "--threads", &args.threads.to_string()]);
    command.args(["--json", json]).stdout(Stdio::null());
    let errors = format!("{json}.stderr");
    command.stderr(std::fs::File::create(&errors)?);
    let mut child = command.spawn().context("cannot start a turn")?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed().as_secs() > args.limit {
            child.kill()?;
            child.wait()?;
            return Err(failed!("gave up after {} s (--limit)", args.limit));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.unwrap_or("ended without a message");
        // Its own answer to bad input.
        if status.code() == Some(2) {
            bail!("{last}");
        }
        return Err(failed!("{last}"));
    }
    read(Path::new(json))
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("a turn left no {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}
