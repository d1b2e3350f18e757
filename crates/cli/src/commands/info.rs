//! `dmmi-cli info`: what a checkpoint or a configuration holds.

#![allow(clippy::print_stdout)] // results go to standard output

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::{ArgGroup, Args};
use dmmi_model::DmmiConfig;
use dmmi_train::{Inventory, Network, TrainConfig, load_model, load_vocabulary, param_groups};

use crate::progress::{count, percent};

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["checkpoint", "config"]))]
#[command(after_help = "Examples:
  dmmi-cli info --checkpoint runs/quickstart
  dmmi-cli info --config run.toml --tensors")]
pub(crate) struct InfoArgs {
    /// A checkpoint or run directory
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// A run configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Change one value of the configuration, typed as in TOML; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "checkpoint")]
    pub(crate) set: Vec<String>,
    /// List every tensor with its shape
    #[arg(long)]
    pub(crate) tensors: bool,
}

/// Runs `info`.
pub(crate) fn run(args: InfoArgs) -> anyhow::Result<()> {
    let inventory = match (&args.checkpoint, &args.config) {
        (Some(path), _) => of_checkpoint(path)?,
        (None, Some(path)) => of_config(path, &args.set)?,
        (None, None) => {
            return Err(crate::exit::bad_input!("give --checkpoint DIR or --config FILE"));
        }
    };
    println!("\n{:<24}{:>10}{:>14}", "part", "tensors", "parameters");
    for (part, tensors, numbers) in inventory.parts() {
        println!("{part:<24}{tensors:>10}{:>14}", count(numbers));
    }
    println!("{:<24}{:>10}{:>14}", "all", inventory.parameters.len(), count(inventory.total()));
    println!("{:<24}{:>10}", "running statistics", inventory.buffers.len());
    if args.tensors {
        println!();
        for (name, dims) in inventory.parameters.iter().chain(&inventory.buffers) {
            println!("{name}  {dims:?}");
        }
    }
    Ok(())
}

fn of_checkpoint(path: &Path) -> anyhow::Result<Inventory> {
    let loaded = load_model(path, &Device::Cpu)?;
    let file = &loaded.file;
    println!("checkpoint   {} (every tensor present, in its shape, intact)", loaded.path.display());
    println!("trained      {} steps, {} epochs", file.step, file.epoch);
    if let Some((name, score)) = &file.score {
        println!("validation   {name} {}", percent(Some(*score)));
    }
    let [h, w] = file.image_size;
    println!("input        {h} x {w} pixels (height x width), {} word pieces", file.max_words);
    println!("vocabulary   {} pieces", file.vocab.lines().count());
    network(&file.model)?;
    Ok(Inventory::of(&loaded.store))
}

fn of_config(path: &Path, set: &[String]) -> anyhow::Result<Inventory> {
    let config = TrainConfig::from_file(path, set)?;
    let (_, vocabulary) = load_vocabulary(&config.data.vocab)?;
    let config = config.with_vocabulary(vocabulary)?;
    let network_of = Network::new(&config.model, config.seed, &Device::Cpu)?;
    let [h, w] = config.data.image_size;
    println!("config       {}", path.display());
    println!("output       {}", config.out.display());
    println!(
        "input        {h} x {w} pixels (height x width), {} word pieces of {vocabulary}",
        config.data.max_words
    );
    let s = &config.schedule;
    println!(
        "schedule     {} epochs, batch {}, power {}, warm-up {} steps",
        s.epochs, s.batch_size, s.power, s.warmup_steps
    );
    println!(
        "\n{:<24}{:>10}{:>14}{:>14}{:>14}",
        "optimiser group", "tensors", "parameters", "weight decay", "lr"
    );
    for group in param_groups(network_of.store.parameters(), &config.optimizer) {
        let numbers: usize = group.params.iter().map(|(_, var)| var.elem_count()).sum();
        let lr = format!("{:e}", config.optimizer.lr * group.lr_scale);
        println!(
            "{:<24}{:>10}{:>14}{:>14}{lr:>14}",
            group.name,
            group.params.len(),
            count(numbers),
            group.weight_decay
        );
    }
    println!();
    network(&config.model)?;
    Ok(Inventory::of(&network_of.store))
}

fn network(config: &DmmiConfig) -> anyhow::Result<()> {
    println!("\n{}", toml::to_string(&BTreeMap::from([("model", config)]))?.trim_end());
    Ok(())
}
