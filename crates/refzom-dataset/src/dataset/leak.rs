//! Which picture a sample shows, whatever the data set: to carve a validation split by picture, and to find pictures that
//! are trained on and tested on. RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and Ref-ZOM all draw from COCO's train2014, with
//! splits of their own: training on one while testing on another can show the network its test pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::hash::ContentHash;
use super::{Dataset, Sample};
use crate::DataError;

/// A picture's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PictureKey {
    /// COCO's number, from names like `COCO_train2014_000000581857.jpg` or `000000581857.jpg`; the same in every data set.
    Coco(u64),
    /// Any other picture: its path.
    Path(String),
}

impl PictureKey {
    /// The identity of the picture in the file `path`.
    pub fn of(path: &Path) -> Self {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let digits = stem.rsplit('_').next().unwrap_or_default();
        let coco = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse() {
            Ok(number) if coco && (digits == stem || stem.starts_with("COCO_")) => {
                Self::Coco(number)
            }
            _ => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
                Self::Path(whole.to_string_lossy().into_owned())
            }
        }
    }
}

impl fmt::Display for PictureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coco(number) => write!(f, "COCO {number}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// Pictures that are trained on and held out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaks {
    /// Per held-out set with leaks: its name and the pictures, in order.
    pub sets: Vec<(String, Vec<PictureKey>)>,
    /// Training samples on such pictures.
    pub samples: usize,
}

impl Leaks {
    /// Looks for pictures of `train` in the named sets.
    pub fn find(train: &Dataset, held_out: &[(&str, &Dataset)]) -> Self {
        let trained = train.pictures();
        let mut sets = Vec::new();
        let mut all = BTreeSet::new();
        for (name, dataset) in held_out {
            let shared: Vec<PictureKey> =
                dataset.pictures().into_keys().filter(|key| trained.contains_key(key)).collect();
            if !shared.is_empty() {
                all.extend(shared.iter().cloned());
                sets.push(((*name).to_owned(), shared));
            }
        }
        let samples = all.iter().map(|key| trained[key]).sum();
        Self { sets, samples }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, pictures)) in self.sets.iter().enumerate() {
            let shown: Vec<String> = pictures.iter().take(3).map(ToString::to_string).collect();
            let dots = if pictures.len() > 3 { ", .." } else { "" };
            let comma = if i > 0 { "; " } else { "" };
            let n = pictures.len();
            write!(f, "{comma}{n} pictures of {name} are trained on ({}{dots})", shown.join(", "))?;
        }
        Ok(())
    }
}

impl Dataset {
    /// The pictures, with the number of samples on each.
    pub fn pictures(&self) -> BTreeMap<PictureKey, usize> {
        let mut pictures = BTreeMap::new();
        let mut last: Option<(&Sample, PictureKey)> = None;
        for sample in &self.samples {
            let key = match &last {
                Some((before, key)) if before.image_path == sample.image_path => key.clone(),
                _ => PictureKey::of(&sample.image_path),
            };
            *pictures.entry(key.clone()).or_insert(0) += 1;
            last = Some((sample, key));
        }
        pictures
    }

    /// Without the samples on these pictures.
    pub fn without(mut self, leaks: &Leaks) -> Self {
        let held: BTreeSet<&PictureKey> = leaks.sets.iter().flat_map(|(_, keys)| keys).collect();
        self.samples.retain(|sample| !held.contains(&PictureKey::of(&sample.image_path)));
        self
    }

