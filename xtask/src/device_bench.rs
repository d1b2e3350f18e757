//! `cargo xtask device-bench`: builds the program for CUDA here, packs it with a driver script, and measures where the GPU is.
//!
//! A machine with a GPU often has neither Rust nor network. It needs the repository, the packed program and a Python with
//! torch; `benches/device/run.py` does all the rest in one call.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cuda_toolchain::{lay_out, usual_dir};
use crate::exit::{code, failed};

/// What is done here.
#[derive(clap::Args)]
#[command(after_help = "On this machine, when it has a GPU (nvidia-smi answers); elsewhere:
  cargo xtask device-bench --pack        here, without a GPU: leaves target/device-bench/dmmi-cli.xz
  python3 benches/device/run.py          there, in the repository, with that file in place

The driver runs the self-test, inference and training beside PyTorch, and a short training, within a time limit, and prints
a table; --help of the script lists its options.")]
pub(crate) struct Args {
    /// Build and pack only
    #[arg(long)]
    pack: bool,
    /// Do not build: the packed program is there
    #[arg(long, conflicts_with = "pack")]
    no_build: bool,
    /// Options of benches/device/run.py, after --
    #[arg(last = true, value_name = "OPTIONS")]
    rest: Vec<String>,
}

/// Runs the verb.
#[allow(clippy::print_stdout)] // the verb's result
pub(crate) fn run(args: &Args) -> Result<u8> {
    let root = crate::root();
    let packed = root.join("target/device-bench/dmmi-cli.xz");
    if !args.no_build {
        build(&root)?;
        pack(&root, &packed)?;
        println!("packed {}", packed.display());
    }
    if args.pack {
        return Ok(0);
    }
    if !Command::new("nvidia-smi").arg("-L").output().is_ok_and(|o| o.status.success()) {
        println!(
            "no GPU on this machine: nothing was measured. Take the repository and that file to one, and run there:"
        );
        println!("  python3 benches/device/run.py");
        return Ok(0);
    }
    let status = Command::new("python3")
        .arg(root.join("benches/device/run.py"))
        .args(&args.rest)
        .current_dir(&root)
        .status()
        .context("cannot start python3")?;
    Ok(code(status))
}

fn build(root: &Path) -> Result<()> {
    lay_out(&usual_dir())?;
    let line = ". target/cuda-13.0/env.sh && exec \"$0\" build --release --workspace --bin dmmi-cli --features dmmi-cli/cuda,dmmi-cli/cudnn";
    let status = Command::new("bash")
        .args(["-c", line, env!("CARGO")])
        .current_dir(root)
        .status()
        .context("cannot start bash")?;
    if !status.success() {
        return Err(failed!("the build with CUDA failed"));
    }
    Ok(())
}

fn pack(root: &Path, packed: &Path) -> Result<()> {
    let folder = packed.parent().context("a packed file lies in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let plain = packed.with_extension("");
    let run = |program: &str, args: &[&std::ffi::OsStr]| -> Result<()> {
        let status = Command::new(program).args(args).status();
        let status = status.with_context(|| format!("cannot start {program}"))?;
        if status.success() { Ok(()) } else { Err(failed!("{program} failed ({status})")) }
    };
    let built = root.join("target/release/dmmi-cli");
    run("strip", &["-o".as_ref(), plain.as_os_str(), built.as_os_str()])?;
    run("xz", &["-T0".as_ref(), "-3".as_ref(), "-f".as_ref(), plain.as_os_str()])
}
