//! `cargo xtask train ..`: looks after pretrained weights and CUDA, then starts `dmmi-cli train` with the same arguments.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::fetch_weights::HubArgs;
use crate::weights::{Weights, ensure};

/// What is passed on, and what is not.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
#[command(
    after_help = "Full-size encoders start from pretrained weights: unless init is given, or --resume finds a checkpoint, these are
fetched if need be (see cargo xtask fetch-weights) and passed on as --set init.visual=.. --set init.text=..
CUDA is used when there are a GPU and nvcc (installed, or by cargo xtask cuda-toolchain), unless --device cpu is given.

Examples:
  cargo xtask train --recipe refzom_swin_base
  cargo xtask train --dry-run --config run.toml --set optimizer.lr=1e-4
  cargo xtask train --no-weights --recipe refzom_swin_base --device cpu"
)]
pub(crate) struct Args {
    /// Print the command and stop; nothing is fetched, but dmmi-cli is built to ask it for the run's configuration
    #[arg(long)]
    dry_run: bool,
    /// Do not start from pretrained encoders
    #[arg(long)]
    no_weights: bool,
    /// Arguments of `dmmi-cli train`; options of this command stand before them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGUMENTS"
    )]
    rest: Vec<String>,
}

/// Runs the verb; the exit status of the training.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let cuda = cuda(&args.rest);
    let mut command = train(cuda.as_ref(), &args.rest);
    let only_tells = ["--dump", "--help", "-h"];
    if !args.no_weights && !args.rest.iter().any(|arg| only_tells.contains(&arg.as_str())) {
        let mut ask = train(cuda.as_ref(), &args.rest);
        let answer = ask.arg("--dump").stderr(Stdio::inherit()).output();
        let answer = answer.context("cannot start cargo")?;
        if !answer.status.success() {
            // It has said why.
            return Ok(crate::exit::code(answer.status));
        }
        let config = toml::from_str(&String::from_utf8_lossy(&answer.stdout))
            .context("the answer of dmmi-cli train --dump")?;
        command.args(init(&config, &args.rest, args.dry_run)?);
    }
    eprintln!("{}", shown(&command));
    if args.dry_run {
        return Ok(0);
    }
    hand_over(command).context("cannot start cargo")
}

/// `dmmi-cli train` with these arguments, from the cargo that runs this.
fn train(cuda: Option<&Cuda>, rest: &[String]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = match cuda.and_then(|cuda| cuda.env.as_ref()) {
        // The toolchain's environment comes first.
        Some(env) => {
            let mut command = Command::new("bash");
            command.args(["-c", ". \"$0\" && exec \"$@\""]).arg(env).arg(cargo);
            command
        }
        None => Command::new(cargo),
    };
    command.args(["run", "--release", "-p", "dmmi-cli"]).arg("--manifest-path");
    command.arg(crate::root().join("Cargo.toml"));
    if let Some(cuda) = cuda {
        command.args(["--features", cuda.features]);
    }
    command.arg("--").arg("train").args(rest);
    command
}

/// Becomes the command, as cargo becomes `dmmi-cli`: Ctrl-C then reaches the training alone, and the prompt waits for it.
#[cfg(unix)]
fn hand_over(mut command: Command) -> std::io::Result<u8> {
    Err(std::os::unix::process::CommandExt::exec(&mut command))
}

#[cfg(not(unix))]
fn hand_over(mut command: Command) -> std::io::Result<u8> {
    command.status().map(crate::exit::code)
}

/// What a run's resolved configuration says about its first weights.
#[derive(Deserialize)]
struct Config {
    out: PathBuf,
    init: Option<toml::Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    backbone: toml::Table,
    text: toml::Table,
}

/// `--set init.visual=.. --set init.text=..` for a run that starts and names no weights; says so when it gets none.
///
/// The one place that knows how a run's configuration names its first weights.
fn init(config: &Config, rest: &[String], dry_run: bool) -> Result<Vec<String>> {
    if config.init.is_some() {
        return Ok(Vec::new());
    }
    if rest.iter().any(|arg| arg == "--resume") && has_checkpoint(&config.out) {
        eprintln!("weights: those of the run's checkpoint");
        return Ok(Vec::new());
    }
    let sets = sets_of(&config.model);
    for part in ["visual", "text"] {
        if !sets.iter().any(|(of, _)| *of == part) {
            eprintln!(
                "weights: none are listed for a {part} encoder of this size; it starts from random values (init.{part} names a file)"
            );
        }
    }
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let weights = Weights::open(&Weights::usual_path())?;
    let wanted = weights.of(&sets.into_iter().map(|(_, set)| set).collect::<Vec<_>>())?;
    let (hub, mut out) = (HubArgs::default(), Vec::new());
    let (client, mut lock) = (hub.client()?, hub.lock(Weights::usual_lock())?);
    let mut set = |part: &str, path: PathBuf| {
        out.extend(["--set".to_owned(), format!("init.{part}={}", path.display())]);
    };
    if dry_run {
        for weight in wanted {
            let missing = || PathBuf::from(format!("({} would be fetched)", weight.set));
            set(&weight.part, client.peek(&weight.address(), &lock).unwrap_or_else(missing));
        }
        return Ok(out);
    }
    ensure(&client, &wanted, &mut lock, |weight, path, outcome| {
        eprintln!("{}: {outcome}", weight.set);
        set(&weight.part, path);
    })
    .context("pretrained weights; --no-weights trains without them")?;
    Ok(out)
}

