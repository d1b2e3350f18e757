//! Folders written whole or not at all: filled under a name beside their place, and renamed when they are complete.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::DataError;

/// Lets `write` fill a new folder that then becomes `dir`, which must not exist or be empty. Nothing is left behind on an
/// error; what killed processes left behind is removed.
///
/// # Errors
/// `dir` holds something or has no name, `write` fails, or the folder cannot be made or take its place.
pub(crate) fn write_whole<T>(
    dir: &Path,
    write: impl FnOnce(&Path) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let exists = must_be_empty(dir)?;
    let stem = stem_of(dir)?;
    remove_leftovers(dir, &stem);
    // A sibling, so that the final rename stays on one file system.
    let partial = dir.with_file_name(format!("{stem}{}", std::process::id()));
    let made = fs::create_dir_all(&partial).map_err(|e| DataError::write(&partial, e));
    let written = made.and_then(|()| write(&partial)).and_then(|done| {
        if exists {
            fs::remove_dir(dir).map_err(|e| DataError::write(dir, e))?;
        }
        fs::rename(&partial, dir).map_err(|e| DataError::write(dir, e))?;
        Ok(done)
    });
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Whether `dir` exists.
///
/// # Errors
/// It holds something, or is no folder.
pub(crate) fn must_be_empty(dir: &Path) -> Result<bool, DataError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => {
                Err(DataError::format(dir, "is not empty; remove it or name another folder"))
            }
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(DataError::write(dir, e)),
    }
}

/// `.NAME.partial-`; the id of the process that writes follows it.
fn stem_of(dir: &Path) -> Result<String, DataError> {
    let name = dir
        .file_name()
        .ok_or_else(|| DataError::format(dir, "has no folder name; give a folder to create"))?;
    Ok(format!(".{}.partial-", name.to_string_lossy()))
}

/// Removes what processes that run no more left of the same folder. What cannot be removed stays.
fn remove_leftovers(dir: &Path, stem: &str) {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(stem));
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && process.is_some_and(is_gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the process of this id surely runs no more, which only Linux tells. Of our own id it was an earlier one.
fn is_gone(id: &str) -> bool {
    let Ok(number) = id.parse::<u32>() else { return false };
    let processes = Path::new("/proc");
    number == std::process::id()
        || (cfg!(target_os = "linux")
            && processes.join("self").exists()
            && !processes.join(number.to_string()).exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn put(dir: &Path) -> Result<(), DataError> {
        fs::write(dir.join("file"), "").map_err(|e| DataError::write(dir, e))
    }

    #[test]
    fn a_folder_is_whole_or_not_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/set");
        let failed = write_whole(&dir, |partial| {
            put(partial)?;
            Err::<(), _>(DataError::format(partial, "the disk is full"))
        });
        assert!(failed.unwrap_err().to_string().contains("the disk is full"));
        assert!(names(&root.path().join("a")).is_empty());
        fs::create_dir(&dir).unwrap();
        write_whole(&dir, put).unwrap();
        assert_eq!(names(&root.path().join("a")), ["set"]);
        assert_eq!(names(&dir), ["file"]);
        let error = write_whole(&dir, put).unwrap_err().to_string();
        assert!(error.contains("not empty; remove it"), "{error}");
        let error = write_whole(Path::new("/"), put).unwrap_err().to_string();
        assert!(error.contains("not empty") || error.contains("no folder name"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_killed_processes_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let own = format!(".set.partial-{}", std::process::id());
        // No process has the first number; process 1 always runs.
        for left in [".set.partial-4000000000", &own, ".set.partial-1", ".set.partial-x"] {
            fs::create_dir_all(root.path().join(left).join("images")).unwrap();
        }
        fs::create_dir(root.path().join(".other.partial-4000000000")).unwrap();
        write_whole(&root.path().join("set"), put).unwrap();
        let expected = [".other.partial-4000000000", ".set.partial-1", ".set.partial-x", "set"];
        assert_eq!(names(root.path()), expected);
    }
}
