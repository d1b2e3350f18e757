//! The parsed cache: what [`super::join`] made of the annotation files, kept in `DIR/.refzom-cache` for a quick second start.
//!
//! A cache file names the content it was made of (a hash of every annotation file) and carries a hash of itself, so a
//! changed set, an older program or a damaged file only means that the annotations are parsed again. It is written
//! beside its place and renamed, so that a killed process leaves the old one. What cannot be written is not written.
//! Existence of image files is not part of it: that is looked up at every start.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::cache_codec::{Parsed, decode, encode};
use super::hash::ContentHash;
use super::join::{Joined, join};
use super::{Annotations, DatasetConfig, Located, RejectReason};
use crate::DataError;

/// Of annotation files smaller than this in sum nothing is kept: they are read in a moment.
const WORTH_KEEPING: u64 = 1 << 20;

/// First bytes of a cache file; the number changes with the layout and with what joining means.
const MAGIC: &[u8; 8] = b"RFZMDS04";

/// Joined records, the first annotation file and the image folder.
pub(super) fn joined(cfg: &DatasetConfig) -> Result<(Vec<Joined>, PathBuf, PathBuf), DataError> {
    let located = cfg.located()?;
    let file = located.files[0].clone();
    // The complaint about a missing folder comes first, cached or not.
    let images = match located.format.has_instances() || cfg.images.is_some() {
        true => Some(cfg.images_path()?),
        false => None,
    };
    let slot = if cfg.cache { Slot::new(cfg, &located, images.as_deref()) } else { None };
    if let Some(parsed) = slot.as_ref().and_then(Slot::read) {
        let images = images.unwrap_or(parsed.images);
        return Ok((parsed.joined, file, images));
    }
    let annotations = Annotations::open(cfg)?;
    let images = annotations.images.clone();
    let depends_on = annotations.depends_on.clone();
    let joined = join(annotations);
    if let Some(slot) = slot {
        slot.write(&joined, &images, &depends_on);
    }
    Ok((joined, file, images))
}

/// The place of a cache file, and the content it must have been made of.
struct Slot {
    /// Paths inside the cache file count from here.
    base: PathBuf,
    name: String,
    key: u64,
}

impl Slot {
    /// `None` if the annotation files are small, or cannot be read: parsing them will say why.
    fn new(cfg: &DatasetConfig, located: &Located, images: Option<&Path>) -> Option<Self> {
        let mut files = located.files.clone();
        if located.format.has_instances() {
            files.push(cfg.instances_path());
        }
        let sizes: Option<Vec<u64>> =
            files.iter().map(|file| Some(std::fs::metadata(file).ok()?.len())).collect();
        if sizes?.iter().sum::<u64>() < WORTH_KEEPING {
            return None;
        }
        let mut names = ContentHash::new();
        names.update(located.format.name().as_bytes());
        if !located.format.has_instances() {
            names.update(images.map_or("", |path| path.to_str().unwrap_or("")).as_bytes());
        }
        let mut content = ContentHash::new();
        content.update(env!("CARGO_PKG_VERSION").as_bytes());
        for file in &files {
            names.update(file.strip_prefix(cfg.base()).unwrap_or(file).to_str()?.as_bytes());
            content.update(&std::fs::read(file).ok()?);
        }
        let name = format!("{:016x}.bin", names.finish());
        content.update(name.as_bytes());
        Some(Self { base: cfg.base().to_path_buf(), name, key: content.finish() })
    }

    /// What was kept, if it was made of this very content and is whole.
    fn read(&self) -> Option<Parsed> {
        let bytes = std::fs::read(self.folder().join(&self.name)).ok()?;
        let (head, payload) = bytes.split_at_checked(24)?;
        let number = |at: usize| Some(u64::from_le_bytes(head[at..at + 8].try_into().ok()?));
        if &head[..8] != MAGIC || number(8)? != self.key || number(16)? != hash_of(payload) {
            return None;
        }
        let mut parsed = decode(payload)?;
        parsed.images = self.base.join(parsed.images);
        let as_then = |(path, stamp): &(PathBuf, Stamp)| {
            Stamp::of(&self.base.join(path)).as_ref() == Some(stamp)
        };
        parsed.depends_on.iter().all(as_then).then_some(parsed)
    }

    fn folder(&self) -> PathBuf {
        self.base.join(".refzom-cache")
    }

    /// Keeps the joined records; a folder that cannot be written to is none of our business.
    fn write(&self, joined: &[Joined], images: &Path, depends_on: &[PathBuf]) {
        // What other files lack today they may have tomorrow.
        let passing = |one: &Joined| {
            matches!(one, Joined::Rejected(one) if matches!(one.reason,
                RejectReason::MissingImageFile(_) | RejectReason::BadMaskFile(_))
                || (!depends_on.is_empty() && matches!(one.reason, RejectReason::BadImageSize(_))))
        };
        if joined.iter().any(passing) {
            return;
        }
        let inside = |path: &Path| path.strip_prefix(&self.base).unwrap_or(path).to_path_buf();
        let stamped: Option<Vec<(PathBuf, Stamp)>> =
            depends_on.iter().map(|path| Some((inside(path), Stamp::of(path)?))).collect();
        let payload = stamped.and_then(|stamped| encode(joined, &inside(images), &stamped));
        let Some(payload) = payload else {
            return;
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.key.to_le_bytes());
        bytes.extend(hash_of(&payload).to_le_bytes());
        bytes.extend(payload);
        // Failing is allowed: a read-only folder, a full disk.
        let _ = self.put(&bytes);
    }

    fn put(&self, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.folder();
        if !folder.is_dir() {
            std::fs::create_dir(&folder)?;
            std::fs::write(folder.join(".gitignore"), "*\n")?;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let beside = folder.join(format!("{}.{}-{count}.tmp", self.name, std::process::id()));
        let written = std::fs::write(&beside, bytes)
            .and_then(|()| std::fs::rename(&beside, folder.join(&self.name)));
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = ContentHash::new();
    hash.update(bytes);
    hash.finish()
}

/// Length and time of a file that is too large to be read again: a mask or an image of one's own set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) length: u64,
    pub(super) nanoseconds: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let nanoseconds = u64::try_from(changed.as_nanos()).ok()?;
        Some(Self { length: metadata.len(), nanoseconds })
    }
}
