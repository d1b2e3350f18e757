//! What an `ablate` runs and where: configurations fitted to one data set, and the folder's state.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dmmi_train::{TrainConfig, ValConfig, load_vocabulary, recipes};
use refzom_dataset::SyntheticConfig;
use serde::{Deserialize, Serialize};

use super::super::synth::{Preset, in_miniature};
use super::{AblateArgs, Outcome};
use crate::exit::{OrBadInput, bad_input};
use crate::file;

/// File of a run's scores in its folder.
pub(super) const RESULT: &str = "result.json";
/// File of the settings in `--out`.
const MARKER: &str = "settings.json";

/// Folder of the pictures in `--out`, beside a folder a run.
const DATA: &str = "data";

/// What every run of a folder shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) mini: bool,
    pub(super) epochs: Option<u32>,
    pub(super) pictures: Option<u32>,
    pub(super) seed: u64,
    pub(super) set: Vec<String>,
}

/// One configuration.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) config: TrainConfig,
    /// The configuration as text but for its folder: equal keys are equal runs.
    pub(super) key: String,
}

/// All configurations, their data and places.
pub(super) struct Plan {
    pub(super) out: PathBuf,
    pub(super) data: PathBuf,
    pub(super) settings: Settings,
    pub(super) synthetic: SyntheticConfig,
    pub(super) entries: Vec<Entry>,
}

