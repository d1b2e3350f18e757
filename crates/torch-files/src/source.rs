//! Positioned reads of a file, or of bytes in memory; never past the end, never more than asked for.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Where the bytes are.
#[derive(Debug)]
enum Bytes {
    File(Mutex<File>),
    Memory(Vec<u8>),
}

/// A file to read from at any place.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
    len: u64,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::read(path))?;
        let meta = file.metadata().map_err(Error::read(path))?;
        if !meta.is_file() {
            return Err(Error::unsupported(path, "path", "is no file; give the checkpoint's file"));
        }
        Ok(Self { path: path.into(), bytes: Bytes::File(Mutex::new(file)), len: meta.len() })
    }

    pub(crate) fn memory(bytes: Vec<u8>, name: &Path) -> Self {
        Self { path: name.into(), len: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// `count` bytes from `at`; refused before any memory is taken when they are not there.
    pub(crate) fn read(&self, at: u64, count: usize, place: &str) -> Result<Vec<u8>> {
        if at.checked_add(count as u64).is_none_or(|end| end > self.len) {
            let message = format!(
                "{count} bytes from byte {at} lie beyond the file's {} bytes: it is cut off; copy it again",
                self.len
            );
            return Err(Error::damaged(&self.path, place, message));
        }
        match &self.bytes {
            Bytes::Memory(bytes) => Ok(bytes[at as usize..at as usize + count].to_vec()),
            Bytes::File(file) => {
                let mut out = vec![0; count];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(at))
                    .and_then(|_| file.read_exact(&mut out))
                    .map_err(Error::read(&self.path))?;
                Ok(out)
            }
        }
    }

    /// As [`read`](Self::read), but what is there, at most `count`.
    pub(crate) fn read_up_to(&self, at: u64, count: usize, place: &str) -> Result<Vec<u8>> {
        let there = self.len.saturating_sub(at).min(count as u64);
        self.read(at, there as usize, place)
    }
}
