//! `dmmi-cli info`: what a checkpoint, a configuration or a preset holds and what a pass through it costs.

mod cost;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Var};
use clap::{ArgGroup, Args};
use dmmi_model::DmmiConfig;
use dmmi_train::{Inventory, TrainConfig, load_model, load_vocabulary, param_groups, recipes};

use crate::exit::bad_input;
use crate::out::say;
use crate::progress::{count, percent};

/// Arguments of `info`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["checkpoint", "config", "recipe", "preset"]))]
#[command(after_help = "Examples:
  dmmi-cli info --checkpoint runs/quickstart
  dmmi-cli info --config run.toml --tensors
  dmmi-cli info --preset swin-base-paper --size 448
  dmmi-cli info --preset resnet50-release --size 640x480

Presets: swin-base-release, swin-base-paper, swin-base-lavt, resnet101-release, resnet101-paper, cpu-small, quickstart;
also swin-tiny, swin-small, swin-large, resnet50 (and swin-*-w7, swin-*-w12) with -release, -paper or -lavt.")]
pub(crate) struct InfoArgs {
    /// A checkpoint or run directory, or the authors' .pth
    #[arg(long, value_name = "PATH")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// A run configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// An embedded configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) recipe: Option<String>,
    /// A model preset
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Change one value of the configuration, typed as in TOML; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "checkpoint")]
    pub(crate) set: Vec<String>,
    /// Picture size of the cost table in pixels: S, or WIDTHxHEIGHT [default: the configuration's]
    #[arg(long, value_name = "SIZE", value_parser = super::synth::parse_size)]
    pub(crate) size: Option<(u32, u32)>,
    /// Tokens of an expression in the cost table [default: the configuration's]
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) words: Option<u32>,
    /// List every tensor with its shape
    #[arg(long)]
    pub(crate) tensors: bool,
}

/// What is described.
struct Described {
    model: DmmiConfig,
    inventory: Inventory,
    /// `[height, width]`, pixels.
    image: [usize; 2],
    words: usize,
}

/// Runs `info`.
pub(crate) fn run(args: InfoArgs) -> anyhow::Result<()> {
    if let Some((width, height)) = args.size
        && ![width, height].iter().all(|side| (1..=4096).contains(side))
    {
        return Err(bad_input!("--size {width}x{height}: 1 to 4096 pixels a side are possible"));
    }
    let mut what = match (&args.checkpoint, &args.config, &args.recipe, &args.preset) {
        (Some(path), ..) => of_checkpoint(path)?,
        (_, Some(path), ..) => of_config(
            TrainConfig::from_file(path, &args.set)?,
            &format!("config       {}", path.display()),
        )?,
        (_, _, Some(name), _) => {
            let text = recipes::get(name).ok_or_else(|| {
                let known = recipes::NAMES.join(", ");
                bad_input!("--recipe {name} is not known; use one of {known}, or ablation/NAME")
            })?;
            let config = TrainConfig::from_toml(text, &format!("recipe {name}"), &args.set)?;
            of_config(config, &format!("recipe       {name}"))?
        }
        (.., Some(name)) => of_config(preset(name, &args.set)?, &format!("preset       {name}"))?,
        _ => return Err(bad_input!("give --checkpoint, --config, --recipe or --preset")),
    };
    if let Some((width, height)) = args.size {
        what.image = [height as usize, width as usize];
    }
    if let Some(words) = args.words {
        what.words = words as usize;
    }
    say!("\n{}", cost::table(&what.model, &what.inventory, what.image, what.words).trim_end())?;
    say!("{:<24}{:>8}", "running statistics", what.inventory.buffers.len())?;
    say!("\n{}", cost::notes(&what.model, &what.inventory, what.image, what.words).trim_end())?;
    if args.tensors {
        say!("")?;
        for (name, dims) in what.inventory.parameters.iter().chain(&what.inventory.buffers) {
            say!("{name}  {dims:?}")?;
        }
    }
    Ok(())
}

/// The experiment a preset stands for; its data is never opened.
pub(super) fn preset(name: &str, set: &[String]) -> anyhow::Result<TrainConfig> {
    let vocab = if name == "quickstart" { "synthetic" } else { "bert-base-uncased" };
    let text = format!(
        "[data]\nvocab = \"{vocab}\"\ntrain = {{ dir = \"data\", split = \"train\" }}\n[model]\npreset = {name:?}\n"
    );
    Ok(TrainConfig::from_toml(&text, "--preset", set)?)
}

fn of_checkpoint(path: &Path) -> anyhow::Result<Described> {
    let loaded = load_model(path, &Device::Cpu)?;
    let file = loaded.file;
    say!("checkpoint   {} (every tensor present, in its shape, intact)", loaded.path.display())?;
    say!("trained      {} steps, {} epochs", file.step, file.epoch)?;
    if let Some((name, score)) = &file.score {
        say!("validation   {name} {}", percent(Some(*score)))?;
    }
    let [h, w] = file.image_size;
    say!("input        {h} x {w} pixels (height x width), {} word pieces", file.max_words)?;
    say!("vocabulary   {} pieces", file.vocab.lines().count())?;
    network(&file.model)?;
    Ok(Described {
        inventory: Inventory::of(&loaded.store),
        model: file.model,
        image: file.image_size,
        words: file.max_words,
    })
}

fn of_config(config: TrainConfig, origin: &str) -> anyhow::Result<Described> {
    let (_, vocabulary) = load_vocabulary(&config.data.vocab)?;
    let config = config.with_vocabulary(vocabulary)?;
    let inventory = Inventory::of_config(&config.model)?;
    let [h, w] = config.data.image_size;
    say!("{origin}")?;
    say!("output       {}", config.out.display())?;
    say!(
        "input        {h} x {w} pixels (height x width), {} word pieces of {vocabulary}",
        config.data.max_words
    )?;
    let s = &config.schedule;
    say!(
        "schedule     {} epochs, batch {}, power {}, warm-up {} steps",
        s.epochs,
        s.batch_size,
        s.power,
        s.warmup_steps
    )?;
    say!(
        "\n{:<24}{:>10}{:>14}{:>14}{:>14}",
        "optimiser group",
        "tensors",
        "parameters",
        "weight decay",
        "lr"
    )?;
    // Zeros are enough to sort parameters into groups.
    let zeros = |(name, dims): &(String, Vec<usize>)| {
        let var = Var::zeros(dims.as_slice(), DType::F32, &Device::Cpu)?;
        Ok::<_, candle_core::Error>((name.clone(), var))
    };
    let parameters = inventory.parameters.iter().map(zeros).collect::<Result<_, _>>()?;
    for group in param_groups(parameters, &config.optimizer) {
        let numbers: usize = group.params.iter().map(|(_, var)| var.elem_count()).sum();
        let lr = format!("{:e}", config.optimizer.lr * group.lr_scale);
        say!(
            "{:<24}{:>10}{:>14}{:>14}{lr:>14}",
            group.name,
            group.params.len(),
            count(numbers),
            group.weight_decay
        )?;
    }
    network(&config.model)?;
    Ok(Described {
        inventory,
        image: config.data.image_size,
        words: config.data.max_words,
        model: config.model,
    })
}

fn network(config: &DmmiConfig) -> anyhow::Result<()> {
    say!("\n{}", toml::to_string(&BTreeMap::from([("model", config)]))?.trim_end())?;
    Ok(())
}
