//! From layers of TOML to a checked [`TrainConfig`]: the release's values, then what goes with a model preset, then the recipe
//! named as `base`, then a file, then `--set`.

use std::path::Path;

use dmmi_model::{DmmiConfig, LossConfig, Variant};
use serde::Serialize;
use toml::{Table, Value};

use super::{OptimizerConfig, TrainConfig};
use crate::error::{Error, Result};
use crate::overrides::{apply_set, merge};
use crate::recipes;

/// Values a file may leave out: the release's.
fn defaults() -> Result<Table> {
    let text = r#"
seed = 0
out = "runs/dmmi"
precision = "f32"
[data]
image_size = [480, 480]
resize = "pillow10"
max_words = 20
vocab = "bert-base-uncased"
erase = "aligned"
erase_with = "pad"
order = "balanced"
workers = 2
prefetch = 4
cache_mb = 512
check_pictures = true
leaks = "warn"
[schedule]
epochs = 40
batch_size = 8
power = 0.9
parts = 1
warmup_steps = 0
[stop]
[checkpoint]
keep_last = 2
[eval]
batch_size = 8
every_epochs = 1
best_by = "overall_iou"
[model]
preset = "swin-base-release"
"#;
    let mut table: Table = text.parse().map_err(|error| built_in("defaults", error))?;
    table.insert("optimizer".into(), to_value(&OptimizerConfig::release())?);
    table.insert("loss".into(), to_value(&LossConfig::release())?);
    Ok(table)
}

/// Through text, which writes an `f32` of 0.9 as 0.9.
fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    let text = toml::to_string(value).map_err(|error| built_in("built-in configuration", error))?;
    let table: Table = text.parse().map_err(|error| built_in("built-in configuration", error))?;
    Ok(Value::Table(table))
}

fn built_in(what: &str, error: impl std::fmt::Display) -> Error {
    Error::config(what, error.to_string())
}

/// The network a preset's name stands for; its vocabulary size is left to be filled in (0).
fn preset(name: &str) -> Option<DmmiConfig> {
    let mut config = DmmiConfig::preset(name, 0)?;
    config.text.vocab_size = 0;
    Some(config)
}

/// What goes with a model preset beside the network: the paper's picture size, losses and training of the whole text encoder;
/// no weight for a loss whose branch a preset lacks.
fn beside_preset(name: &str) -> Result<Table> {
    let mut table = Table::new();
    let Some(config) = preset(name) else { return Ok(table) };
    let mut loss = match config.variant() {
        Variant::Release => LossConfig::release(),
        Variant::Paper => {
            let paper = "data.image_size = [448, 448]\noptimizer.text_layers_trained = \"all\"";
            table = paper.parse().map_err(|error| built_in("preset", error))?;
            LossConfig::paper()
        }
    };
    if !config.reconstruction.is_on() {
        loss.similarity = 0.0;
        let off = "data.erase = \"off\"".parse().map_err(|error| built_in("preset", error))?;
        merge(&mut table, off);
    }
    if !config.contrast.is_on() {
        loss.contrastive = 0.0;
    }
    table.insert("loss".into(), to_value(&loss)?);
    Ok(table)
}

/// Lays a file on the embedded recipe that it names as `base`, if any.
fn lay_on_base(file: &mut Table, origin: &str) -> Result<()> {
    let Some(base) = file.remove("base") else { return Ok(()) };
    let Some(text) = base.as_str().and_then(recipes::get) else {
        let known = recipes::NAMES.join(", ");
        return Err(Error::config(
            origin,
            format!("base = {base} is no embedded recipe; use one of {known}"),
        ));
    };
    let mut table: Table = text.parse().map_err(|error| built_in("recipe", error))?;
    if table.contains_key("base") {
        let message = format!("base = {base} has a base of its own; name that one");
        return Err(Error::config(origin, message));
    }
    merge(&mut table, std::mem::take(file));
    *file = table;
    Ok(())
}

