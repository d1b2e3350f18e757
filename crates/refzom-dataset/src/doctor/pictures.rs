//! The image files themselves: whole, readable, of the announced size. Decoded by several threads.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;

use super::Fault;
use super::records::State;
use super::report::Chart;
use crate::image::decode_rgb;
use crate::{Annotations, ImageEntry, Orientation};

/// An image that was read without a fault.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    pub(super) image_id: i64,
    pub(super) path: PathBuf,
    /// Of the file's bytes: the same in every run.
    pub(super) hash: u64,
}

/// What one file turned out to be.
enum Outcome {
    Sound(u64),
    Faulty(Fault, String),
}

/// Decodes every image that records need; those at fault make their records unusable.
pub(super) fn check(
    annotations: &Annotations,
    state: &mut State<'_>,
    threads: usize,
    chart: &mut Chart,
    progress: &mut impl FnMut(&'static str, usize, usize),
) -> Vec<Decoded> {
    let work: Vec<(i64, &Path, &ImageEntry)> =
        state.files.iter().map(|(id, (path, image))| (*id, path.as_path(), *image)).collect();
    let next = AtomicUsize::new(0);
    let mut outcomes: Vec<Option<Outcome>> = work.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let (done, ready) = bounded(64);
        for _ in 0..threads.clamp(1, 256).min(work.len().max(1)) {
            let (done, next, work) = (done.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((_, path, image)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let look = || look_at(path, image);
                    // A decoder that panics has met a damaged file; the others are still to be looked at.
                    let outcome = catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| {
                        let text = format!("{}: the decoder gave up", path.display());
                        Outcome::Faulty(Fault::UnreadableImage, text)
                    });
                    if done.send((image.id, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for (at, (id, outcome)) in ready.iter().enumerate() {
            progress("pictures", at + 1, work.len());
            if let Ok(place) = work.binary_search_by_key(&id, |(id, ..)| *id) {
                outcomes[place] = Some(outcome);
            }
        }
    });
    let mut decoded = Vec::with_capacity(work.len());
    // In the order of the ids, whichever thread was quicker.
    for ((image_id, path, _), outcome) in work.iter().zip(outcomes) {
        match outcome {
            Some(Outcome::Sound(hash)) => {
                decoded.push(Decoded { image_id: *image_id, path: path.to_path_buf(), hash });
            }
            Some(Outcome::Faulty(fault, text)) => chart.add(fault, || text),
            None => {}
        }
    }
    let sound: HashSet<i64> = decoded.iter().map(|picture| picture.image_id).collect();
    for (record, usable) in annotations.records.iter().zip(&mut state.usable) {
        *usable &= sound.contains(&record.image_id);
    }
    decoded
}

fn look_at(path: &Path, image: &ImageEntry) -> Outcome {
    let faulty = |message: String| {
        Outcome::Faulty(Fault::UnreadableImage, format!("{}: {message}", path.display()))
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return faulty(error.to_string()),
    };
    let picture = match decode_rgb(&bytes, &path.display().to_string(), Orientation::Ignore) {
        Ok(picture) => picture,
        Err(error) => return Outcome::Faulty(Fault::UnreadableImage, error.to_string()),
    };
    let (width, height) = picture.dimensions();
    if (width, height) == (image.width, image.height) {
        // Without keys of chance: the same hash in every run.
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        return Outcome::Sound(hasher.finish());
    }
    let hint = match (width, height) == (image.height, image.width) {
        true => {
            "; sides are swapped: outlines were drawn on the picture turned by its EXIF orientation, save it turned"
        }
        false => "",
    };
    Outcome::Faulty(
        Fault::ImageSizeDiffers,
        format!(
            "{} has {width} x {height} pixels, its entry (image {}) says {} x {}{hint}",
            path.display(),
            image.id,
            image.width,
            image.height
        ),
    )
}
