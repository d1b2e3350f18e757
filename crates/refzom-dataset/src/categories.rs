//! Which category of `instances.json` every cell of a picture shows: what a visual encoder can learn before it meets sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::mask::Rle;
use crate::prepare::announced_picture;
use crate::{Annotations, DataError, Dataset, DatasetConfig, ImageTransform, Segmentation};

/// The pictures of a data set with every annotated object in them, whether a sentence speaks of it or not.
#[derive(Clone, Debug)]
pub struct CategoryMaps {
    names: Vec<String>,
    pictures: Vec<Outlined>,
}

#[derive(Clone, Debug)]
struct Outlined {
    path: PathBuf,
    height: u32,
    width: u32,
    /// Class (from 1) and outline.
    objects: Vec<(u32, Segmentation)>,
}

impl CategoryMaps {
    /// The pictures of `dataset`, which is (part of) a split of `cfg`, and their objects in the annotation file of `cfg`.
    ///
    /// # Errors
    /// The file cannot be read, or tells no category of these objects; in one's own sets the key `category` does.
    pub fn open(cfg: &DatasetConfig, dataset: &Dataset) -> Result<Self, DataError> {
        let annotations = Annotations::open(cfg)?;
        let file = annotations.file().to_path_buf();
        let instances = annotations.instances;
        let mut pictures: BTreeMap<i64, Outlined> = BTreeMap::new();
        for sample in dataset.samples() {
            pictures.entry(sample.image_id).or_insert_with(|| Outlined {
                path: sample.image_path.clone(),
                height: sample.height,
                width: sample.width,
                objects: Vec::new(),
            });
        }
        let known: BTreeMap<i64, &str> =
            instances.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
        let used: BTreeSet<i64> = instances
            .annotations
            .iter()
            .filter(|a| pictures.contains_key(&a.image_id) && known.contains_key(&a.category_id))
            .map(|a| a.category_id)
            .collect();
        if used.is_empty() {
            return Err(DataError::format(
                annotations.instances_file.unwrap_or(file),
                "names no category of an object in these pictures; a visual encoder cannot be trained on categories here",
            ));
        }
        let names = used.iter().map(|id| known[id].to_owned()).collect();
        let classes: BTreeMap<i64, u32> = used.into_iter().zip(1..).collect();
        for object in instances.annotations {
            if let (Some(picture), Some(class)) =
                (pictures.get_mut(&object.image_id), classes.get(&object.category_id))
            {
                picture.objects.push((*class, object.segmentation));
            }
        }
        Ok(Self { names, pictures: pictures.into_values().collect() })
    }

    /// Names of the categories; the first is class 1. Class 0 is everything else.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// Appends picture `index` as `(3, H, W)` floats to `images`, and to `classes` the class at the middle of each of its
    /// `cells` (rows, columns). Where objects overlap the smallest one counts. Outlines that cannot be drawn are left out;
    /// [`Doctor`](crate::Doctor) lists them.
    ///
    /// # Errors
    /// There is no such picture, or it cannot be decoded or has another size than announced.
    pub fn load_onto(
        &self,
        index: usize,
        transform: &ImageTransform,
        cells: (usize, usize),
        images: &mut Vec<f32>,
        classes: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        let picture = self.pictures.get(index).ok_or_else(|| {
            DataError::Empty(format!("there is no picture {index}, only {}", self.len()))
        })?;
        let size = (picture.width, picture.height);
        transform.apply_onto(&announced_picture(&picture.path, size)?, images);
        let drawn = picture.objects.iter().filter_map(|(class, outline)| {
            Some((*class, outline.to_rle(picture.height, picture.width).ok()?))
        });
        let mut drawn: Vec<(u32, Rle)> = drawn.collect();
        drawn.sort_by_key(|(_, rle)| std::cmp::Reverse(rle.area()));
        let from = classes.len();
        classes.resize(from + cells.0 * cells.1, 0);
        let mut mask = vec![0; cells.0 * cells.1];
        for (class, rle) in drawn {
            mask.fill(0);
            rle.paint_resized(&mut mask, cells);
            let inside = classes[from..].iter_mut().zip(&mask).filter(|(_, inside)| **inside != 0);
            inside.for_each(|(cell, _)| *cell = class);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{SyntheticConfig, SyntheticRefZom};

    #[test]
    fn cells_show_the_category_of_the_object_in_front() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        let scenes = SyntheticConfig {
            train_scenes: 4,
            val_scenes: 1,
            test_scenes: 1,
            ..SyntheticConfig::quickstart()
        };
        SyntheticRefZom::new(scenes).unwrap().write_to(&dir).unwrap();
        let cfg = DatasetConfig::new(&dir, "train");
        let dataset = Dataset::load(&cfg).unwrap().0;
        let maps = CategoryMaps::open(&cfg, &dataset).unwrap();
        assert_eq!(maps.len(), 4);
        assert!(
            maps.names()
                .iter()
                .all(|name| ["circle", "square", "triangle"].contains(&name.as_str()))
        );
        let transform = ImageTransform::imagenet(64, 64);
        let (mut images, mut classes) = (Vec::new(), Vec::new());
        for index in 0..4 {
            maps.load_onto(index, &transform, (64, 64), &mut images, &mut classes).unwrap();
        }
        assert_eq!((images.len(), classes.len()), (4 * 3 * 64 * 64, 4 * 64 * 64));
        // Synthetic outlines are what is seen of an object: every pixel of a target is of one of the classes.
        for sample in dataset.samples() {
            let at = dataset.samples().iter().map(|s| s.image_id).collect::<BTreeSet<_>>();
            let at = at.iter().position(|id| *id == sample.image_id).unwrap();
            let mask = sample.mask().unwrap();
            let inside =
                classes[at * 64 * 64..].iter().zip(mask.bits()).filter(|(_, bit)| **bit != 0);
            assert!(inside.into_iter().all(|(class, _)| (1..=3).contains(class)));
        }
        assert!(maps.load_onto(4, &transform, (64, 64), &mut images, &mut classes).is_err());
    }

    #[test]
    fn a_set_without_categories_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let cfg = DatasetConfig::new(root.path(), "train");
        std::fs::write(root.path().join("a.png"), image_bytes()).unwrap();
        std::fs::write(
            root.path().join("train.jsonl"),
            r#"{"image": "a.png", "expression": "a dog", "mask": null}"#,
        )
        .unwrap();
        let dataset = Dataset::load(&cfg).unwrap().0;
        let message = CategoryMaps::open(&cfg, &dataset).unwrap_err().to_string();
        assert!(message.contains("train.jsonl") && message.contains("category"), "{message}");
    }

    fn image_bytes() -> Vec<u8> {
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(8, 8).write_to(&mut png, image::ImageFormat::Png).unwrap();
        png.into_inner()
    }
}
