//! [`Client::ensure`]: from an address to a verified file in the cache, with as little traffic as possible.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::checksum::{self, Checksum};
use super::lock::{LockFile, Locked};
use super::remote::{Patience, Remote, Stated};
use super::settings::Settings;
use super::store::Store;
use super::transfer::{Transfer, ask};
use super::{Address, megabytes};
use crate::exit::failed;

/// How a file came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Cache and lock agree: nothing was done.
    Present,
    /// The cache had it from another tool; it was verified and locked.
    Adopted,
    /// Fetched and verified; bytes.
    Fetched(u64),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Present => write!(f, "already here, verified"),
            Self::Adopted => write!(f, "found in the cache, verified"),
            Self::Fetched(size) => write!(f, "fetched, verified, {}", megabytes(*size)),
        }
    }
}

/// A hub and a cache.
pub(crate) struct Client {
    settings: Settings,
    patience: Patience,
    /// Writes lock entries anew.
    update: bool,
}

impl Client {
    pub(crate) fn new(settings: Settings, patience: Patience, update: bool) -> Self {
        Self { settings, patience, update }
    }

    /// The file in the cache, verified; fetched if need be.
    ///
    /// # Errors
    /// It cannot be had, or it is not what the hub or the lock say. Nothing unverified ever has the file's name.
    pub(crate) fn ensure(
        &self,
        address: &Address,
        lock: &mut LockFile,
    ) -> Result<(PathBuf, Outcome)> {
        address.validate()?;
        let locked = match lock.get(address).filter(|_| !self.update) {
            Some(locked) if locked.revision != address.revision => bail!(
                "{address}: {} was written for revision {}; run again with --update to lock {}",
                lock.path().display(),
                locked.revision,
                address.revision
            ),
            locked => locked.cloned(),
        };
        if let Some(locked) = &locked
            && let Some(path) = self.in_cache(address, locked)?
        {
            return Ok((path, Outcome::Present));
        }
        if self.settings.offline {
            return self.offline(address, locked.as_ref(), lock);
        }
        self.online(address, locked.as_ref(), lock)
    }

    /// The state of a file for listings, without touching the network: a path if it is in the cache with its locked size.
    pub(crate) fn peek(&self, address: &Address, lock: &LockFile) -> Option<PathBuf> {
        let locked = lock.get(address).filter(|locked| locked.revision == address.revision)?;
        let path = Store::new(&self.settings.cache, address).pointer(&locked.commit);
        (path.metadata().ok()?.len() == locked.size).then_some(path)
    }

    /// The cache's file if it is what the lock says. A damaged one is discarded when it can be fetched again.
    fn in_cache(&self, address: &Address, locked: &Locked) -> Result<Option<PathBuf>> {
        let store = Store::new(&self.settings.cache, address);
        let path = store.pointer(&locked.commit);
        let Ok(meta) = path.metadata() else { return Ok(None) };
        let right = meta.len() == locked.size && {
            let wanted = Checksum::Sha256(locked.sha256.clone());
            self.digests(&path, &wanted, locked.size)?.are(&wanted)
        };
        if right {
            return Ok(Some(path));
        }
        let what = format!("{} is damaged: not the file that the lock names", path.display());
        if self.settings.offline {
            bail!("{what}; unset HF_HUB_OFFLINE and run again to fetch it anew");
        }
        eprintln!("{what}; fetching it anew");
        store.discard(&path)?;
        Ok(None)
    }

    /// Without the network: what another tool left in the cache under the hub's checksum as its name.
    fn offline(
        &self,
        address: &Address,
        locked: Option<&Locked>,
        lock: &mut LockFile,
    ) -> Result<(PathBuf, Outcome)> {
        let missing = || {
            format!(
                "{address} is not in the cache {} and HF_HUB_OFFLINE forbids to fetch it: unset it, or copy the folder \
                 {} from a machine that has it",
                self.settings.cache.path().display(),
                address.repository().folder_name()
            )
        };
        // With a lock entry `in_cache` has looked already.
        if locked.is_some() {
            bail!(missing());
        }
        let store = Store::new(&self.settings.cache, address);
        let commit = store.commit().with_context(missing)?;
        let path = store.pointer(&commit);
        let blob = path.canonicalize().ok().with_context(missing)?;
        let name = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let size = blob.metadata().with_context(missing)?.len();
        let Some(checksum) = Checksum::from_etag(name) else {
            bail!("{} carries no checksum to verify it by; unset HF_HUB_OFFLINE", path.display());
        };
        let digests = self.digests(&blob, &checksum, size)?;
        if !digests.are(&checksum) {
            bail!("{} is damaged: it should have {checksum}; unset HF_HUB_OFFLINE", path.display());
        }
        lock.put(entry(address, &commit, size, &digests.sha256, &checksum))?;
        Ok((path, Outcome::Adopted))
    }

