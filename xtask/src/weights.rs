//! `data/weights.toml`: which pretrained files there are, and in which named sets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::hub::{Address, Client, Kind, LockFile, Outcome};

/// The name for every set.
pub(crate) const ALL: &str = "all";

/// One file of the list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Weight {
    pub(crate) set: String,
    /// What it starts: `visual` or `text`, the key under `init` of a run's configuration.
    pub(crate) part: String,
    repo: String,
    revision: String,
    file: String,
    pub(crate) licence: String,
    /// For people.
    pub(crate) used_by: String,
}

impl Weight {
    pub(crate) fn address(&self) -> Address {
        Address {
            kind: Kind::Model,
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            file: self.file.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: Vec<Weight>,
}

/// The list.
pub(crate) struct Weights {
    files: Vec<Weight>,
}

impl Weights {
    /// Where the project keeps it.
    pub(crate) fn usual_path() -> PathBuf {
        crate::root().join("data/weights.toml")
    }

    /// Where the project keeps the lock.
    pub(crate) fn usual_lock() -> PathBuf {
        crate::root().join("data/weights.lock")
    }

    /// # Errors
    /// It cannot be read, or is not such a list.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let parse = || -> Result<Vec<Weight>> {
            let table: Table = toml::from_str(&std::fs::read_to_string(path)?)?;
            for weight in &table.file {
                weight.address().validate()?;
                if weight.set == ALL {
                    bail!("{ALL:?} is the name for every set");
                }
            }
            Ok(table.file)
        };
        Ok(Self { files: parse().with_context(|| path.display().to_string())? })
    }

    pub(crate) fn files(&self) -> &[Weight] {
        &self.files
    }

    /// Names of the sets, sorted.
    pub(crate) fn sets(&self) -> BTreeSet<&str> {
        self.files.iter().map(|weight| weight.set.as_str()).collect()
    }

    /// The files of some sets, in the list's order, each once.
    ///
    /// # Errors
    /// There is no such set.
    pub(crate) fn of(&self, sets: &[impl AsRef<str>]) -> Result<Vec<&Weight>> {
        let sets: Vec<&str> = sets.iter().map(AsRef::as_ref).collect();
        let known = self.sets();
        if let Some(unknown) = sets.iter().find(|set| **set != ALL && !known.contains(**set)) {
            let known: Vec<&str> = known.into_iter().collect();
            bail!("no set {unknown:?}; there are {}, {ALL}", known.join(", "));
        }
        let wanted = |weight: &&Weight| sets.iter().any(|set| *set == ALL || *set == weight.set);
        Ok(self.files.iter().filter(wanted).collect())
    }
}

/// Fetches what is missing of `weights` and calls `each` as they arrive.
///
/// # Errors
/// The first file that cannot be had.
pub(crate) fn ensure(
    client: &Client,
    weights: &[&Weight],
    lock: &mut LockFile,
    mut each: impl FnMut(&Weight, PathBuf, Outcome),
) -> Result<()> {
    for weight in weights {
        let (path, outcome) =
            client.ensure(&weight.address(), lock).with_context(|| weight.set.clone())?;
        each(weight, path, outcome);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_projects_own_list_is_one() {
        let weights = Weights::open(&Weights::usual_path()).unwrap();
        let sets: Vec<&str> = weights.sets().into_iter().collect();
        assert_eq!(sets, ["bert-base-uncased", "resnet101-1k", "swin-base-384-22k"]);
        assert_eq!(weights.of(&["all", "resnet101-1k"]).unwrap().len(), weights.files().len());
        assert_eq!(weights.of(&["bert-base-uncased"]).unwrap()[0].part, "text");
        let error = weights.of(&["bert"]).unwrap_err().to_string();
        assert!(error.contains("bert-base-uncased, resnet101-1k, swin-base-384-22k, all"));
    }
}
