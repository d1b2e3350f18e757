//! A folder that is either complete and intact or not there at all.
//!
//! Files are written into `.tmp-..` beside the target, flushed to disk, listed with size and CRC-32 in `MANIFEST`, and the folder
//! is renamed into place; a folder that was there is renamed to `.old-..` first and removed last. A process killed in between
//! leaves hidden folders, of which [`remove_leftovers`] puts a whole one back where the place is empty and removes the rest.
//! A file altered later no longer agrees with the manifest.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

const MANIFEST: &str = "MANIFEST";
const TEMPORARY: &str = ".tmp-";
/// A replaced folder, until the new one is in its place.
const ASIDE: &str = ".old-";

/// Writes a folder `root/name` atomically: `fill` puts its files into the path it is given. A folder of this name is replaced.
///
/// # Errors
/// What `fill` answers, or [`Error::Write`]; in both cases `root/name` is as it was, unless it could not be put back, or the new
/// one is in place and could not be flushed.
pub(crate) fn commit(
    root: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let target = root.join(name);
    let temporary = root.join(format!("{TEMPORARY}{}-{name}", std::process::id()));
    let written =
        write_all(root, &temporary, fill).and_then(|()| put_in_place(root, &temporary, &target));
    if written.is_err() {
        // Best effort: the next run removes what is left.
        let _ = fs::remove_dir_all(&temporary);
    }
    written.map(|()| target)
}

fn write_all(root: &Path, temporary: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    fs::create_dir_all(root).map_err(Error::write(root))?;
    if temporary.exists() {
        fs::remove_dir_all(temporary).map_err(Error::write(temporary))?;
    }
    fs::create_dir(temporary).map_err(Error::write(temporary))?;
    fill(temporary)?;
    let mut manifest = String::new();
    for name in file_names(temporary)? {
        let path = temporary.join(&name);
        let file = File::open(&path).map_err(Error::write(&path))?;
        file.sync_all().map_err(Error::write(&path))?;
        let (bytes, crc) = digest(&path).map_err(Error::write(&path))?;
        writeln!(manifest, "{crc:08x} {bytes} {name}").expect("writing to a String cannot fail");
    }
    let path = temporary.join(MANIFEST);
    let mut file = File::create(&path).map_err(Error::write(&path))?;
    file.write_all(manifest.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(Error::write(&path))?;
    sync_folder(temporary)?;
    slow_down();
    Ok(())
}

fn put_in_place(root: &Path, temporary: &Path, target: &Path) -> Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let aside = root.join(format!("{ASIDE}{}-{name}", std::process::id()));
    let replaces = target.exists();
    if replaces {
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::write(&aside))?;
        }
        fs::rename(target, &aside).map_err(Error::write(target))?;
    }
    if let Err(error) = fs::rename(temporary, target) {
        if replaces {
            // Best effort: else it lies beside, whole.
            let _ = fs::rename(&aside, target);
        }
        return Err(Error::write(target)(error));
    }
    sync_folder(root)?;
    if replaces {
        // Best effort, as with a temporary folder.
        let _ = fs::remove_dir_all(&aside);
    }
    Ok(())
}

/// Removes a folder so that a kill in between leaves only a temporary one.
pub(crate) fn remove(root: &Path, folder: &Path) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let temporary = root.join(format!("{TEMPORARY}{}-old-{name}", std::process::id()));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::write(&temporary))?;
    }
    fs::rename(folder, &temporary).map_err(Error::write(folder))?;
    fs::remove_dir_all(&temporary).map_err(Error::write(&temporary))
}

/// Removes what killed processes left, of the folder `name` alone or of all. Where one was killed between moving a folder away
/// and putting the new one in its place, the new one is put there, or the old one if the new one is damaged. Only the process
/// that holds the run may call it.
pub(crate) fn remove_leftovers(root: &Path, name: Option<&str>) -> Result<()> {
    let Ok(entries) = fs::read_dir(root) else { return Ok(()) };
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // The process and the folder's name.
    let of = |entry: &str, kind: &str| -> Option<(String, String)> {
        let (process, folder) = entry.strip_prefix(kind)?.split_once('-')?;
        let known = process.parse::<u32>().is_ok() && name.is_none_or(|name| name == folder);
        known.then(|| (process.to_owned(), folder.to_owned()))
    };
    for entry in &names {
        let Some((process, folder)) = of(entry, ASIDE) else { continue };
        let (target, aside) = (root.join(&folder), root.join(entry));
        let new = root.join(format!("{TEMPORARY}{process}-{folder}"));
        if !target.exists() {
            let whole = if verify(&new).is_ok() { &new } else { &aside };
            fs::rename(whole, &target).map_err(Error::write(&target))?;
        }
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::write(&aside))?;
        }
    }
    for entry in names.iter().filter(|entry| of(entry, TEMPORARY).is_some()) {
        let path = root.join(entry);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::write(&path))?;
        }
    }
    Ok(())
}

