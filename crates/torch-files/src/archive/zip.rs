//! Where the entries of a zip file lie (APPNOTE 6.3: end record, zip64, central directory), for files that `torch.save` writes:
//! stored, not compressed, so an entry's bytes can be read in place and nothing can expand.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::source::Source;

/// A stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// First byte of its data in the file.
    pub(crate) at: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// CRC-32 the directory states.
    pub(crate) crc: u32,
}

/// First bytes of a local header, which every zip file of ours starts with.
pub(crate) const LOCAL: [u8; 4] = *b"PK\x03\x04";
const END: [u8; 4] = *b"PK\x05\x06";
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
/// Sizes of the records above without their variable parts.
const END_BYTES: usize = 22;
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
/// Largest directory that is read: more than half a million entries.
const DIRECTORY_BYTES: u64 = 64 << 20;

const PLACE: &str = "zip directory";

/// Little-endian numbers out of a record.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&self, at: usize, width: usize) -> u64 {
        self.0[at..at + width].iter().rev().fold(0, |n, &b| (n << 8) | u64::from(b))
    }
    fn u16(&self, at: usize) -> usize {
        self.number(at, 2) as usize
    }
    fn u32(&self, at: usize) -> u64 {
        self.number(at, 4)
    }
    fn u64(&self, at: usize) -> u64 {
        self.number(at, 8)
    }
}

/// All entries by name.
///
/// # Errors
/// When the directory is absent or contradicts the file, an entry is compressed or encrypted, or two overlap.
pub(crate) fn entries(source: &Source) -> Result<HashMap<String, Entry>> {
    let fail = |message: String| Error::damaged(source.path(), PLACE, message);
    let (count, at, bytes) = directory(source)?;
    if bytes > DIRECTORY_BYTES || count > bytes / CENTRAL_BYTES as u64 {
        return Err(fail(format!("states {count} entries in {bytes} bytes, which cannot be")));
    }
    let directory = source.read(at, bytes as usize, PLACE)?;
    let mut out = HashMap::with_capacity(count as usize);
    let mut rest = &directory[..];
    for i in 0..count {
        let place = || format!("zip entry {i}");
        if rest.len() < CENTRAL_BYTES || !rest.starts_with(&CENTRAL) {
            return Err(fail(format!("entry {i} of {count} is damaged; copy the file again")));
        }
        let head = Fields(rest);
        let (flags, method) = (head.u16(8), head.u16(10));
        let (name_bytes, extra_bytes, comment) = (head.u16(28), head.u16(30), head.u16(32));
        let whole = CENTRAL_BYTES + name_bytes + extra_bytes + comment;
        if rest.len() < whole {
            return Err(fail(format!("entry {i} of {count} is cut off; copy the file again")));
        }
        let name = &rest[CENTRAL_BYTES..CENTRAL_BYTES + name_bytes];
        let extra = &rest[CENTRAL_BYTES + name_bytes..CENTRAL_BYTES + name_bytes + extra_bytes];
        let name = String::from_utf8_lossy(name).into_owned();
        let (size, packed, header) = wide(&head, extra)
            .ok_or_else(|| fail(format!("entry {name} lacks its zip64 sizes")))?;
        if flags & 1 != 0 || method != 0 || packed != size {
            let message = format!(
                "{name} is compressed or encrypted, which torch.save never does; unpack the archive and save it again with torch.save"
            );
            return Err(Error::unsupported(source.path(), place(), message));
        }
        let local = source.read(header, LOCAL_BYTES, &place())?;
        if !local.starts_with(&LOCAL) {
            return Err(fail(format!("{name} does not begin where the directory says")));
        }
        let local = Fields(&local);
        let start = header + (LOCAL_BYTES + local.u16(26) + local.u16(28)) as u64;
        if start.checked_add(size).is_none_or(|end| end > at) {
            return Err(fail(format!(
                "{name} has {size} bytes from byte {start}, beyond the data's end at {at}"
            )));
        }
        let entry = Entry { at: start, size, crc: head.u32(16) as u32 };
        if out.insert(name.clone(), entry).is_some() {
            return Err(fail(format!("{name} stands in it twice")));
        }
        rest = &rest[whole..];
    }
    let mut spans: Vec<(u64, u64)> = out.values().map(|e| (e.at, e.at + e.size)).collect();
    spans.sort_unstable();
    if let Some(pair) = spans.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        return Err(fail(format!("two entries share the bytes from {} on", pair[1].0)));
    }
    Ok(out)
}

/// Number of entries, place and size of the central directory.
fn directory(source: &Source) -> Result<(u64, u64, u64)> {
    let fail = |message: &str| Error::damaged(source.path(), PLACE, message.to_owned());
    let tail_bytes = source.len().min((END_BYTES + usize::from(u16::MAX)) as u64);
    let tail_at = source.len() - tail_bytes;
    let tail = source.read(tail_at, tail_bytes as usize, PLACE)?;
    let found = (0..(tail.len() + 1).saturating_sub(END_BYTES)).rev().find(|&i| {
        tail[i..].starts_with(&END) && Fields(&tail[i..]).u16(20) == tail.len() - i - END_BYTES
    });
    let at = found
        .ok_or_else(|| fail("the end record is missing: the file is cut off; copy it again"))?;
    let end = Fields(&tail[at..]);
    let (mut count, mut bytes, mut start) = (end.u16(10) as u64, end.u32(12), end.u32(16));
    let end_at = tail_at + at as u64;
    if let Some(locator_at) = end_at.checked_sub(20) {
        let locator = source.read(locator_at, 20, PLACE)?;
        if locator.starts_with(&LOCATOR64) {
            let record = source.read(Fields(&locator).u64(8), 56, PLACE)?;
            if !record.starts_with(&END64) {
                return Err(fail("the zip64 end record is not where it is said to be"));
            }
            let record = Fields(&record);
            (count, bytes, start) = (record.u64(32), record.u64(40), record.u64(48));
        }
    }
    if start.checked_add(bytes).is_none_or(|end| end > end_at) {
        return Err(fail("lies beyond the end of the file: it is cut off; copy it again"));
    }
    Ok((count, start, bytes))
}

/// Size, packed size, place of the local header; from the zip64 extra field where the record says so.
fn wide(head: &Fields<'_>, extra: &[u8]) -> Option<(u64, u64, u64)> {
    let mut values = [head.u32(24), head.u32(20), head.u32(42)];
    if values.iter().all(|&v| v != u64::from(u32::MAX)) {
        return Some((values[0], values[1], values[2]));
    }
    let mut rest = extra;
    while rest.len() >= 4 {
        let field = Fields(rest);
        let (id, bytes) = (field.u16(0), field.u16(2));
        let body = rest.get(4..4 + bytes)?;
        if id == 1 {
            let mut numbers = body.chunks_exact(8);
            for value in values.iter_mut().filter(|v| **v == u64::from(u32::MAX)) {
                *value = Fields(numbers.next()?).u64(0);
            }
            return Some((values[0], values[1], values[2]));
        }
        rest = &rest[4 + bytes..];
    }
    None
}