/// Whether a run's folder holds a checkpoint to go on from; the state of an unfinished `[pretrain]` is none.
fn has_checkpoint(out: &Path) -> bool {
    let step = |name: std::ffi::OsString| name.to_string_lossy().starts_with("step-");
    std::fs::read_dir(out.join("checkpoints"))
        .is_ok_and(|entries| entries.flatten().any(|entry| step(entry.file_name())))
}

/// The part and the set of weights of each encoder that has the size of one.
fn sets_of(model: &Model) -> Vec<(&'static str, &'static str)> {
    let has = |part: &toml::Table, sizes: &str| {
        let sizes: toml::Table = sizes.parse().unwrap_or_default();
        !sizes.is_empty() && sizes.iter().all(|(key, size)| part.get(key) == Some(size))
    };
    // Position tables are fitted to any window.
    let swin = "kind = 'swin'\npatch_size = 4\nembed_dim = 128\ndepths = [2, 2, 18, 2]\nnum_heads = [4, 8, 16, 32]\nmlp_ratio = 4";
    let resnet = "kind = 'resnet'\nlayers = [3, 4, 23, 3]\nwidth = 64";
    let bert = "hidden_size = 768\nnum_layers = 12\nnum_heads = 12\nintermediate_size = 3072\nmax_positions = 512";
    [
        (&model.backbone, swin, ("visual", "swin-base-384-22k")),
        (&model.backbone, resnet, ("visual", "resnet101-1k")),
        (&model.text, bert, ("text", "bert-base-uncased")),
    ]
    .into_iter()
    .filter_map(|(part, sizes, set)| has(part, sizes).then_some(set))
    .collect()
}

/// Values of an option, written `--name value` or `--name=value`.
fn values<'a>(args: &'a [String], long: &str) -> Vec<&'a str> {
    let mut out = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == long {
            out.extend(args.next().map(String::as_str));
        } else if let Some(value) = arg.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
            out.push(value);
        }
    }
    out
}

/// A build with CUDA.
struct Cuda {
    features: &'static str,
    /// The environment of `cargo xtask cuda-toolchain`, where no CUDA is installed.
    env: Option<PathBuf>,
}

/// Whether and how to build with CUDA; says why.
fn cuda(rest: &[String]) -> Option<Cuda> {
    if values(rest, "--device").pop() == Some("cpu") {
        return None;
    }
    let runs = |program: &Path, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.is_ok_and(|output| output.status.success())
    };
    let gpu = Path::new("/dev/nvidia0").exists() || runs(Path::new("nvidia-smi"), "-L");
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let homes = homes.map(PathBuf::from).chain([PathBuf::from("/usr/local/cuda")]);
    let nvcc = runs(Path::new("nvcc"), "--version")
        || homes.into_iter().any(|home| runs(&home.join("bin/nvcc"), "--version"));
    let env = crate::cuda_toolchain::usual_dir().join("env.sh");
    let env = if nvcc { None } else { Some(env).filter(|env| env.is_file()) };
    if !gpu || !(nvcc || env.is_some()) {
        eprintln!(
            "{}",
            if gpu {
                "CUDA: there is a GPU but no nvcc to build for it; computing on the CPU. `cargo xtask cuda-toolchain` brings one"
            } else {
                "CUDA: no GPU; computing on the CPU"
            }
        );
        return None;
    }
    let features = if has_cudnn() { "cuda,cudnn" } else { "cuda" };
    eprintln!("CUDA: a GPU and nvcc are here, building with --features {features}");
    if features == "cuda" {
        eprintln!(
            "CUDA: libcudnn.so.9 is not on the library path; convolutions go without it, slower"
        );
    }
    Some(Cuda { features, env })
}

/// Whether the loader would find cuDNN 9.
fn has_cudnn() -> bool {
    const NAME: &str = "libcudnn.so.9";
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let listed = || Command::new("ldconfig").arg("-p").output();
    std::env::split_paths(&folders).any(|folder| folder.join(NAME).exists())
        || listed().is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains(NAME))
}

/// As one would type it.
fn shown(command: &Command) -> String {
    let quoted = |text: &std::ffi::OsStr| {
        let text = text.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
        if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let words: Vec<String> = command.get_args().map(quoted).collect();
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    format!("{} {}", program.to_string_lossy(), words.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_can_be_typed_again() {
        let mut command = Command::new("cargo");
        command.args(["run", "--set", "train.dir=it's here"]);
        assert_eq!(shown(&command), r"cargo run --set 'train.dir=it'\''s here'");
    }
}
