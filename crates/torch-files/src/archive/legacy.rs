//! The container before PyTorch 1.6: a magic number, a protocol number, a dict about the machine, the object, a list of storage
//! keys, each its own pickle; then for each key a count of elements and the elements.

use std::collections::HashMap;

use super::{Archive, Format, Place, pickle_error, referred};
use crate::error::{Error, Result};
use crate::pickle::{Limits, Pickle};
use crate::source::Source;

/// `0x1950a86a20f9469cfc6c` as pickles spell it: little-endian, and in decimal.
const MAGIC: [&[u8]; 2] =
    [b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"119547037146038801333356"];
/// The first pickle holds that number alone.
const MAGIC_BYTES: usize = 64;
/// The only protocol of this container.
const PROTOCOL: i64 = 1001;

pub(super) fn read(source: &Source, limits: Limits) -> Result<Archive> {
    let head = source.read_up_to(0, limits.bytes, "pickles")?;
    let first = Pickle::parse(&head[..head.len().min(MAGIC_BYTES)], limits).map(|(_, used)| used);
    let is_magic = |used: usize| {
        MAGIC.iter().any(|magic| head[..used].windows(magic.len()).any(|bytes| bytes == *magic))
    };
    let Some(mut at) = first.ok().filter(|&used| is_magic(used)) else {
        let message = "is neither a zip file nor starts with PyTorch's magic number: not written by torch.save, or damaged; give a .pth, .pt or .bin checkpoint";
        return Err(Error::damaged(source.path(), "first bytes", message));
    };
    let mut next = |name: &str| -> Result<Pickle> {
        let rest = &head[at..];
        let (pickle, used) = Pickle::parse(rest, limits).map_err(|mut error| {
            error.at += at;
            error.length = source.len() as usize;
            pickle_error(source, name)(error)
        })?;
        at += used;
        Ok(pickle)
    };
    let protocol = next("protocol")?;
    if protocol.node().as_i64() != Some(PROTOCOL) {
        let message = format!("is {} where {PROTOCOL} belongs", protocol.node().describe());
        return Err(Error::damaged(source.path(), "protocol", message));
    }
    // Numbers are little-endian whatever the machine was.
    next("machine")?;
    let pickle = next("object")?;
    let keys = next("storage keys")?;
    let places = places(source, &pickle, &keys, at as u64)?;
    Ok(Archive { format: Format::Legacy, pickle, places, big_endian: false })
}

/// Walks over the storages behind the pickles.
fn places(
    source: &Source,
    pickle: &Pickle,
    keys: &Pickle,
    mut at: u64,
) -> Result<HashMap<String, Place>> {
    let fail = |place: String, message: String| Error::damaged(source.path(), place, message);
    let referred = referred(source, pickle)?;
    let Some(keys) = keys.node().elements() else {
        return Err(fail("storage keys".into(), "are no list".into()));
    };
    let mut out = HashMap::new();
    for key in keys {
        let key = key.as_str().ok_or_else(|| {
            fail("storage keys".into(), format!("hold {} where a key belongs", key.describe()))
        })?;
        let place = || format!("storage {key}");
        let Some(storage) = referred.get(key) else {
            return Err(fail(place(), "lies in the file, but nothing refers to it".into()));
        };
        let count = source.read(at, 8, &place())?;
        let count = u64::from_le_bytes(count.try_into().expect("eight bytes were asked for"));
        let bytes = count.checked_mul(storage.dtype.size() as u64);
        let end = bytes.and_then(|bytes| (at + 8).checked_add(bytes));
        let (Some(bytes), Some(end)) = (bytes, end.filter(|&end| end <= source.len())) else {
            let message = format!(
                "{count} elements from byte {at} lie beyond the file's {} bytes: it is cut off; copy it again",
                source.len()
            );
            return Err(fail(place(), message));
        };
        if out.insert(key.to_owned(), Place { at: at + 8, bytes, crc: None }).is_some() {
            return Err(fail(place(), "stands in the list of keys twice".into()));
        }
        at = end;
    }
    Ok(out)
}