    fn online(
        &self,
        address: &Address,
        locked: Option<&Locked>,
        lock: &mut LockFile,
    ) -> Result<(PathBuf, Outcome)> {
        let remote = Remote::new(&self.settings, self.patience);
        // A locked file is asked for by its commit: a branch may have moved on.
        let at = locked.map_or_else(|| address.clone(), |locked| address.at(&locked.commit));
        let stated = ask(self.patience, || remote.state(&at))?;
        if let Some(locked) = locked {
            agree(address, locked, &stated, lock.path())?;
        }
        let at = address.at(&stated.commit);
        let store = Store::new(&self.settings.cache, address);
        let _held = store.lock(&stated.checksum)?;
        let (blob, checksum, size) =
            (store.blob(&stated.checksum), stated.checksum.clone(), stated.size);
        let commit = stated.commit.clone();
        let (sha256, outcome) = match self.usable(&blob, &stated)? {
            Some(sha256) => (sha256, Outcome::Adopted),
            None => {
                let part = store.part(&checksum);
                let sha256 = self.fetch(&remote, &at, stated, &part)?;
                std::fs::rename(&part, &blob)
                    .with_context(|| format!("cannot write {}", blob.display()))?;
                (sha256, Outcome::Fetched(size))
            }
        };
        if let Some(locked) = locked
            && locked.sha256 != sha256
        {
            store.discard(&blob)?;
            bail!("{address}: sha256 {sha256} came, the lock says {}; see --update", locked.sha256);
        }
        let path = store.publish(&checksum, &commit)?;
        lock.put(entry(address, &commit, size, &sha256, &checksum))?;
        Ok((path, outcome))
    }

    /// The SHA-256 of a blob that another tool left, if it is the file stated; a damaged one is removed.
    fn usable(&self, blob: &Path, stated: &Stated) -> Result<Option<String>> {
        let Ok(meta) = blob.metadata() else { return Ok(None) };
        if meta.len() == stated.size {
            let digests = self.digests(blob, &stated.checksum, stated.size)?;
            if digests.are(&stated.checksum) {
                return Ok(Some(digests.sha256));
            }
        }
        eprintln!("{} is damaged; fetching it anew", blob.display());
        std::fs::remove_file(blob).with_context(|| format!("cannot remove {}", blob.display()))?;
        Ok(None)
    }

    /// Bytes to `part`, verified; their SHA-256.
    fn fetch(&self, remote: &Remote, at: &Address, stated: Stated, part: &Path) -> Result<String> {
        eprintln!("fetching {at} ({})", megabytes(stated.size));
        let checksum = stated.checksum.clone();
        let mut continued = part.metadata().is_ok_and(|meta| meta.len() > 0);
        loop {
            let bar = bar(stated.size, name(at));
            let (patience, stated) = (self.patience, stated.clone());
            let transfer = Transfer { remote, patience, address: at, stated, bar: &bar };
            let digests = transfer.run(part)?;
            bar.finish_and_clear();
            if digests.are(&checksum) {
                return Ok(digests.sha256);
            }
            std::fs::remove_file(part)
                .with_context(|| format!("cannot remove {}", part.display()))?;
            if !continued {
                return Err(failed!(
                    "{at}: wrong checksum: the hub states {checksum}, what came has {}; it was deleted. A proxy or mirror \
                     may alter files: try again, or set HF_ENDPOINT",
                    digests.like(&checksum)
                ));
            }
            // The start may have been damaged on disk since the first attempt.
            eprintln!("{at}: wrong checksum after going on; fetching it from the start");
            continued = false;
        }
    }

    fn digests(&self, path: &Path, checksum: &Checksum, size: u64) -> Result<checksum::Digests> {
        let shown = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let bar = bar(size, &format!("verifying {shown}"));
        let digests = checksum::of_file(path, checksum, &bar);
        bar.finish_and_clear();
        digests
    }
}

fn entry(address: &Address, commit: &str, size: u64, sha256: &str, checksum: &Checksum) -> Locked {
    Locked {
        kind: address.kind,
        repo: address.repo.clone(),
        revision: address.revision.clone(),
        file: address.file.clone(),
        commit: commit.to_owned(),
        size,
        sha256: sha256.to_owned(),
        etag: checksum.hex().to_owned(),
    }
}

/// What the hub states now against what it was.
fn agree(address: &Address, locked: &Locked, stated: &Stated, lock: &Path) -> Result<()> {
    let checks = [
        ("commit", locked.commit.clone(), stated.commit.clone()),
        ("size", locked.size.to_string(), stated.size.to_string()),
        ("checksum", locked.checksum().to_string(), stated.checksum.to_string()),
    ];
    for (what, was, is) in checks {
        if was != is {
            bail!(
                "{address}: the hub states {what} {is}, {} says {was}. The same commit cannot change: do not trust this \
                 endpoint, or, if the lock is wrong, run again with --update",
                lock.display()
            );
        }
    }
    Ok(())
}

fn name(address: &Address) -> &str {
    address.repo.rsplit('/').next().unwrap_or(&address.repo)
}

/// A bar of bytes on standard error; nothing without a terminal.
fn bar(length: u64, prefix: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8));
    let style = ProgressStyle::with_template(
        "{prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(prefix.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
