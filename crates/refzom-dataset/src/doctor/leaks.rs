//! Images that are trained on and tested on: by id, by content under another name, and against other data sets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Fault;
use super::pictures::Decoded;
use super::report::Chart;
use crate::{Annotations, PictureKey};

/// What a split is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Train,
    Select,
    Test,
}

fn purpose(split: &str) -> Option<Purpose> {
    match split {
        "train" => Some(Purpose::Train),
        "val" => Some(Purpose::Select),
        test if test.contains("test") => Some(Purpose::Test),
        _ => None,
    }
}

pub(super) fn check(
    annotations: &Annotations,
    decoded: &[Decoded],
    against: &[(String, Annotations)],
    chart: &mut Chart,
) {
    // Splits of every image, with their records.
    let mut splits: BTreeMap<i64, BTreeMap<&str, usize>> = BTreeMap::new();
    for record in &annotations.records {
        let of_image = splits.entry(record.image_id).or_default();
        *of_image.entry(record.split.as_str()).or_insert(0) += 1;
    }
    let purposes = |image: &i64| -> BTreeSet<Purpose> {
        splits.get(image).into_iter().flat_map(BTreeMap::keys).filter_map(|s| purpose(s)).collect()
    };
    for (image, records) in &splits {
        if purposes(image).len() > 1 {
            chart.add(Fault::SplitLeak, || {
                let parts: Vec<String> =
                    records.iter().map(|(split, n)| format!("{n} records in {split}")).collect();
                format!("image {image}: {}", parts.join(", "))
            });
        }
    }
    let mut first: HashMap<u64, Vec<&Decoded>> = HashMap::new();
    for picture in decoded {
        let same = first.entry(picture.hash).or_default();
        let mine = purposes(&picture.image_id);
        let leaks = |other: &&&Decoded| {
            let together: BTreeSet<Purpose> =
                mine.union(&purposes(&other.image_id)).copied().collect();
            other.path != picture.path && together.len() > 1
        };
        if let Some(other) = same.iter().find(leaks) {
            chart.add(Fault::HiddenLeak, || {
                let part = |picture: &Decoded| {
                    let names: Vec<&str> = splits
                        .get(&picture.image_id)
                        .into_iter()
                        .flat_map(BTreeMap::keys)
                        .copied()
                        .collect();
                    format!("{} ({})", picture.path.display(), names.join(", "))
                };
                format!("{} and {}", part(other), part(picture))
            });
        }
        same.push(picture);
    }
    let names = keys(annotations);
    for (title, other) in against {
        let theirs = keys(other);
        let mut tested: HashMap<&PictureKey, &str> = HashMap::new();
        for record in &other.records {
            if purpose(&record.split).is_some_and(|p| p != Purpose::Train)
                && let Some(key) = theirs.get(&record.image_id)
            {
                tested.insert(key, record.split.as_str());
            }
        }
        let trained = splits.iter().filter(|(_, of_image)| of_image.contains_key("train"));
        for (image, _) in trained {
            let Some(key) = names.get(image) else { continue };
            if let Some(split) = tested.get(key) {
                chart.add(Fault::LeakAgainst, || {
                    format!("{key} (image {image}): {split} of {title}")
                });
            }
        }
    }
}

/// What makes an image the same in two data sets, by image id.
fn keys(annotations: &Annotations) -> HashMap<i64, PictureKey> {
    let key = |name: &str| PictureKey::of(&annotations.images.join(name));
    annotations.instances.images.iter().map(|image| (image.id, key(&image.file_name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_have_a_purpose() {
        assert_eq!(purpose("testA"), purpose("testB"));
        assert_eq!(purpose("val"), Some(Purpose::Select));
        assert_eq!(purpose("extra"), None);
    }
}
