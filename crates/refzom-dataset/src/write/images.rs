//! Where the images of a written data set lie.

use std::collections::HashMap;
use std::path::Path;

use super::loss::{Loss, Losses};
use crate::dataset::ImageFinder;
use crate::{Annotations, DataError};

/// What happens to the images of a data set that is written in another format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePlacement {
    /// `images` becomes a link to the folder they are in: no space is used (where the system has no such links, copies).
    #[default]
    Link,
    /// Images that records need are copied into `images`.
    Copy,
    /// They stay where they are; readers must be told.
    Leave,
}

/// Puts the images below `out/images`.
///
/// # Errors
/// A link or a copy cannot be made.
pub(super) fn place(
    annotations: &Annotations,
    how: ImagePlacement,
    out: &Path,
    losses: &mut Losses,
    progress: impl FnMut(&'static str, usize, usize),
) -> Result<(), DataError> {
    let to = out.join("images");
    match how {
        ImagePlacement::Leave => Ok(()),
        ImagePlacement::Copy => copy(annotations, &to, losses, progress),
        #[cfg(unix)]
        ImagePlacement::Link => {
            // A folder beside the annotations may have no name of its own.
            let from = Path::new(".").join(&annotations.images).canonicalize();
            let from = from.map_err(|e| DataError::read(&annotations.images, e))?;
            std::os::unix::fs::symlink(from, &to).map_err(|e| DataError::write(&to, e))
        }
        #[cfg(not(unix))]
        ImagePlacement::Link => copy(annotations, &to, losses, progress),
    }
}

fn copy(
    annotations: &Annotations,
    to: &Path,
    losses: &mut Losses,
    mut progress: impl FnMut(&'static str, usize, usize),
) -> Result<(), DataError> {
    std::fs::create_dir_all(to).map_err(|e| DataError::write(to, e))?;
    let mut finder = ImageFinder::new(annotations.images.clone());
    let used: HashMap<i64, &str> =
        annotations.records.iter().map(|r| (r.image_id, r.file_name.as_str())).collect();
    let images: Vec<_> = annotations
        .instances
        .images
        .iter()
        .filter_map(|image| Some((image, *used.get(&image.id)?)))
        .collect();
    for (at, (image, recorded)) in images.iter().enumerate() {
        progress("images", at + 1, images.len());
        let Ok(name) = finder.name(&image.file_name, recorded) else {
            losses.add(Loss::MissingImage, 1);
            continue;
        };
        let (from, path) = (annotations.images.join(name), to.join(name));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| DataError::write(parent, e))?;
        }
        std::fs::copy(&from, &path).map_err(|e| DataError::write(&path, e))?;
    }
    Ok(())
}
