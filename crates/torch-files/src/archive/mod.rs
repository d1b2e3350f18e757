//! The two containers of `torch.save`: zip (since 1.6) and legacy; both to a pickle and the places of its storages.

mod legacy;
mod zip;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::pickle::{Limits, Pickle, PickleError};
use crate::source::Source;
use crate::storage::{StorageRef, storages};

/// Bytes of one storage in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// CRC-32 of these bytes, where the file states one that can be trusted.
    pub(crate) crc: Option<u32>,
}

/// Which container a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A zip file of a pickle and one entry a storage; PyTorch 1.6 and later.
    Zip,
    /// Pickles, then the storages; before 1.6, or `_use_new_zipfile_serialization=False`.
    Legacy,
}

/// A file taken apart.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) format: Format,
    pub(crate) pickle: Pickle,
    pub(crate) places: HashMap<String, Place>,
    /// The numbers in storages are big-endian.
    pub(crate) big_endian: bool,
}

impl Archive {
    pub(crate) fn read(source: &Source, limits: Limits) -> Result<Self> {
        let head = source.read_up_to(0, 512, "first bytes")?;
        if head.starts_with(&zip::LOCAL) {
            return read_zip(source, limits);
        }
        if head.get(257..262) == Some(b"ustar") {
            let message = "is a tar file of PyTorch 0.1 or of another program; load it with PyTorch and save it again with torch.save";
            return Err(Error::unsupported(source.path(), "first bytes", message));
        }
        legacy::read(source, limits)
    }
}

pub(crate) fn pickle_error<'a>(
    source: &'a Source,
    entry: &'a str,
) -> impl FnOnce(PickleError) -> Error + 'a {
    move |error| Error::damaged(source.path(), entry, error.to_string())
}

fn read_zip(source: &Source, limits: Limits) -> Result<Archive> {
    let entries = zip::entries(source)?;
    let fail = |message: String| Error::damaged(source.path(), "zip directory", message);
    // `NAME/data.pkl`, where NAME is the file's first name or `archive`.
    let mut roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = match (roots.next(), roots.next()) {
        (Some(root), None) if root.is_empty() || root.ends_with('/') => root.to_owned(),
        (Some(_), Some(_)) => return Err(fail("holds several data.pkl".into())),
        _ => {
            let message = "is a zip file without data.pkl, so not of torch.save; give a .pth, .pt or .bin checkpoint";
            return Err(Error::unsupported(source.path(), "zip directory", message));
        }
    };
    let data = entries[&format!("{root}data.pkl")];
    if data.size > limits.bytes as u64 {
        let message = format!("has {} bytes, more than the {} allowed", data.size, limits.bytes);
        return Err(Error::damaged(source.path(), "data.pkl", message));
    }
    let bytes = source.read(data.at, data.size as usize, "data.pkl")?;
    // PyTorch can be told to write no true checksums: if that of the tiny entry is none, the others are not looked at.
    let true_sums = match entries.get(&format!("{root}version")) {
        Some(entry) if entry.size < 16 => {
            let version = source.read(entry.at, entry.size as usize, "version")?;
            crc32fast::hash(&version) == entry.crc
        }
        _ => false,
    };
    if true_sums && crc32fast::hash(&bytes) != data.crc {
        let message = "its checksum is wrong: the file is damaged; copy it again";
        return Err(Error::damaged(source.path(), "data.pkl", message));
    }
    let (pickle, _) = Pickle::parse(&bytes, limits).map_err(pickle_error(source, "data.pkl"))?;
    let big_endian = match entries.get(&format!("{root}byteorder")) {
        Some(entry) => {
            source.read_up_to(entry.at, entry.size.min(8) as usize, "byteorder")? == b"big"
        }
        None => false,
    };
    let prefix = format!("{root}data/");
    let places = entries
        .iter()
        .filter_map(|(name, entry)| {
            let crc = true_sums.then_some(entry.crc);
            let place = Place { at: entry.at, bytes: entry.size, crc };
            Some((name.strip_prefix(&prefix)?.to_owned(), place))
        })
        .collect();
    Ok(Archive { format: Format::Zip, pickle, places, big_endian })
}

/// Storages that the pickle speaks of, each once; two that share a key must agree.
pub(crate) fn referred(source: &Source, pickle: &Pickle) -> Result<HashMap<String, StorageRef>> {
    storages(pickle).map_err(|message| Error::damaged(source.path(), "persistent ids", message))
}
