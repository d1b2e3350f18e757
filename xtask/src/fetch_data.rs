//! `cargo xtask fetch-data [NAME..]`: where each dataset can be had, what is here already, what is still to be done by hand.
//!
//! The list is `data/datasets.toml`. A folder is complete when the files that `refzom-dataset` looks for are in it.

#![allow(clippy::print_stdout)] // results go to standard output, progress to standard error

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::fetch_weights::HubArgs;
use crate::hub::{Address, Kind};

/// The folder of all COCO pictures, which the other datasets point into.
const PICTURES: &str = "data/coco2014/trainval2014";

/// Which datasets.
#[derive(clap::Args)]
#[command(
    after_help = "Without a name: the list of all datasets and what is here of them; makes no request.
Exit status 1 when a dataset that was named is not complete yet.

Examples:
  cargo xtask fetch-data
  cargo xtask fetch-data coco2014 ref-zom"
)]
pub(crate) struct Args {
    /// Names of datasets; what a hub holds of them is fetched
    names: Vec<String>,
    #[command(flatten)]
    hub: HubArgs,
    /// Another list of datasets
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The folder that the list's paths count from [default: the project's]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// One dataset of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dataset {
    name: String,
    title: String,
    /// Where the readers look, relative to the project.
    dir: PathBuf,
    licence: String,
    /// Files or folders that must be in `dir`.
    expect: Vec<String>,
    /// The name under which the pictures must appear in `dir`, for datasets on COCO's pictures.
    pictures: Option<String>,
    /// Commands or actions of a person, from the project's folder.
    steps: Vec<String>,
    source: Vec<Source>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    what: String,
    url: String,
    /// Where the address was found.
    seen: String,
    /// A file that a hub holds.
    hub: Option<HubFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HubFile {
    repo: String,
    revision: String,
    file: String,
}

impl HubFile {
    fn address(&self) -> Address {
        Address {
            kind: Kind::Dataset,
            repo: self.repo.clone(),
            revision: self.revision.clone(),
            file: self.file.clone(),
        }
    }

    fn name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    dataset: Vec<Dataset>,
}

fn open(path: &Path) -> Result<Vec<Dataset>> {
    let parse = || -> Result<Vec<Dataset>> {
        Ok(toml::from_str::<Table>(&std::fs::read_to_string(path)?)?.dataset)
    };
    parse().with_context(|| path.display().to_string())
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let root = args.root.clone().unwrap_or_else(crate::root);
    let usual = || crate::root().join("data/datasets.toml");
    let datasets = open(&args.manifest.clone().unwrap_or_else(usual))?;
    if args.names.is_empty() {
        for dataset in &datasets {
            println!("{}", dataset.describe(&root));
        }
        println!(
            "cargo xtask fetch-data NAME.. fetches what a hub holds and says what to do by hand."
        );
        return Ok(0);
    }
    let mut complete = true;
    for name in &args.names {
        let dataset = datasets.iter().find(|dataset| dataset.name == *name).with_context(|| {
            let known: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
            format!("no dataset {name:?}; there are {}", known.join(", "))
        })?;
        complete &= dataset.fetch(&root, &args.hub)?;
    }
    Ok(u8::from(!complete))
}

impl Dataset {
    /// What the readers need and do not find.
    fn missing(&self, root: &Path) -> Vec<String> {
        let dir = root.join(&self.dir);
        let wanted = self.expect.iter().chain(&self.pictures);
        let there = |name: &&String| !dir.join(name).exists();
        wanted.filter(there).map(|name| self.dir.join(name).display().to_string()).collect()
    }

    fn describe(&self, root: &Path) -> String {
        let missing = self.missing(root);
        let state = match missing.is_empty() {
            true => "complete".to_owned(),
            false => format!("missing: {}", missing.join(", ")),
        };
        let mut text =
            format!("{}: {}\n  {state}\n  licence: {}\n", self.name, self.title, self.licence);
        for source in &self.source {
            let hub = if source.hub.is_some() { " [fetched by this command]" } else { "" };
            text += &format!("  {}{hub}\n    {}\n", source.what, source.url);
            text += &format!("    address from: {}; not opened by us\n", source.seen);
        }
        text
    }

