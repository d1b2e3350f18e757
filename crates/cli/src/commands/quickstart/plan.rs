//! What a quickstart does and where: the embedded recipe, fitted to the settings, and the folder's state.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use dmmi_train::{TrainConfig, ValConfig, recipes};
use refzom_dataset::SyntheticConfig;
use serde::{Deserialize, Serialize};

use super::super::synth::{Preset, in_miniature};
use crate::exit::{OrBadInput, bad_input};
use crate::file;

/// The recipe's schedule is made for at most so many minutes on two CPU cores, everything included. There is
/// no limit by the clock: it would cut the schedule short on a slower machine, and no two runs would be alike.
const RECIPE_MINUTES: f64 = 10.0;

/// What the user chose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// A few pictures and steps only.
    pub(crate) mini: bool,
    /// Length of the schedule.
    pub(crate) minutes: f64,
    /// Seed of data and training.
    pub(crate) seed: u64,
}

/// Data, training and places.
pub(crate) struct Plan {
    /// Where everything goes.
    pub(crate) out: PathBuf,
    /// What the user chose.
    pub(crate) settings: Settings,
    /// The pictures and sentences to make.
    pub(crate) synthetic: SyntheticConfig,
    /// The training.
    pub(crate) train: TrainConfig,
}

/// What the folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    New,
    /// An unfinished run of the same settings.
    Begun,
}

impl Plan {
    /// The recipe `quickstart` with its files in `out`.
    ///
    /// # Errors
    /// If the recipe is broken, which a test excludes.
    pub(crate) fn new(out: &Path, settings: Settings) -> Result<Self> {
        let text = recipes::get("quickstart").context("the recipe quickstart is not embedded")?;
        let mut train = TrainConfig::from_toml(text, "recipe quickstart", &[])?;
        let preset = if settings.mini { Preset::Mini } else { Preset::Quickstart };
        let synthetic = SyntheticConfig { seed: settings.seed, ..preset.config() };
        let plan = |train| Self { out: out.to_path_buf(), settings, synthetic, train };
        let data = out.join("data");
        train.out = out.to_path_buf();
        train.seed = settings.seed;
        train.data.train.dir.clone_from(&data);
        let val = train.data.val.as_mut().and_then(ValConfig::split_mut);
        for split in [val, train.data.test.as_mut()].into_iter().flatten() {
            split.dir.clone_from(&data);
        }
        if settings.mini {
            in_miniature(&mut train, 2);
        } else {
            let longer = settings.minutes / RECIPE_MINUTES;
            let times = |n: usize| (n as f64 * longer).round().clamp(1.0, 100_000.0) as usize;
            train.schedule.epochs = times(train.schedule.epochs);
            if let Some(pretrain) = &mut train.pretrain {
                pretrain.steps = times(pretrain.steps);
            }
        }
        Ok(plan(train))
    }

    /// The dataset.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.out.join("data")
    }

    /// The example's masks and overlay.
    pub(crate) fn predictions_dir(&self) -> PathBuf {
        self.out.join("predictions")
    }

    /// The report; its presence says that the run is complete.
    pub(crate) fn report(&self) -> PathBuf {
        self.out.join("report.html")
    }

    fn marker(&self) -> PathBuf {
        self.out.join("quickstart.json")
    }

    /// Takes the folder, or goes on with the unfinished run in it.
    ///
    /// # Errors
    /// Bad input: the folder holds a complete run, a run of other settings, or something else.
    pub(crate) fn claim(&self) -> Result<State> {
        let out = self.out.display();
        if self.report().exists() {
            return Err(bad_input!(
                "{out} holds a complete run, see {}; to repeat it, choose another --out or delete the folder",
                self.report().display()
            ));
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make {out}"))
            .or_bad_input()?;
        let marker = self.marker();
        if marker.exists() {
            let text = fs::read_to_string(&marker)
                .with_context(|| format!("cannot read {}", marker.display()))
                .or_bad_input()?;
            let begun: Option<Settings> = serde_json::from_str(&text).ok();
            return match begun {
                Some(begun) if begun == self.settings => Ok(State::Begun),
                Some(begun) => Err(bad_input!(
                    "{out} holds an unfinished run with {}; give the same settings to go on, or choose another --out",
                    flags(begun)
                )),
                None => Err(bad_input!("{} is damaged; choose another --out", marker.display())),
            };
        }
        let mut entries =
            fs::read_dir(&self.out).with_context(|| format!("cannot read {out}")).or_bad_input()?;
        if entries.next().is_some() {
            return Err(bad_input!(
                "{out} is not empty and holds no quickstart; choose another --out"
            ));
        }
        let text = serde_json::to_string(&self.settings).context("cannot write the settings")?;
        file::save(&marker, text.as_bytes())?;
        Ok(State::New)
    }
}

/// The settings as they are typed.
pub(crate) fn flags(settings: Settings) -> String {
    let Settings { mini, minutes, seed } = settings;
    let size = if mini { "--mini".to_owned() } else { format!("--minutes {minutes}") };
    format!("{size} --seed {seed}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { mini: false, minutes: 10.0, seed: 7 };

    #[test]
    fn recipe_is_fitted_to_the_settings() {
        let full = Plan::new(Path::new("x"), SETTINGS).unwrap();
        let double = Plan::new(Path::new("x"), Settings { minutes: 20.0, ..SETTINGS }).unwrap();
        assert_eq!(double.train.schedule.epochs, 2 * full.train.schedule.epochs);
        assert_eq!(full.train.data.train.dir, Path::new("x/data"));
        assert_eq!(full.train.data.test.as_ref().unwrap().dir, Path::new("x/data"));
        let mini = Plan::new(Path::new("x"), Settings { mini: true, ..SETTINGS }).unwrap();
        assert!(mini.synthetic.scenes() < 100 && mini.train.schedule.epochs <= 2);
    }

    #[test]
    fn a_folder_is_taken_continued_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let plan = Plan::new(&out, SETTINGS).unwrap();
        assert_eq!(plan.claim().unwrap(), State::New);
        assert_eq!(plan.claim().unwrap(), State::Begun);
        let other = Plan::new(&out, Settings { seed: 8, ..SETTINGS }).unwrap();
        let message = other.claim().unwrap_err().to_string();
        assert!(message.contains("--seed 7"), "{message}");
        fs::write(plan.report(), "x").unwrap();
        assert!(plan.claim().unwrap_err().to_string().contains("complete"));
        let foreign = Plan::new(dir.path(), SETTINGS).unwrap();
        assert!(foreign.claim().unwrap_err().to_string().contains("not empty"));
    }
}
