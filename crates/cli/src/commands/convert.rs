//! `dmmi-cli convert`: a checkpoint of the authors' PyTorch code to a checkpoint folder of ours, and back.

use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::Args;
use dmmi_model::BackboneConfig;
use dmmi_model::names::Heads;
use dmmi_train::{ReleaseOptions, load_model, load_release, save_model, save_release};

use crate::exit::bad_input;
use crate::out::{say, shell};
use crate::progress::spinner;

/// Arguments of `convert`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli convert model_best_refcoco.pth runs/authors     PyTorch to a folder for eval, predict and train
  dmmi-cli convert runs/coco33 ours.pth                    back: torch.load, load_state_dict(strict=True)

The network's sizes are read off the shapes in the file. The numbers of attention heads cannot be: the
published ones are taken (64 channels a head in the text encoder, 8 heads in the decoders) unless stated.
Nothing in a PyTorch file is executed. Encoders alone (Swin, ResNet, BERT files) are not converted: name
them in a training's configuration, init = { visual = \"swin.pth\", text = \"bert.bin\" }.")]
pub(crate) struct ConvertArgs {
    /// A PyTorch checkpoint (.pth) with `model` and `bert_model`, or a checkpoint or run directory of ours
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// The directory to write, or the .pth file
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
    /// Attention heads of the text encoder, if they are not the published ones
    #[arg(long, value_name = "N")]
    pub(crate) text_heads: Option<usize>,
    /// Attention heads of the decoders, if they are not 8
    #[arg(long, value_name = "N")]
    pub(crate) decoder_heads: Option<usize>,
    /// The vocabulary: bert-base-uncased, synthetic, or a WordPiece vocab.txt [default: bert-base-uncased]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) vocab: Option<String>,
    /// Pixels a side of the input [default: the checkpoint's args.img_size, else 480]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(32..=4096))]
    pub(crate) image_size: Option<u32>,
    /// Word pieces of an expression [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=512))]
    pub(crate) max_words: Option<u32>,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Runs `convert`.
pub(crate) fn run(args: ConvertArgs) -> anyhow::Result<()> {
    if !args.from.exists() {
        return Err(bad_input!(
            "{} does not exist; name a PyTorch checkpoint, or a checkpoint or run directory of ours",
            args.from.display()
        ));
    }
    if args.to.exists() && !args.force {
        return Err(bad_input!(
            "{} exists; choose another name or give --force",
            args.to.display()
        ));
    }
    // --force replaces a checkpoint, never a folder of other things.
    if args.to.is_dir() && !args.to.join("model.safetensors").is_file() {
        return Err(bad_input!(
            "{} is a directory that holds no model; choose another name",
            args.to.display()
        ));
    }
    if args.from.is_file() && !is_ours(&args.from) {
        from_release(&args)
    } else {
        to_release(&args)
    }
}

fn from_release(args: &ConvertArgs) -> anyhow::Result<()> {
    if is_torch(&args.to) || args.to.is_file() {
        return Err(bad_input!(
            "{} is to become a directory; give a name without .pth",
            args.to.display()
        ));
    }
    let options = ReleaseOptions {
        heads: Heads { text: args.text_heads, decoder: args.decoder_heads },
        vocab: args.vocab.clone(),
        image_size: args.image_size.map(|side| side as usize),
        max_words: args.max_words.map(|words| words as usize),
    };
    let progress = spinner(&format!("reading {}", args.from.display()));
    let (loaded, report) = load_release(&args.from, &options, &Device::Cpu)?;
    progress.set_message(format!("writing {}", args.to.display()));
    save_model(&args.to, &loaded.store, &loaded.file)?;
    progress.finish_and_clear();
    say!("read        {}", args.from.display())?;
    say!("network     {}", summary(&loaded.file.model))?;
    let [h, w] = loaded.file.image_size;
    say!("input       {h} x {w} pixels, {} word pieces", loaded.file.max_words)?;
    for line in report.to_string().split("; ") {
        say!("tensors     {line}")?;
    }
    say!("written     {}", args.to.display())?;
    let to = shell(&args.to.display().to_string());
    say!("next        dmmi-cli eval --checkpoint {to} --data DIR --split test")?;
    Ok(())
}

fn to_release(args: &ConvertArgs) -> anyhow::Result<()> {
    if !is_torch(&args.to) {
        return Err(bad_input!(
            "{} is a checkpoint of ours, so {} must end in .pth, .pt or .bin",
            args.from.display(),
            args.to.display()
        ));
    }
    let ignored = [
        ("--text-heads", args.text_heads.is_some()),
        ("--decoder-heads", args.decoder_heads.is_some()),
        ("--vocab", args.vocab.is_some()),
        ("--image-size", args.image_size.is_some()),
        ("--max-words", args.max_words.is_some()),
    ];
    if let Some((option, _)) = ignored.iter().find(|(_, given)| *given) {
        return Err(bad_input!(
            "{option} is for PyTorch checkpoints; {} says this itself, leave it out",
            args.from.display()
        ));
    }
    let progress = spinner(&format!("reading {}", args.from.display()));
    let loaded = load_model(&args.from, &Device::Cpu)?;
    progress.set_message(format!("writing {}", args.to.display()));
    let tensors = save_release(&args.to, &loaded)?;
    progress.finish_and_clear();
    say!("read        {}", loaded.path.display())?;
    say!("network     {}", summary(&loaded.file.model))?;
    say!(
        "tensors     {tensors} under model and bert_model (dead copies, counts and position indices included)"
    )?;
    say!("written     {}", args.to.display())?;
    let (file, [h, w]) = (&loaded.file, loaded.file.image_size);
    say!(
        "not in it   heads (--text-heads {} --decoder-heads {}), {h} x {w} pixels (--image-size), {} word pieces (--max-words), the vocabulary (--vocab): needed on the way back",
        file.model.text.num_heads,
        file.model.decoder.num_heads,
        file.max_words
    )
}

/// The weights of a checkpoint folder of ours, which stand for the folder.
fn is_ours(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "model.safetensors")
        && file.with_file_name("config.json").is_file()
}

fn is_torch(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["pth", "pt", "bin"].iter().any(|known| e == *known))
}

fn summary(model: &dmmi_model::DmmiConfig) -> String {
    let visual = match &model.backbone {
        BackboneConfig::Swin(swin) => format!(
            "Swin {} channels, depths {:?}, heads {:?}, window {}",
            swin.embed_dim, swin.depths, swin.num_heads, swin.window_size
        ),
        BackboneConfig::Resnet(resnet) => {
            format!("ResNet {} channels, blocks {:?}", resnet.width, resnet.layers)
        }
    };
    let text = &model.text;
    format!(
        "{visual}; text {} layers of {} channels, {} heads; decoders {} heads",
        text.num_layers, text.hidden_size, text.num_heads, model.decoder.num_heads
    )
}
