//! `cargo xtask train ..`: looks after pretrained weights and CUDA, then starts `dmmi-cli train` with the same arguments.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::fetch_weights::HubArgs;
use crate::weights::{Weights, ensure};

/// What is passed on, and what is not.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
#[command(
    after_help = "Full-size recipes start from pretrained encoders: unless init is given, the weights are fetched if need be
(see cargo xtask fetch-weights) and passed on as --set init.visual=.. --set init.text=..
CUDA is used when there are a GPU and nvcc (installed, or by cargo xtask cuda-toolchain), unless --device cpu is given.

Examples:
  cargo xtask train --recipe refzom_swin_base
  cargo xtask train --dry-run --config run.toml --set optimizer.lr=1e-4
  cargo xtask train --no-weights --recipe refzom_swin_base --device cpu"
)]
pub(crate) struct Args {
    /// Print the command and stop; nothing is fetched
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
    let mut command = match &cuda {
        // The toolchain's environment comes first.
        Some(Cuda { env: Some(env), .. }) => {
            let mut command = Command::new("bash");
            command.args(["-c", ". \"$0\" && exec \"$@\""]).arg(env).arg(env!("CARGO"));
            command
        }
        _ => Command::new(env!("CARGO")),
    };
    command.args(["run", "--release", "-p", "dmmi-cli"]).arg("--manifest-path");
    command.arg(crate::root().join("Cargo.toml"));
    if let Some(cuda) = &cuda {
        command.args(["--features", cuda.features]);
    }
    command.arg("--").arg("train").args(&args.rest);
    if !args.no_weights {
        command.args(init(&args.rest, args.dry_run)?);
    }
    eprintln!("{}", shown(&command));
    if args.dry_run {
        return Ok(0);
    }
    let status = command.status().context("cannot start cargo")?;
    // Ended by a signal: no status.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

/// `--set init.visual=.. --set init.text=..` for a run that wants pretrained encoders and names none.
///
/// The one place that knows how a run's configuration names its first weights.
fn init(rest: &[String], dry_run: bool) -> Result<Vec<String>> {
    let sets = wanted_sets(rest)?;
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let weights = Weights::open(&Weights::usual_path())?;
    let wanted = weights.of(sets)?;
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

/// The sets of weights that a run starts from; none when it names its own, goes on, or is no full-size one.
fn wanted_sets(rest: &[String]) -> Result<&'static [&'static str]> {
    let given = values(rest, "--set", None);
    let names_init = |text: &str| text.starts_with("init=") || text.starts_with("init.");
    if rest.iter().any(|arg| arg == "--resume") || given.iter().any(|set| names_init(set)) {
        return Ok(&[]);
    }
    let recipe = values(rest, "--recipe", None).pop();
    let config = values(rest, "--config", Some("-c")).pop();
    let path = match (&recipe, &config) {
        (Some(name), _) => {
            crate::root().join("crates/dmmi-train/recipes").join(format!("{name}.toml"))
        }
        (None, Some(path)) => PathBuf::from(path),
        // dmmi-cli says what is missing.
        (None, None) => return Ok(&[]),
    };
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(&[]) };
    let file: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
    if file.contains_key("init") {
        return Ok(&[]);
    }
    let preset = given.iter().rev().find_map(|set| set.strip_prefix("model.preset="));
    let of_file = || file.get("model")?.get("preset")?.as_str();
    Ok(sets_of(preset.or_else(of_file).unwrap_or_default().trim_matches('"')))
}

/// The sets of a full-size preset.
fn sets_of(preset: &str) -> &'static [&'static str] {
    if preset.starts_with("swin-base-") {
        &["swin-base-384-22k", "bert-base-uncased"]
    } else if preset.starts_with("resnet101-") {
        &["resnet101-1k", "bert-base-uncased"]
    } else {
        &[]
    }
}

/// Values of an option, written `--name value` or `--name=value`.
fn values<'a>(args: &'a [String], long: &str, short: Option<&str>) -> Vec<&'a str> {
    let mut out = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == long || Some(arg.as_str()) == short {
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
    if values(rest, "--device", None).pop() == Some("cpu") {
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

    fn sets(args: &str) -> &'static [&'static str] {
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        wanted_sets(&args).unwrap()
    }

    #[test]
    fn full_size_runs_want_weights_unless_they_name_some() {
        let swin = ["swin-base-384-22k", "bert-base-uncased"];
        assert_eq!(sets("--recipe refzom_swin_base"), swin);
        assert_eq!(sets("--recipe=refzom_swin_base --set optimizer.lr=1"), swin);
        assert_eq!(
            sets("--recipe refzom_swin_base --set model.preset=\"resnet101-release\""),
            ["resnet101-1k", "bert-base-uncased"]
        );
        assert!(sets("--recipe refzom_swin_base --set init=x.safetensors").is_empty());
        assert!(sets("--recipe refzom_swin_base --set=init.visual=x").is_empty());
        assert!(sets("--recipe refzom_swin_base --resume").is_empty());
        assert!(sets("--recipe quickstart").is_empty());
        assert!(sets("--recipe nothing").is_empty());
        assert!(sets("--quiet").is_empty());
    }

    #[test]
    fn a_configuration_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        std::fs::write(&path, "[model]\npreset = \"resnet101-paper\"").unwrap();
        let args = ["-c".to_owned(), path.display().to_string()];
        assert_eq!(wanted_sets(&args).unwrap(), ["resnet101-1k", "bert-base-uncased"]);
        std::fs::write(&path, "init = \"w\"\n[model]\npreset = \"resnet101-paper\"").unwrap();
        assert!(wanted_sets(&args).unwrap().is_empty());
    }

    #[test]
    fn the_command_can_be_typed_again() {
        let mut command = Command::new("cargo");
        command.args(["run", "--set", "train.dir=it's here"]);
        assert_eq!(shown(&command), r"cargo run --set 'train.dir=it'\''s here'");
    }
}
