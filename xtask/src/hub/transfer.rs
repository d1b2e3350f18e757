//! Bytes to disk: goes on where an earlier attempt stopped, tries again while that helps, and hashes on the way.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use indicatif::ProgressBar;

use super::checksum::{Digests, Hasher};
use super::remote::{Failure, Patience, Remote, Stated, Tail};
use super::{Address, megabytes};
use crate::exit::{Failed, failed};

/// A try that brings at least this much counts as none.
const PROGRESS: u64 = 64 << 10;
/// The first wait of our own; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Asks until the hub answers or patience ends.
pub(super) fn ask<T>(
    patience: Patience,
    mut request: impl FnMut() -> Result<T, Failure>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error, asked)) => pause(&mut tries, patience, error, asked)?,
        }
    }
}

/// Waits before another try, or gives up.
fn pause(tries: &mut u32, patience: Patience, error: Error, asked: Option<Duration>) -> Result<()> {
    if *tries >= patience.retries {
        return Err(error.context(Failed(format!("gave up after {} tries", *tries + 1))));
    }
    let wait = asked.unwrap_or_else(|| FIRST_WAIT * 2u32.pow((*tries).min(6)));
    *tries += 1;
    eprintln!(
        "{error:#}; try {} of {} in {:.1} s",
        *tries + 1,
        patience.retries + 1,
        wait.as_secs_f64()
    );
    std::thread::sleep(wait);
    Ok(())
}

/// A file on its way from the hub to `path`.
pub(super) struct Transfer<'a> {
    pub(super) remote: &'a Remote<'a>,
    pub(super) patience: Patience,
    /// With the commit as revision, so that a branch that moves meanwhile does no harm.
    pub(super) address: &'a Address,
    pub(super) stated: Stated,
    pub(super) bar: &'a ProgressBar,
}

impl Transfer<'_> {
    /// Completes `path` and says what it holds. What was there is kept and continued.
    ///
    /// # Errors
    /// The hub gives up on us, or we on it; the disk is full; the sizes differ. What has come so far stays in `path`.
    pub(super) fn run(mut self, path: &Path) -> Result<Digests> {
        let size = self.stated.size;
        let mut file = open(path).with_context(|| format!("cannot write {}", path.display()))?;
        let (mut hasher, mut have) = self.resume(&mut file, path)?;
        let mut tries = 0;
        while have < size {
            let before = have;
            let outcome = self
                .remote
                .open(&self.stated.location, have)
                .and_then(|tail| self.copy(tail, &mut file, path, &mut hasher, &mut have));
            self.bar.set_position(have);
            if have >= before + PROGRESS {
                tries = 0;
            }
            match outcome {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error, asked)) => {
                    let error = error
                        .context(format!("{}: interrupted at byte {have} of {size}", self.address));
                    self.bar.suspend(|| pause(&mut tries, self.patience, error, asked))?;
                    // The address of the bytes may have expired.
                    let again = ask(self.patience, || self.remote.state(self.address))?;
                    if (again.size, &again.checksum) != (size, &self.stated.checksum) {
                        return Err(failed!(
                            "{}: the hub now states another file ({}, {}) than before ({size} bytes, {})",
                            self.address,
                            again.size,
                            again.checksum,
                            self.stated.checksum
                        ));
                    }
                    self.stated = again;
                }
            }
        }
        file.sync_all().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(hasher.digests())
    }

    /// Digests of what is there already.
    fn resume(&self, file: &mut File, path: &Path) -> Result<(Hasher, u64)> {
        let mut hasher = Hasher::new(&self.stated.checksum, self.stated.size);
        let mut read = || -> std::io::Result<u64> {
            let there = file.metadata()?.len();
            if there > self.stated.size {
                file.set_len(0)?;
            }
            file.seek(SeekFrom::Start(0))?;
            let (mut buffer, mut have) = (vec![0; 1 << 20], 0);
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(have),
                    n => hasher.update(&buffer[..n]),
                }
                have = file.stream_position()?;
                self.bar.set_position(have);
            }
        };
        let have = read().with_context(|| format!("cannot read {}", path.display()))?;
        if have > 0 {
            let (done, size) = (megabytes(have), megabytes(self.stated.size));
            self.bar.suspend(|| eprintln!("going on at {done} of {size}"));
        }
        Ok((hasher, have))
    }

    /// One answer to the file's end, or as far as it goes.
    fn copy(
        &self,
        tail: Tail,
        file: &mut File,
        path: &Path,
        hasher: &mut Hasher,
        have: &mut u64,
    ) -> Result<(), Failure> {
        let size = self.stated.size;
        let full = |error: std::io::Error, have: u64| {
            Failure::Final(failed!(
                "cannot write {}: {error}; {} are still to come: make room there, or set HF_HOME to a folder with room, \
                 and run again (it goes on at byte {have})",
                path.display(),
                megabytes(size - have)
            ))
        };
        if tail.offset == 0 && *have > 0 {
            // The server sends everything again.
            file.set_len(0).and_then(|()| file.rewind()).map_err(|e| full(e, 0))?;
            *hasher = Hasher::new(&self.stated.checksum, size);
            *have = 0;
        }
        let expected = size - *have;
        let differ = |sent: String| {
            failed!(
                "{}: the hub states {size} bytes, but {sent}; nothing was kept as the file",
                self.address
            )
        };
        if let Some(length) = tail.length
            && length != expected
        {
            return Err(differ(format!("the server sends {}", *have + length)).into());
        }
        let mut body = tail.body.into_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) if *have == size => return Ok(()),
                Ok(0) => return Err(Failure::Passing(anyhow!("the connection ended early"), None)),
                Ok(n) => n,
                Err(error) => {
                    return Err(Failure::Passing(
                        Error::new(error).context("the connection broke"),
                        None,
                    ));
                }
            };
            if n as u64 > size - *have {
                return Err(differ("the server sends more".to_owned()).into());
            }
            // Not buffered: what was hashed is what was written, also after a failure.
            file.write_all(&buffer[..n]).map_err(|error| {
                // Part of the piece may have been written: leave what was counted.
                let _ = file.set_len(*have);
                full(error, *have)
            })?;
            hasher.update(&buffer[..n]);
            *have += n as u64;
            self.bar.set_position(*have);
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}