/// Lays the rest of `[model]` on the preset it names.
fn expand_model(table: &mut Table, origin: &str) -> Result<()> {
    let Some(Value::Table(model)) = table.get_mut("model") else {
        return Err(Error::config(
            origin,
            "model must be a table, as in [model] preset = \"quickstart\"",
        ));
    };
    let Some(name) = model.remove("preset") else { return Ok(()) };
    let Some(config) = name.as_str().and_then(preset) else {
        let known = DmmiConfig::PRESETS.join(", ");
        return Err(Error::config(
            origin,
            format!(
                "model.preset = {name} is not known; use one of {known}, or another backbone with -release, -paper or -lavt, as in swin-tiny-release, resnet50-paper"
            ),
        ));
    };
    let Value::Table(mut base) = to_value(&config)? else {
        return Err(Error::config(origin, "model must be a table"));
    };
    merge(&mut base, std::mem::take(model));
    *model = base;
    Ok(())
}

impl TrainConfig {
    /// Reads a configuration file, applies `--set` overrides and checks the result.
    ///
    /// # Errors
    /// [`Error::Read`] for a missing file, [`Error::Config`] naming the key for anything else.
    pub fn from_file(path: impl AsRef<Path>, sets: &[String]) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        Self::from_toml(&text, &path.display().to_string(), sets)
    }

    /// Reads a configuration from text; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn from_toml(text: &str, origin: &str, sets: &[String]) -> Result<Self> {
        let mut file: Table = text
            .parse()
            .map_err(|error: toml::de::Error| Error::config(origin, syntax(text, &error)))?;
        lay_on_base(&mut file, origin)?;
        // A file's [model] without a preset is complete in itself; it is not laid on the default network.
        let whole_model = file
            .get("model")
            .and_then(Value::as_table)
            .is_some_and(|model| !model.contains_key("preset"));
        // A preset replaces what other presets were changed to, not what is set beside it.
        let (preset, others): (Vec<_>, Vec<_>) =
            sets.iter().partition(|set| set.trim_start().starts_with("model.preset"));
        for set in preset.into_iter().chain(others) {
            apply_set(&mut file, set).map_err(|message| Error::config("command line", message))?;
        }
        let mut table = defaults()?;
        if whole_model {
            table.remove("model");
        }
        let named = file.get("model").and_then(|model| model.get("preset")?.as_str());
        if let Some(name) = named {
            merge(&mut table, beside_preset(name)?);
        }
        merge(&mut table, file);
        expand_model(&mut table, origin)?;
        let config: Self =
            Value::Table(table).try_into().map_err(|error| unknown_key(origin, &error))?;
        config.check().map_err(|message| Error::config(origin, message))?;
        Ok(config)
    }

    /// The configuration as a file that reads back as this very value.
    ///
    /// # Errors
    /// [`Error::Config`] when a value has no TOML form (an integer above `i64::MAX`).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| built_in("configuration", error))
    }

    /// The configuration as a table, for comparison.
    pub(crate) fn to_table(&self) -> Result<Table> {
        match to_value(self)? {
            Value::Table(table) => Ok(table),
            other => {
                Err(Error::config("configuration", format!("expected a table, found {other}")))
            }
        }
    }

    /// The same with the vocabulary's size in the network, which is then complete and checked.
    ///
    /// # Errors
    /// [`Error::Config`] when the network is set to another vocabulary size, or its own check refuses it.
    pub fn with_vocabulary(mut self, size: usize) -> Result<Self> {
        let set = self.model.text.vocab_size;
        if set != 0 && set != size {
            return Err(Error::config(
                "configuration",
                format!(
                    "model.text.vocab_size = {set}, but the vocabulary data.vocab = \"{}\" has {size} entries; set it to 0 to take the vocabulary's size",
                    self.data.vocab
                ),
            ));
        }
        self.model.text.vocab_size = size;
        if self.data.max_words > self.model.text.max_positions {
            return Err(Error::config(
                "configuration",
                format!(
                    "data.max_words = {} is more than model.text.max_positions = {}; lower the first or raise the second",
                    self.data.max_words, self.model.text.max_positions
                ),
            ));
        }
        self.model
            .validate()
            .map_err(|message| Error::config("configuration", format!("model: {message}")))?;
        Ok(self)
    }
}

/// Line and reason of a TOML syntax error, without the drawing.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let line =
        error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line} is not valid TOML: {}", error.message())
}

