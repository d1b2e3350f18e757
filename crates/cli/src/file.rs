//! Files that a command leaves: whole or not at all, and never in the place of something else.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::exit::bad_input;

/// Writes a file, making its folder; a reader never sees half of it, and what was there stays if it cannot be written. A link
/// stays, and what it names is written; a device or a pipe is written into.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    if is_stream(path) {
        let stream = fs::File::options().write(true).open(path);
        return stream.and_then(|mut stream| stream.write_all(bytes)).with_context(context);
    }
    let path = named(path);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).with_context(context)?;
    }
    let temporary = temporary(&path);
    let placed = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
    if placed.is_err() {
        // The write's error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    placed.with_context(context)
}

/// Whether a device or a pipe is there, or a link to one.
pub(crate) fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// The file that a link names, there or not; any other path itself.
fn named(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    // More links in a row no system follows.
    for _ in 0..40 {
        let Ok(next) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}

/// Where a file is written before it takes its place: beside it, so that one rename does.
fn temporary(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    PathBuf::from(temporary)
}

/// Refuses a place that a user named for a result, before any work is done: a folder, a file in a folder that does not
/// exist or cannot be written, or a file of another kind than the result's, which begins with `first`: a photo is not to be
/// replaced.
///
/// # Errors
/// Bad input, naming the option.
pub(crate) fn check_place(option: &str, path: &Path, first: u8) -> Result<()> {
    if is_stream(path) {
        return Ok(());
    }
    let place = named(path);
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    if place.is_dir() || parent.is_some_and(|parent| !parent.is_dir()) {
        return Err(bad_input!("{option} {}: give a file in a folder that exists", path.display()));
    }
    keep_others(path, first)?;
    let probe = temporary(&place);
    let probed = fs::File::create(&probe).and_then(|_| fs::remove_file(&probe));
    probed.with_context(|| {
        format!("{option} {}: cannot write there; name another folder", path.display())
    })
}

/// Refuses to replace a file that does not begin with `first` (white space aside).
///
/// # Errors
/// Bad input.
pub(crate) fn keep_others(path: &Path, first: u8) -> Result<()> {
    // Opening a pipe would wait for who writes into it.
    if !path.is_file() {
        return Ok(());
    }
    let mut head = [0; 64];
    let read = match fs::File::open(path).and_then(|mut file| file.read(&mut head)) {
        // Not readable: writing will tell.
        Err(_) => return Ok(()),
        Ok(read) => read,
    };
    match head[..read].iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(found) if *found != first => Err(bad_input!(
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

    #[test]
    #[cfg(unix)]
    fn links_stay_and_pipes_are_written_into() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for (link, target) in [("a.json", "there.json"), ("b.json", "new.json")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        fs::write(at("there.json"), "{}").unwrap();
        let pipe = at("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = pipe.clone();
        let reader = std::thread::spawn(move || fs::read(reader).unwrap());
        for path in [at("a.json"), at("b.json"), pipe.clone()] {
            check_place("--json", &path, b'{').unwrap();
            save(&path, b"{1}").unwrap();
        }
        assert_eq!(reader.join().unwrap(), b"{1}");
        assert!(is_stream(&pipe) && at("a.json").is_symlink() && at("b.json").is_symlink());
        for name in ["there.json", "new.json"] {
            assert_eq!(fs::read(at(name)).unwrap(), b"{1}", "{name}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 5);
    }
}