    /// Does what a program can, says what a person must; whether the dataset is complete.
    fn fetch(&self, root: &Path, hub: &HubArgs) -> Result<bool> {
        if self.missing(root).is_empty() {
            println!("{}: complete in {}", self.name, self.dir.display());
            return Ok(true);
        }
        let dir = root.join(&self.dir);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot write {}", dir.display()))?;
        if let Some(name) = &self.pictures {
            point_at_pictures(root, &dir.join(name))?;
        }
        for (source, file) in self.source.iter().filter_map(|s| Some((s, s.hub.as_ref()?))) {
            let mut lock = hub.lock(crate::root().join("data/datasets.lock"))?;
            let (path, outcome) = hub.client()?.ensure(&file.address(), &mut lock)?;
            let shown = dir.join(file.name());
            place(&path, &shown)?;
            println!("{}: {} ({}; {outcome})", self.name, shown.display(), source.what);
        }
        let missing = self.missing(root);
        if missing.is_empty() {
            println!("{}: complete in {}", self.name, self.dir.display());
            return Ok(true);
        }
        println!("{}: still missing: {}", self.name, missing.join(", "));
        println!("By hand, from {}:", root.display());
        for step in &self.steps {
            println!("  {step}");
        }
        if self.pictures.is_some() && !root.join(PICTURES).exists() {
            println!("  cargo xtask fetch-data coco2014 {}      (for the pictures)", self.name);
        }
        println!("Where from:");
        for source in self.source.iter().filter(|source| source.hub.is_none()) {
            println!("  {}: {}", source.what, source.url);
        }
        Ok(false)
    }
}

/// Makes COCO's pictures appear in a dataset's folder, if they are here.
fn point_at_pictures(root: &Path, link: &Path) -> Result<()> {
    if link.exists() || !root.join(PICTURES).is_dir() {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() {
        bail!("{} leads nowhere: remove it", link.display());
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(Path::new("..").join(PICTURES.trim_start_matches("data/")), link)
        .with_context(|| format!("cannot write {}", link.display()))?;
    Ok(())
}

/// A file of the cache under a name of ours, without a second copy where the disk allows it.
fn place(cached: &Path, name: &Path) -> Result<()> {
    let place = || -> std::io::Result<()> {
        if name.symlink_metadata().is_ok() {
            std::fs::remove_file(name)?;
        }
        let blob = cached.canonicalize()?;
        std::fs::hard_link(&blob, name).or_else(|_| std::fs::copy(&blob, name).map(drop))
    };
    place().with_context(|| format!("cannot write {}", name.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_projects_own_list_is_one() {
        let datasets = open(&crate::root().join("data/datasets.toml")).unwrap();
        for name in ["coco2014", "ref-zom", "refcoco", "refcoco+", "refcocog", "grefcoco"] {
            let dataset = datasets.iter().find(|dataset| dataset.name == name).unwrap();
            assert!(!dataset.source.is_empty() && !dataset.steps.is_empty(), "{name}");
            for file in dataset.source.iter().filter_map(|source| source.hub.as_ref()) {
                file.address().validate().unwrap();
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn pictures_appear_once_they_are_here() {
        let root = tempfile::tempdir().unwrap();
        let (root, dir) = (root.path(), root.path().join("data/ref-zom"));
        let datasets = open(&crate::root().join("data/datasets.toml")).unwrap();
        let dataset = datasets.iter().find(|dataset| dataset.name == "ref-zom").unwrap();
        assert!(!dataset.fetch(root, &HubArgs::default()).unwrap());
        assert_eq!(dataset.missing(root).len(), 3);
        std::fs::create_dir_all(root.join(PICTURES)).unwrap();
        for name in &dataset.expect {
            std::fs::write(dir.join(name), "").unwrap();
        }
        assert!(dataset.fetch(root, &HubArgs::default()).unwrap());
        assert!(dir.join("trainval2014").is_dir());
    }
}
