//! Files that a command leaves: whole or not at all, and never in the place of something else.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::exit::bad_input;

/// Writes a file, making its folder; a reader never sees half of it, and what was there stays if it cannot be written.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).with_context(context)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let placed = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        // The write's error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    placed.with_context(context)
}

/// Refuses a place that a user named for a result, before any work is done: a folder, a file in a folder that does not
/// exist, or a file of another kind than the result's, which begins with `first`: a photo is not to be replaced.
///
/// # Errors
/// Bad input, naming the option.
pub(crate) fn check_place(option: &str, path: &Path, first: u8) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if path.is_dir() || parent.is_some_and(|parent| !parent.is_dir()) {
        return Err(bad_input!("{option} {}: give a file in a folder that exists", path.display()));
    }
    keep_others(path, first)
}

/// Refuses to replace a file that does not begin with `first` (white space aside).
///
/// # Errors
/// Bad input.
pub(crate) fn keep_others(path: &Path, first: u8) -> Result<()> {
    let mut head = [0; 64];
    let read = match fs::File::open(path).and_then(|mut file| file.read(&mut head)) {
        // Not there, or not readable: writing will tell.
        Err(_) => return Ok(()),
        Ok(read) => read,
    };
    match head[..read].iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(found) if *found != first && path.is_file() => Err(bad_input!(
            "{} holds something else and is not replaced; choose another name",
            path.display()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn results_replace_results_only() {
        let root = tempfile::tempdir().unwrap();
        let (json, photo) = (root.path().join("a.json"), root.path().join("a.png"));
        save(&json, b"{}").unwrap();
        fs::write(&photo, b"\x89PNG").unwrap();
        check_place("--json", &json, b'{').unwrap();
        check_place("--json", &root.path().join("new.json"), b'{').unwrap();
        for (path, text) in [
            (photo, "not replaced"),
            (root.path().to_path_buf(), "--json"),
            (root.path().join("none/a.json"), "exists"),
        ] {
            let message = check_place("--json", &path, b'{').unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn nothing_is_left_of_a_file_that_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("x");
        fs::create_dir(&folder).unwrap();
        assert!(save(&folder, b"text").is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