/// serde's message already lists the keys that exist; toml's adds in which table.
fn unknown_key(origin: &str, error: &toml::de::Error) -> Error {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("not a configuration").to_owned();
    let place = lines.next().unwrap_or_default();
    let place = place.trim_start_matches("in ").replace('`', "");
    let message = if place.is_empty() { first } else { format!("{place}: {first}") };
    Error::config(origin, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Score, TextLayers, ValConfig};

    const DATA: &str = "[data]\ntrain = { dir = \"d\", split = \"train\" }\n";

    fn read(text: &str, sets: &[&str]) -> Result<TrainConfig> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        TrainConfig::from_toml(text, "run.toml", &sets)
    }

    #[track_caller]
    fn refused(text: &str, sets: &[&str], words: &[&str]) {
        let message = read(text, sets).expect_err("must be refused").to_string();
        for word in words {
            assert!(message.contains(word), "no \"{word}\" in: {message}");
        }
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn what_a_file_leaves_out_is_the_releases() {
        let config = read(DATA, &[]).expect("valid");
        assert_eq!(config.optimizer, OptimizerConfig::release());
        assert_eq!(config.optimizer.text_layers_trained, TextLayers::First(10));
        assert_eq!((config.schedule.epochs, config.schedule.power), (40, 0.9));
        assert_eq!(config.loss, LossConfig::release());
        let mut release = DmmiConfig::swin_base_release();
        release.text.vocab_size = 0;
        assert_eq!(config.model, release);
        assert_eq!(
            config.with_vocabulary(30522).expect("fits").model,
            DmmiConfig::swin_base_release()
        );
    }

    #[test]
    fn the_resolved_configuration_reads_back_and_is_pleasant_to_read() {
        let sets =
            ["optimizer.text_layers_trained=all", "eval.best_by=balanced", "stop.minutes=2.5"];
        let config = read(DATA, &sets).expect("valid").with_vocabulary(30522).expect("fits");
        let text = config.to_toml().expect("has a TOML form");
        assert!(text.contains("class_weights = [0.9, 1.1]"), "{text}");
        assert_eq!(read(&text, &[]).expect("reads back"), config);
        assert_eq!(config.eval.best_by, Score::Balanced);
        assert_eq!(config.optimizer.text_layers_trained, TextLayers::All);
    }

    #[test]
    fn presets_are_laid_under_the_file_and_set_over_both() {
        let text = format!("{DATA}[model]\npreset = \"quickstart\"\ntext = {{ num_layers = 3 }}\n");
        let config = read(&text, &["model.text.hidden_size=32", "model.backbone.embed_dim=16"])
            .expect("valid");
        assert_eq!((config.model.text.num_layers, config.model.text.hidden_size), (3, 32));
        assert_eq!(config.model.decoder, DmmiConfig::quickstart(0).decoder);
        // Also without a [model] table in the file.
        let config = read(DATA, &["model.text.num_layers=2"]).expect("valid");
        assert_eq!(config.model.text.num_layers, 2);
    }

    #[test]
    fn a_preset_brings_its_losses_and_picture_size() {
        let with = |preset: &str, more: &str| {
            read(&format!("{DATA}{more}\n[model]\npreset = \"{preset}\"\n"), &[]).expect(preset)
        };
        let paper = with("swin-base-paper", "");
        assert_eq!((paper.data.image_size, &paper.loss), ([448, 448], &LossConfig::paper()));
        assert_eq!(paper.optimizer.text_layers_trained, TextLayers::All);
        assert_eq!(with("resnet101-release", "").loss, LossConfig::release());
        let lavt = with("swin-base-lavt", "");
        assert_eq!((lavt.loss.similarity, lavt.loss.contrastive), (0.0, 0.0));
        // The file has the last word.
        let own = with("swin-base-paper", "image_size = [96, 64]\n[loss]\nsimilarity = 0.5");
        assert_eq!((own.data.image_size, own.loss.similarity), ([96, 64], 0.5));
        let text = own.to_toml().expect("has a TOML form");
        assert_eq!(read(&text, &[]).expect("reads back"), own);
    }

    /// By these lines `cargo xtask train` knows which pretrained weights fit (`sets_of` there).
    #[test]
    fn published_encoders_are_told_by_their_sizes() {
        let swin = "kind = \"swin\"\npatch_size = 4\nembed_dim = 128\ndepths = [2, 2, 18, 2]\nnum_heads = [4, 8, 16, 32]\nmlp_ratio = 4";
        let resnet = "kind = \"resnet\"\nlayers = [3, 4, 23, 3]\nwidth = 64";
        let bert = "hidden_size = 768\nnum_layers = 12\nnum_heads = 12\nintermediate_size = 3072\nmax_positions = 512";
        for (preset, visual) in [("swin-base-lavt", swin), ("resnet101-paper", resnet)] {
            let config = read(DATA, &[&format!("model.preset={preset}")]).expect(preset);
            let table: Table =
                config.to_toml().expect("has a TOML form").parse().expect("reads back");
            for (part, sizes) in [("backbone", visual), ("text", bert)] {
                let sizes: Table = sizes.parse().expect("valid");
                assert!(
                    sizes.iter().all(|(k, v)| table["model"][part].get(k) == Some(v)),
                    "{part}"
                );
            }
        }
    }

    #[test]
    fn a_file_can_start_from_a_recipe() {
        let plain = TrainConfig::from_toml(recipes::get("quickstart").expect("embedded"), "", &[]);
        let plain = plain.expect("valid");
        let text = "base = \"quickstart\"\nseed = 8\n[model.fusion]\nlambda = \"fixed\"\n";
        let config = read(text, &["schedule.epochs=9"]).expect("valid");
        assert_eq!((config.seed, config.schedule.epochs), (8, 9));
        assert_eq!(config.optimizer, plain.optimizer);
        assert_eq!(config.model.fusion.lambda, dmmi_model::Lambda::Fixed);
        assert_eq!(config.model.backbone, plain.model.backbone);
        refused("base = \"nothing\"", &[], &["base", "nothing", "quickstart"]);
        // Its validation split and its network are replaced, not mixed.
        let text = format!("base = \"quickstart\"\n{DATA}val = {{ carve = 0.2 }}");
        let sets =
            ["model.text.num_layers=3", "model.preset=resnet50-release", "loss.class_weights="];
        let config = read(&text, &sets).expect("valid");
        assert!(matches!(config.data.val, Some(ValConfig::Carve(_))));
        let preset = DmmiConfig::preset("resnet50-release", 0).expect("known");
        assert_eq!((config.model.backbone, config.model.text.num_layers), (preset.backbone, 3));
    }

    #[test]
    fn losses_and_branches_must_agree() {
        let off = ["model.reconstruction=off"];
        refused(DATA, &off, &["loss.similarity", "model.reconstruction", "0"]);
        let both = ["model.reconstruction=off", "loss.similarity=0"];
        assert!(!read(DATA, &both).expect("valid").model.reconstruction.is_on());
        refused(DATA, &["model.contrast=off"], &["loss.contrastive", "model.contrast"]);
        refused(DATA, &["loss.variant=paper"], &["loss.class_weights", "paper"]);
        refused(DATA, &["model.fusion.lamda=fixed"], &["lamda", "lambda"]);
        refused(DATA, &["model.fusion.variant=other"], &["other", "release", "paper"]);
        let blind = read(DATA, &["model.decoder.words=ignored", "model.fusion.directions=none"]);
        let message = blind.expect("checked later").with_vocabulary(9).expect_err("no words");
        assert!(message.to_string().contains("decoder.words"), "{message}");
    }

    #[test]
    fn faults_name_the_key_and_the_remedy() {
        refused("", &[], &["run.toml", "data", "train"]);
        refused("a = ", &[], &["run.toml", "line 1"]);
        refused(&format!("{DATA}[optimiser]\nlr = 1"), &[], &["optimiser", "optimizer"]);
        refused(DATA, &["optimizer.beta=1"], &["beta", "betas"]);
        refused(DATA, &["model.backbone.depth=1"], &["depth"]);
        refused(DATA, &["optimizer.betas=[0.9, 1.0]"], &["optimizer.betas", "1"]);
        refused(DATA, &["optimizer.text_layers_trained=some"], &["text_layers_trained", "all"]);
        refused(DATA, &["data.order=random"], &["random", "shuffled"]);
        refused(DATA, &["model.preset=vgg"], &["model.preset", "vgg", "swin-base-release"]);
        refused(DATA, &["stop.minutes=-1"], &["stop.minutes"]);
        refused(DATA, &["seed=-1"], &["seed"]);
        let wide = read(DATA, &["data.max_words=600"]).expect_err("too many words").to_string();
        assert!(wide.contains("data.max_words"), "{wide}");
        let other =
            read(DATA, &["model.text.vocab_size=7"]).expect("checked later").with_vocabulary(8);
        assert!(other.expect_err("differs").to_string().contains("model.text.vocab_size"));
    }
}
