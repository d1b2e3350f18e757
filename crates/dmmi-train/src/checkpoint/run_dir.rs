//! The folder of a run: a lock, `checkpoints/step-..-epoch-..` (the newest few) and `checkpoints/best-step-..`.
//!
//! The newest checkpoint is the highest numbers that verify: no pointer file could disagree with it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::commit::{commit, remove, remove_leftovers, verify};
use crate::error::{Error, Result};

const CHECKPOINTS: &str = "checkpoints";
const LOCK: &str = ".lock";
const STEP: &str = "step-";
const EPOCH: &str = "-epoch-";
const BEST: &str = "best-step-";
const PRETRAINING: &str = "pretraining";

/// A run's folder, held by this process until dropped.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// Released by the operating system even when the process is killed.
    _lock: File,
}

impl RunDir {
    /// Takes the folder, making it if need be, and removes what a killed write left.
    ///
    /// A folder with a `config.toml` that no run has written is refused: the file would be lost.
    ///
    /// # Errors
    /// [`Error::RunExists`] for such a folder,
    /// [`Error::RunLocked`] when another process holds it, [`Error::Write`] when it cannot be made.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref().to_path_buf();
        let checkpoints = root.join(CHECKPOINTS);
        let ours = root.join(LOCK).exists() || checkpoints.exists();
        if root.join("config.toml").exists() && !ours {
            return Err(Error::RunExists(root));
        }
        fs::create_dir_all(&checkpoints).map_err(Error::write(&checkpoints))?;
        let path = root.join(LOCK);
        let lock = File::create(&path).map_err(Error::write(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::RunLocked(root)),
            // A file system without locks: one process at a time is then up to the user.
            Err(TryLockError::Error(_)) => {}
        }
        remove_leftovers(&checkpoints, None)?;
        Ok(Self { root, _lock: lock })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether any checkpoint, intact or not, is there.
    pub fn is_empty(&self) -> bool {
        list(&self.root, STEP).is_empty()
            && list(&self.root, BEST).is_empty()
            && !self.pretraining().exists()
    }

    /// Where the state of an unfinished `[pretrain]` lies, if one does.
    pub(crate) fn pretraining(&self) -> PathBuf {
        self.root.join(CHECKPOINTS).join(PRETRAINING)
    }

    /// Writes the state of an unfinished `[pretrain]`; one that is there is replaced.
    pub(crate) fn save_pretraining(
        &self,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        commit(&self.root.join(CHECKPOINTS), PRETRAINING, fill)
    }

    /// Removes the state of `[pretrain]`, which is behind the run.
    pub(crate) fn end_pretraining(&self) -> Result<()> {
        let folder = self.pretraining();
        if folder.exists() { remove(&self.root.join(CHECKPOINTS), &folder) } else { Ok(()) }
    }

    /// The newest intact checkpoint, and the damaged ones that were passed over.
    pub fn latest(&self) -> (Option<PathBuf>, Vec<Error>) {
        newest_intact(&self.root, STEP)
    }

    /// Writes the checkpoint after `step` steps and `epoch` complete epochs atomically; `fill` puts its files into the path it
    /// is given. Two states of one run never share a name, so an intact checkpoint is never replaced.
    ///
    /// # Errors
    /// As `fill`, or [`Error::Write`]; earlier checkpoints are intact then.
    pub fn save_step(
        &self,
        step: usize,
        epoch: usize,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        commit(&self.root.join(CHECKPOINTS), &format!("{STEP}{step:08}{EPOCH}{epoch:04}"), fill)
    }

    /// Writes the best checkpoint atomically. Older best ones stay until [`Self::prune`].
    ///
    /// # Errors
    /// As [`Self::save_step`].
    pub fn save_best(
        &self,
        step: usize,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        commit(&self.root.join(CHECKPOINTS), &format!("{BEST}{step:08}"), fill)
    }

    /// Keeps the newest `keep_last` checkpoints and the best one of step `best`; removes the others.
    ///
    /// # Errors
    /// [`Error::Write`] when a folder cannot be removed.
    pub fn prune(&self, keep_last: usize, best: Option<usize>) -> Result<()> {
        let root = self.root.join(CHECKPOINTS);
        let steps = list(&self.root, STEP);
        let surplus = steps.len().saturating_sub(keep_last);
        for (_, path) in &steps[..surplus] {
            remove(&root, path)?;
        }
        for ((step, _), path) in list(&self.root, BEST) {
            if best.is_some_and(|best| best != step) {
                remove(&root, &path)?;
            }
        }
        Ok(())
    }
}