impl Plan {
    /// Reads and checks every configuration before any is run.
    ///
    /// # Errors
    /// Bad input: an unknown name, a name given twice, a configuration that is refused.
    pub(super) fn new(args: &AblateArgs) -> Result<Self> {
        let settings = Settings {
            mini: args.mini,
            epochs: args.epochs,
            pictures: args.pictures,
            seed: args.seed,
            set: args.set.clone(),
        };
        let preset = if args.mini { Preset::Mini } else { Preset::Quickstart };
        let mut synthetic = SyntheticConfig { seed: args.seed, ..preset.config() };
        synthetic.train_scenes = args.pictures.map_or(synthetic.train_scenes, |n| n as usize);
        let data = args.out.join(DATA);
        let names = if args.names.is_empty() {
            recipes::ABLATIONS.map(String::from).to_vec()
        } else {
            args.names.clone()
        };
        for set in &args.set {
            let key = set.split('=').next().unwrap_or_default().trim();
            let instead = match key {
                "seed" => "--seed",
                "out" => "--out",
                "schedule.epochs" if args.epochs.is_some() => "--epochs alone",
                "schedule.epochs"
                | "schedule.batch_size"
                | "eval.batch_size"
                | "pretrain.steps"
                | "pretrain.batch_size"
                    if args.mini =>
                {
                    "it without --mini"
                }
                "data.train.dir" | "data.val.dir" | "data.test.dir" => {
                    "--pictures and --seed; every run sees the data made in --out"
                }
                _ => continue,
            };
            return Err(bad_input!("--set {set}: would be ignored; use {instead}"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(names.len());
        for given in &names {
            let entry = Entry::read(given, &args.out, &data, &settings)?;
            if entries.iter().any(|other| other.name == entry.name) {
                return Err(bad_input!("{} is named twice; name every run once", entry.name));
            }
            entries.push(entry);
        }
        Ok(Self { out: args.out.clone(), data, settings, synthetic, entries })
    }

    /// Takes the folder, or goes on in it.
    ///
    /// # Errors
    /// Bad input: the folder holds runs of other settings, or something else.
    pub(super) fn claim(&self) -> Result<()> {
        let out = self.out.display();
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make {out}"))
            .or_bad_input()?;
        let marker = self.out.join(MARKER);
        if marker.exists() {
            let text = fs::read_to_string(&marker)
                .with_context(|| format!("cannot read {}", marker.display()))
                .or_bad_input()?;
            return match serde_json::from_str::<Settings>(&text) {
                Ok(before) if before == self.settings => Ok(()),
                Ok(before) => Err(bad_input!(
                    "{out} holds runs with {}; give the same settings to go on, or choose another --out",
                    flags(&before)
                )),
                Err(_) => Err(bad_input!("{} is damaged; choose another --out", marker.display())),
            };
        }
        let mut entries =
            fs::read_dir(&self.out).with_context(|| format!("cannot read {out}")).or_bad_input()?;
        if entries.next().is_some() {
            return Err(bad_input!(
                "{out} is not empty and holds no ablations; choose another --out"
            ));
        }
        file::save(&marker, serde_json::to_string_pretty(&self.settings)?.as_bytes())
    }
}

impl Entry {
    fn read(given: &str, out: &Path, data: &Path, settings: &Settings) -> Result<Self> {
        let (name, text, origin) = if Path::new(given).extension().is_some_and(|e| e == "toml") {
            let text = fs::read_to_string(given)
                .with_context(|| format!("cannot read {given}"))
                .or_bad_input()?;
            let stem = Path::new(given).file_stem().unwrap_or_default().to_string_lossy();
            if stem == DATA {
                return Err(bad_input!(
                    "{given}: {DATA} is the folder of the pictures; give the file another name"
                ));
            }
            (stem.into_owned(), text, given.to_owned())
        } else {
            let text = recipes::ablation(given).ok_or_else(|| {
                let known = recipes::ABLATIONS.join(", ");
                bad_input!(
                    "{given} is no ablation; use the path of a .toml file or some of {known}"
                )
            })?;
            (given.to_owned(), text.to_owned(), format!("ablation {given}"))
        };
        let mut config = TrainConfig::from_toml(&text, &origin, &settings.set)?;
        config.out = out.join(&name);
        config.seed = settings.seed;
        config.data.train.dir = data.to_path_buf();
        let val = config.data.val.as_mut().and_then(ValConfig::split_mut);
        for split in val.into_iter().chain(&mut config.data.test) {
            split.dir = data.to_path_buf();
        }
        if let Some(epochs) = settings.epochs {
            config.schedule.epochs = epochs as usize;
        }
        if settings.mini {
            in_miniature(&mut config, 1);
        }
        let (_, vocabulary) = load_vocabulary(&config.data.vocab)?;
        config.clone().with_vocabulary(vocabulary)?;
        let key = TrainConfig { out: PathBuf::new(), ..config.clone() }.to_toml()?;
        Ok(Self { title: title(&text), name, config, key })
    }

    /// The result of an earlier command.
    ///
    /// # Errors
    /// Bad input: it is of another configuration, or cannot be read.
    pub(super) fn done(&self) -> Result<Option<Outcome>> {
        let path = self.config.out.join(RESULT);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))
            .or_bad_input()?;
        let folder = self.config.out.display();
        match serde_json::from_str::<Outcome>(&text) {
            Ok(outcome) if outcome.configuration == self.key => Ok(Some(outcome)),
            Ok(_) => Err(bad_input!(
                "{folder} holds a run of another configuration; delete the folder, or choose another --out"
            )),
            Err(error) => {
                Err(bad_input!("{} is damaged ({error}); delete {folder}", path.display()))
            }
        }
    }
}

/// The first line of a configuration, if it is a comment.
pub(super) fn title(text: &str) -> String {
    let first = text.lines().next().and_then(|line| line.strip_prefix('#'));
    first.unwrap_or_default().trim().trim_end_matches('.').to_owned()
}

/// The settings as they are typed.
fn flags(settings: &Settings) -> String {
    let mut text = format!("--seed {}", settings.seed);
    if settings.mini {
        text += " --mini";
    }
    for (flag, value) in [("--epochs", settings.epochs), ("--pictures", settings.pictures)] {
        if let Some(value) = value {
            text += &format!(" {flag} {value}");
        }
    }
    for set in &settings.set {
        text += &format!(" --set {set}");
    }
    text
}
