//! COCO's and RefCOCO's files in a folder, by their usual names.

use std::path::{Path, PathBuf};

use anyhow::Result;
use refzom_dataset::DataError;
use refzom_dataset::build_zom::ZomInputs;

const IMAGE_FOLDERS: [&str; 6] =
    ["images", "trainval2014", "train2014", "val2014", "train2017", "val2017"];

/// Where the files and folders that options name lie: in `dir` if they are there, else as named.
pub(super) fn place(inputs: &mut ZomInputs, dir: &Path) {
    let ZomInputs { instances, captions, refs, hand_written, images, decisions } = inputs;
    for path in [instances, captions, refs, hand_written, images, decisions].into_iter().flatten() {
        let inside = dir.join(&*path);
        if inside.exists() {
            *path = inside;
        }
    }
}

/// Adds the files of `dir` and `dir/annotations` to the kinds of input that are still empty.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn fill(inputs: &mut ZomInputs, dir: &Path) -> Result<()> {
    let mut files = list(dir)?;
    let annotations = dir.join("annotations");
    if annotations.is_dir() {
        files.extend(list(&annotations)?);
    }
    let named = |prefixes: &[&str], endings: &[&str]| -> Vec<PathBuf> {
        let fits = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            prefixes.iter().any(|p| name.starts_with(p))
                && endings.iter().any(|e| name.ends_with(e))
        };
        files.iter().filter(fits).cloned().collect()
    };
    let fill = |list: &mut Vec<PathBuf>, found: Vec<PathBuf>| {
        if list.is_empty() {
            *list = found;
        }
    };
    fill(&mut inputs.instances, named(&["instances"], &[".json"]));
    fill(&mut inputs.captions, named(&["captions"], &[".json"]));
    fill(&mut inputs.refs, named(&["refs"], &[".p", ".pkl", ".pickle"]));
    fill(&mut inputs.hand_written, named(&["hand"], &[".jsonl", ".csv"]));
    let folders = IMAGE_FOLDERS.iter().map(|name| dir.join(name)).filter(|path| path.is_dir());
    fill(&mut inputs.images, folders.collect());
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| DataError::read(dir, e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_found_and_named_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["annotations", "train2014"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in [
            "annotations/instances_train2014.json",
            "annotations/captions_train2014.json",
            "refs(unc).p",
            "hand.csv",
            "x.json",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut inputs = ZomInputs { captions: vec!["mine.json".into()], ..ZomInputs::default() };
        fill(&mut inputs, dir.path()).unwrap();
        assert_eq!(inputs.captions, [PathBuf::from("mine.json")]);
        assert_eq!(
            (inputs.instances.len(), inputs.refs.len(), inputs.hand_written.len()),
            (1, 1, 1)
        );
        assert!(inputs.images[0].ends_with("train2014"));
        assert!(fill(&mut inputs, &dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn named_files_are_looked_for_in_the_folder_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("refs(unc).p"), "").unwrap();
        let mut inputs = ZomInputs {
            refs: vec!["refs(unc).p".into(), "elsewhere.p".into()],
            ..ZomInputs::default()
        };
        place(&mut inputs, dir.path());
        assert_eq!(inputs.refs, [dir.path().join("refs(unc).p"), PathBuf::from("elsewhere.p")]);
    }
}
