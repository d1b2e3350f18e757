//! A look at every picture before a run, so that a damaged one does not end it hours later.

use std::collections::BTreeMap;
use std::path::PathBuf;

use refzom_dataset::{Dataset, Orientation, load_rgb};

/// Pictures that cannot be decoded or are not as large as announced, with the reason.
pub(crate) fn damaged_pictures(dataset: &Dataset, threads: usize) -> BTreeMap<PathBuf, String> {
    let announced: BTreeMap<&PathBuf, (u32, u32)> =
        dataset.samples().iter().map(|s| (&s.image_path, (s.width, s.height))).collect();
    let announced: Vec<_> = announced.into_iter().collect();
    let share = announced.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = announced
            .chunks(share)
            .map(|part| {
                scope.spawn(move || {
                    let damage = |(path, size): &(&PathBuf, (u32, u32))| match load_rgb(
                        path,
                        Orientation::Ignore,
                    ) {
                        Err(error) => Some(((*path).clone(), error.to_string())),
                        Ok(picture) if picture.dimensions() != *size => {
                            let (w, h) = picture.dimensions();
                            let what = format!(
                                "image {}: has {w} x {h} pixels, instances.json says {} x {}",
                                path.display(),
                                size.0,
                                size.1
                            );
                            Some(((*path).clone(), what))
                        }
                        Ok(_) => None,
                    };
                    part.iter().filter_map(damage).collect::<Vec<_>>()
                })
            })
            .collect();
        // A worker that panicked on a picture has said so; its part is then found out by the loader.
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    })
}
