//! `cargo xtask fetch-weights SET..`: pretrained weights from the Hugging Face hub, verified and locked.

#![allow(clippy::print_stdout)] // results go to standard output, progress to standard error

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::hub::{Client, LockFile, Patience, Settings};
use crate::weights::{ALL, Weights, ensure};

/// Which sets, and how long to bear with the hub.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Environment, as in Hugging Face's own tools:
  HF_HOME          where the cache is [default: ~/.cache/huggingface]; HF_HUB_CACHE names it directly
  HF_ENDPOINT      a mirror [default: https://huggingface.co]
  HF_TOKEN         for private or gated repositories; sent to the endpoint only
  HF_HUB_OFFLINE   1: no request is made

Every file is verified against the size and checksum that the hub states and against data/weights.lock, which the
first fetch writes. An interrupted fetch goes on where it stopped; a finished one needs no network again.

Examples:
  cargo xtask fetch-weights --list
  cargo xtask fetch-weights swin-base-384-22k bert-base-uncased
  cargo xtask fetch-weights all")]
pub(crate) struct Args {
    /// Names of sets, or `all`; --list shows them
    sets: Vec<String>,
    /// Only say which sets there are and what is here already; makes no request
    #[arg(long, conflicts_with = "sets")]
    list: bool,
    #[command(flatten)]
    hub: HubArgs,
    /// Another list of files
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// How to deal with the hub; shared by the verbs that fetch.
#[derive(clap::Args)]
pub(crate) struct HubArgs {
    /// Ask the hub anew what a revision stands for, and write the lock entries anew
    #[arg(long)]
    update: bool,
    /// Further tries after one that brought nothing
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
    /// Give up on a connection that is silent for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    silence: u64,
    /// Another lock file
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

impl Default for HubArgs {
    fn default() -> Self {
        Self { update: false, retries: 5, silence: 60, lock: None }
    }
}

impl HubArgs {
    /// The client these ask for, with the environment's hub and cache.
    pub(crate) fn client(&self) -> Result<Client> {
        let silence = Duration::from_secs(self.silence);
        let patience = Patience { retries: self.retries, silence };
        Ok(Client::new(Settings::from_env()?, patience, self.update))
    }

    /// The lock file, by default `usual`.
    pub(crate) fn lock(&self, usual: PathBuf) -> Result<LockFile> {
        LockFile::open(self.lock.as_ref().unwrap_or(&usual))
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let weights = Weights::open(args.manifest.as_ref().unwrap_or(&Weights::usual_path()))?;
    let mut lock = args.hub.lock(Weights::usual_lock())?;
    let client = args.hub.client()?;
    if args.list || args.sets.is_empty() {
        for weight in weights.files() {
            println!("{:<20} {} ({})", weight.set, weight.address(), weight.licence);
            let here = client.peek(&weight.address(), &lock);
            let here = here.map_or("not fetched yet".into(), |path| path.display().to_string());
            println!("{:<20} {} weights for {}; {here}", "", weight.part, weight.used_by);
        }
        println!("{ALL:<20} all of these");
        return Ok(0);
    }
    ensure(&client, &weights.of(&args.sets)?, &mut lock, |weight, path, outcome| {
        println!("{}\t{}\t{}\t{outcome}", weight.set, weight.part, path.display());
    })?;
    Ok(0)
}