/// Finds the weights a path means: a folder with `model.safetensors`; else a run's folder (its best checkpoint, or the newest
/// if none was evaluated); else `RUN/best` or `RUN/last`.
///
/// # Errors
/// [`Error::Checkpoint`] when nothing of this is there.
pub fn find_checkpoint(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    if path.join(super::WEIGHTS).is_file() {
        return Ok(path.to_path_buf());
    }
    if path.ends_with(CHECKPOINTS)
        && let Some(run) = path.parent().filter(|run| run.is_dir())
    {
        return find_checkpoint(run);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (root, prefixes): (&Path, &[&str]) = match (name, path.parent()) {
        ("best", Some(parent)) if !path.exists() => (parent, &[BEST]),
        ("last", Some(parent)) if !path.exists() => (parent, &[STEP]),
        _ => (path, &[BEST, STEP]),
    };
    if !root.exists() {
        return Err(Error::checkpoint(
            path,
            "does not exist; give a checkpoint folder or the folder of a run",
        ));
    }
    let mut damaged = None;
    for prefix in prefixes {
        let (found, passed_over) = newest_intact(root, prefix);
        let first = passed_over.into_iter().next();
        match (found, first) {
            // A damaged best checkpoint is not silently replaced by another one's weights.
            (_, Some(error)) if *prefix == BEST => return Err(error),
            (Some(found), _) => return Ok(found),
            (None, first) => damaged = damaged.or(first),
        }
    }
    Err(damaged.unwrap_or_else(|| {
        Error::checkpoint(
            path,
            "holds no model.safetensors and no checkpoints/ of a run; give a checkpoint folder or the folder of a run",
        )
    }))
}

fn newest_intact(root: &Path, prefix: &str) -> (Option<PathBuf>, Vec<Error>) {
    let mut damaged = Vec::new();
    for (_, path) in list(root, prefix).into_iter().rev() {
        match verify(&path) {
            Ok(()) => return (Some(path), damaged),
            Err(error) => damaged.push(error),
        }
    }
    (None, damaged)
}

/// Checkpoints of one kind as ((step, epoch), path), in that order.
fn list(root: &Path, prefix: &str) -> Vec<((usize, usize), PathBuf)> {
    let Ok(entries) = fs::read_dir(root.join(CHECKPOINTS)) else { return Vec::new() };
    let mut found: Vec<((usize, usize), PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix(prefix)?;
            let (step, epoch) = rest.split_once(EPOCH).unwrap_or((rest, "0"));
            Some(((step.parse().ok()?, epoch.parse().ok()?), entry.path()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(folder: &Path) -> Result<()> {
        let path = folder.join("model.safetensors");
        fs::write(&path, b"weights").map_err(Error::write(&path))
    }

    #[test]
    fn keeps_the_newest_and_the_best() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let run = RunDir::open(root.path().join("run"))?;
        assert!(run.is_empty());
        for step in [5, 10, 100] {
            run.save_best(step, fill)?;
            run.save_step(step, 1, fill)?;
            run.prune(2, Some(step.min(10)))?;
        }
        let steps: Vec<usize> = list(run.root(), STEP).into_iter().map(|found| found.0.0).collect();
        let bests: Vec<usize> = list(run.root(), BEST).into_iter().map(|found| found.0.0).collect();
        assert_eq!((steps, bests), (vec![10, 100], vec![10]));
        Ok(())
    }

    #[test]
    fn a_damaged_newest_is_passed_over() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let run = RunDir::open(root.path())?;
        let good = run.save_step(1, 0, fill)?;
        let bad = run.save_step(1, 1, fill)?;
        fs::write(bad.join("model.safetensors"), b"weighte")?;
        let (found, damaged) = run.latest();
        assert_eq!((found, damaged.len()), (Some(good.clone()), 1));
        assert_eq!(find_checkpoint(root.path())?, good);
        assert_eq!(find_checkpoint(root.path().join("last"))?, good);
        assert!(find_checkpoint(root.path().join("best")).is_err());
        assert!(find_checkpoint(root.path().join("nowhere")).is_err());
        // With a best checkpoint there are two; the damaged one is named, not passed over.
        let best = run.save_best(1, fill)?;
        assert_eq!(find_checkpoint(root.path())?, best);
        fs::write(best.join("model.safetensors"), b"weighte")?;
        let message = find_checkpoint(root.path()).expect_err("damaged").to_string();
        assert!(message.contains("best-step-00000001"), "{message}");
        assert_eq!(find_checkpoint(root.path().join("last"))?, good);
        Ok(())
    }

    #[test]
    fn one_process_holds_a_run() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let run = RunDir::open(root.path())?;
        assert!(matches!(RunDir::open(root.path()), Err(Error::RunLocked(_))));
        drop(run);
        RunDir::open(root.path())?;
        Ok(())
    }

    #[test]
    fn a_configuration_of_the_users_own_is_not_overwritten() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("config.toml"), "seed = 1")?;
        assert!(matches!(RunDir::open(root.path()), Err(Error::RunExists(_))));
        assert_eq!(fs::read_dir(root.path())?.count(), 1);
        Ok(())
    }
}