    /// Splits by picture: what stays, and a part with `share` of the pictures, drawn by `seed`.
    ///
    /// Which pictures are drawn depends on them and the seed alone, not on their order in the file.
    ///
    /// # Errors
    /// `share` is not between 0 and 1, or one part would be empty.
    pub fn carve(self, share: f64, seed: u64) -> Result<(Dataset, Dataset), DataError> {
        let wrong = |message: String| DataError::Config { field: "carve", message };
        if !(share > 0.0 && share < 1.0) {
            return Err(wrong(format!(
                "{share} is no share of the pictures; give one between 0 and 1"
            )));
        }
        let drawn_at = |key: &PictureKey| {
            let mut hash = ContentHash::new();
            hash.update(&seed.to_le_bytes());
            match key {
                PictureKey::Coco(number) => hash.update(&number.to_le_bytes()),
                // The folder may move: the name alone decides.
                PictureKey::Path(path) => {
                    let name = Path::new(path).file_name().unwrap_or_default();
                    hash.update(name.to_string_lossy().as_bytes());
                }
            }
            hash.finish()
        };
        let mut keys: Vec<(u64, PictureKey)> =
            self.pictures().into_keys().map(|key| (drawn_at(&key), key)).collect();
        if keys.len() < 2 {
            return Err(wrong(format!("{} pictures cannot be split in two", keys.len())));
        }
        keys.sort_unstable();
        let count = ((keys.len() as f64 * share).round() as usize).clamp(1, keys.len() - 1);
        let drawn: BTreeSet<PictureKey> =
            keys.into_iter().take(count).map(|(_, key)| key).collect();
        let (carved, rest) = self
            .samples
            .into_iter()
            .partition(|sample| drawn.contains(&PictureKey::of(&sample.image_path)));
        Ok((Dataset { samples: rest }, Dataset { samples: carved }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TargetKind;

    fn dataset(names: &[&str]) -> Dataset {
        let sample = |name: &&str| Sample {
            ref_id: 1,
            sentence_id: 1,
            image_id: 1,
            image_path: name.into(),
            height: 1,
            width: 1,
            expression: "dog".into(),
            kind: TargetKind::Zero,
            annotation_ids: Vec::new(),
            segmentations: Vec::new(),
            split: "train".into(),
            source: None,
        };
        Dataset::from_samples(names.iter().map(sample).collect())
    }

    #[test]
    fn cocos_pictures_are_known_by_their_number() {
        let key = |path: &str| PictureKey::of(Path::new(path));
        assert_eq!(key("a/COCO_train2014_000000581857.jpg"), PictureKey::Coco(581_857));
        assert_eq!(key("b/000000581857.jpg"), PictureKey::Coco(581_857));
        assert!(matches!(key("b/scene_000000581857.jpg"), PictureKey::Path(_)));
        assert!(matches!(key("b/581857.jpg"), PictureKey::Path(_)));
        assert_ne!(key("a/1.jpg"), key("b/1.jpg"));
        assert_eq!(key("a/1.jpg"), key("./a/1.jpg"));
    }

    #[test]
    fn leaks_are_found_across_data_sets_and_taken_out() {
        let train = dataset(&[
            "refcoco/COCO_train2014_000000000001.jpg",
            "refcoco/COCO_train2014_000000000001.jpg",
            "refcoco/COCO_train2014_000000000002.jpg",
            "own/1.jpg",
        ]);
        let other = dataset(&["zom/000000000001.jpg", "zom/000000000009.jpg"]);
        let clean = dataset(&["own/2.jpg"]);
        let leaks = Leaks::find(&train, &[("refcocog test", &other), ("own test", &clean)]);
        assert_eq!((leaks.sets.len(), leaks.samples), (1, 2));
        assert_eq!(leaks.to_string(), "1 pictures of refcocog test are trained on (COCO 1)");
        let cleaned = train.without(&leaks);
        assert_eq!(cleaned.len(), 2);
        assert!(Leaks::find(&cleaned, &[("a", &other), ("b", &clean)]).is_empty());
    }

    #[test]
    fn carving_is_by_picture_seeded_and_independent_of_the_order() {
        let names: Vec<String> = (0..200).map(|i| format!("p/{}.jpg", i / 2)).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        let paths = |d: &Dataset| -> BTreeSet<String> {
            d.samples().iter().map(|s| s.image_path.display().to_string()).collect()
        };
        let (train, val) = dataset(&names).carve(0.1, 5).unwrap();
        assert_eq!((train.len(), val.len()), (180, 20));
        assert!(paths(&train).is_disjoint(&paths(&val)));
        names.reverse();
        let again = dataset(&names).carve(0.1, 5).unwrap().1;
        assert_eq!(paths(&again), paths(&val));
        assert_ne!(paths(&dataset(&names).carve(0.1, 6).unwrap().1), paths(&val));
        for share in [0.0, 1.0, f64::NAN, -1.0] {
            assert!(dataset(&names).carve(share, 5).is_err());
        }
        assert!(dataset(&["p/1.jpg", "p/1.jpg"]).carve(0.5, 1).is_err());
        assert_eq!(dataset(&["p/1.jpg", "p/2.jpg"]).carve(0.01, 1).unwrap().1.len(), 1);
    }
}