/// Checks every file of a committed folder against its manifest.
///
/// # Errors
/// [`Error::Checkpoint`] naming the first file that is missing or altered.
pub(crate) fn verify(folder: &Path) -> Result<()> {
    let path = folder.join(MANIFEST);
    let manifest = fs::read_to_string(&path).map_err(|_| {
        Error::checkpoint(folder, "has no readable MANIFEST: it is damaged or not a checkpoint")
    })?;
    if manifest.is_empty() {
        return Err(Error::checkpoint(
            folder,
            "MANIFEST is empty: the checkpoint is damaged, use another one",
        ));
    }
    for line in manifest.lines() {
        let mut fields = line.splitn(3, ' ');
        let (crc, bytes, name) = (fields.next(), fields.next(), fields.next());
        let (Some(Ok(crc)), Some(Ok(bytes)), Some(name)) =
            (crc.map(|text| u32::from_str_radix(text, 16)), bytes.map(str::parse::<u64>), name)
        else {
            return Err(Error::checkpoint(folder, "MANIFEST is damaged; use another checkpoint"));
        };
        match digest(&folder.join(name)) {
            Ok(found) if found == (bytes, crc) => {}
            Ok((found, _)) if found != bytes => {
                let message = format!(
                    "{name} has {found} bytes instead of {bytes}: it is damaged, use another checkpoint"
                );
                return Err(Error::checkpoint(folder, message));
            }
            Ok(_) => {
                let message = format!(
                    "{name} was altered after it was written (CRC-32 differs); use another checkpoint"
                );
                return Err(Error::checkpoint(folder, message));
            }
            Err(error) => {
                return Err(Error::checkpoint(
                    folder,
                    format!("{name} cannot be read ({error}); use another checkpoint"),
                ));
            }
        }
    }
    Ok(())
}

fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::write(folder))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn digest(path: &Path) -> std::io::Result<(u64, u32)> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((bytes, hasher.finalize())),
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// A rename survives a power cut only once its folder is flushed. Not every file system can; those that cannot have nothing to flush.
fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|file| file.sync_all()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Error::write(folder)(error))
        }
        _ => Ok(()),
    }
}

/// Test hook: `DMMI_TEST_SLOW_CHECKPOINT_MS` makes each stage of a write last, so that a test can kill the process in its middle.
pub(crate) fn slow_down() {
    if let Some(ms) =
        std::env::var("DMMI_TEST_SLOW_CHECKPOINT_MS").ok().and_then(|text| text.parse().ok())
    {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(folder: &Path, text: &str) -> Result<()> {
        fs::write(folder.join("a.txt"), text).map_err(Error::write(folder))?;
        fs::write(folder.join("b.bin"), [7_u8; 3000]).map_err(Error::write(folder))
    }

    #[test]
    fn a_committed_folder_verifies_and_damage_is_named() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let folder = commit(root.path(), "step-1", |path| fill(path, "one"))?;
        verify(&folder)?;
        let mut bytes = fs::read(folder.join("b.bin"))?;
        bytes[1234] ^= 1;
        fs::write(folder.join("b.bin"), &bytes)?;
        assert!(
            verify(&folder).expect_err("one flipped bit").to_string().contains("b.bin was altered")
        );
        fs::write(folder.join("b.bin"), &bytes[..100])?;
        assert!(
            verify(&folder)
                .expect_err("cut short")
                .to_string()
                .contains("100 bytes instead of 3000")
        );
        fs::remove_file(folder.join("a.txt"))?;
        assert!(verify(&folder).expect_err("missing").to_string().contains("a.txt cannot be read"));
        fs::remove_file(folder.join(MANIFEST))?;
        assert!(verify(&folder).is_err());
        Ok(())
    }

    #[test]
    fn a_failed_write_leaves_the_old_folder_and_no_rest() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let folder = commit(root.path(), "best", |path| fill(path, "old"))?;
        let failed = commit(root.path(), "best", |path| {
            fill(path, "new")?;
            Err(Error::write(path)(std::io::Error::from(std::io::ErrorKind::StorageFull)))
        });
        assert!(matches!(failed, Err(Error::Write { .. })));
        verify(&folder)?;
        assert_eq!(fs::read_to_string(folder.join("a.txt"))?, "old");
        assert_eq!(fs::read_dir(root.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn leftovers_are_removed_and_a_folder_can_be_replaced() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join(".tmp-99-step-2"))?;
        commit(root.path(), "best", |path| fill(path, "old"))?;
        let folder = commit(root.path(), "best", |path| fill(path, "new"))?;
        assert_eq!(fs::read_dir(root.path())?.count(), 2);
        remove_leftovers(root.path(), None)?;
        assert_eq!(fs::read_to_string(folder.join("a.txt"))?, "new");
        assert_eq!(fs::read_dir(root.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn killed_between_two_renames_leaves_a_whole_folder() -> anyhow::Result<()> {
        for (damaged, expected) in [(false, "new"), (true, "old")] {
            let root = tempfile::tempdir()?;
            let root = root.path();
            for (text, left) in [("old", ".old-99-best"), ("new", ".tmp-99-best")] {
                fs::rename(commit(root, "best", |path| fill(path, text))?, root.join(left))?;
            }
            if damaged {
                fs::write(root.join(".tmp-99-best/a.txt"), "half")?;
            }
            remove_leftovers(root, Some("other"))?;
            assert_eq!(fs::read_dir(root)?.count(), 2);
            remove_leftovers(root, Some("best"))?;
            assert_eq!(fs::read_to_string(root.join("best/a.txt"))?, expected);
            assert_eq!(fs::read_dir(root)?.count(), 1);
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_the_old_folder() -> anyhow::Result<()> {
        let root = tempfile::tempdir()?;
        let folder = commit(root.path(), "best", |path| fill(path, "old"))?;
        assert!(put_in_place(root.path(), &root.path().join("nowhere"), &folder).is_err());
        verify(&folder)?;
        assert_eq!(fs::read_dir(root.path())?.count(), 1);
        Ok(())
    }
}
