//! What `instances.json` says, without outlines: images, and for each its objects with category, box and area.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::categories::{CategoryIndex, CategorySet, index_of};
use super::json_stream::visit_arrays;
use crate::DataError;
use crate::refer::{flag, or_default};

/// One image with its objects.
#[derive(Clone, Debug)]
pub struct Picture {
    /// COCO's id.
    pub id: i64,
    /// Name of the image file.
    pub file_name: Box<str>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Categories of its objects, crowds too.
    pub present: CategorySet,
    /// Categories of which it has a crowd: they cannot be counted.
    pub crowds: CategorySet,
    objects: Range<u32>,
}

/// One annotated object, without its outline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// COCO's id.
    pub id: i64,
    /// Its place in [`Catalog::pictures`].
    pub picture: u32,
    /// COCO's category id.
    pub category_id: i64,
    /// `None`: not one of COCO's 80.
    pub category: Option<u8>,
    /// Whether it is a crowd.
    pub crowd: bool,
    /// Square pixels, as annotated.
    pub area: f32,
    /// `[x, y, width, height]` in pixels.
    pub bbox: [f32; 4],
}

/// All images and objects of one or several instances files.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pictures: Vec<Picture>,
    /// By picture, then by id.
    objects: Vec<Object>,
    by_id: HashMap<i64, u32>,
    by_object: HashMap<i64, u32>,
    by_name: HashMap<Box<str>, u32>,
    files: Vec<PathBuf>,
    /// Category names that are not COCO's.
    unknown: Vec<String>,
    orphans: usize,
}

#[derive(Deserialize)]
struct StoredImage {
    id: i64,
    file_name: Box<str>,
    width: u32,
    height: u32,
}

/// serde skips the outline, which has no field here.
#[derive(Deserialize)]
struct StoredAnnotation {
    id: i64,
    image_id: i64,
    category_id: i64,
    #[serde(default, deserialize_with = "flag")]
    iscrowd: u8,
    #[serde(default, deserialize_with = "or_default")]
    area: f32,
    #[serde(default, deserialize_with = "or_default")]
    bbox: Vec<f32>,
}

#[derive(Deserialize)]
struct StoredCategory {
    id: i64,
    name: String,
}

impl Catalog {
    /// Reads COCO's instances files one element at a time. `progress(file, bytes)` follows the reading.
    ///
    /// # Errors
    /// A file cannot be read, is of another layout, or two files hold the same image or annotation.
    pub fn read(
        files: &[PathBuf],
        mut progress: impl FnMut(&Path, u64),
    ) -> Result<Self, DataError> {
        let mut catalog = Self { files: files.to_vec(), ..Self::default() };
        let mut raw: Vec<(i64, Object)> = Vec::new();
        let mut names: HashMap<i64, String> = HashMap::new();
        for path in files {
            let (images, annotations) = (catalog.pictures.len(), raw.len());
            let visit = |key: &str, element: &[u8]| -> Result<(), String> {
                match key {
                    "images" => {
                        let image: StoredImage = parse(element, "an image")?;
                        catalog.add_image(image)?;
                    }
                    "annotations" => {
                        let a: StoredAnnotation =
                            parse(element, "an annotation (is this an instances file?)")?;
                        let bbox = <[f32; 4]>::try_from(a.bbox.as_slice()).unwrap_or_default();
                        let object = Object {
                            id: a.id,
                            picture: 0,
                            category_id: a.category_id,
                            category: None,
                            crowd: a.iscrowd != 0,
                            area: a.area,
                            bbox,
                        };
                        raw.push((a.image_id, object));
                    }
                    "categories" => {
                        let category: StoredCategory = parse(element, "a category")?;
                        names.insert(category.id, category.name);
                    }
                    _ => {}
                }
                Ok(())
            };
            visit_arrays(path, visit, |bytes| progress(path, bytes))?;
            if catalog.pictures.len() == images {
                return Err(DataError::format(
                    path,
                    "holds no images; give COCO's instances_*.json",
                ));
            }
            if raw.len() == annotations {
                return Err(DataError::format(
                    path,
                    "holds no annotations; give COCO's instances_*.json",
                ));
            }
        }
        catalog.join(raw, &names)?;
        Ok(catalog)
    }

    fn add_image(&mut self, image: StoredImage) -> Result<(), String> {
        let place = self.pictures.len() as u32;
        if self.by_id.insert(image.id, place).is_some() {
            return Err(format!("image {} occurs twice; give each instances file once", image.id));
        }
        self.by_name.insert(image.file_name.clone(), place);
        self.pictures.push(Picture {
            id: image.id,
            file_name: image.file_name,
            width: image.width,
            height: image.height,
            present: CategorySet::EMPTY,
            crowds: CategorySet::EMPTY,
            objects: 0..0,
        });
        Ok(())
    }

    fn join(
        &mut self,
        raw: Vec<(i64, Object)>,
        names: &HashMap<i64, String>,
    ) -> Result<(), DataError> {
        let index: HashMap<i64, CategoryIndex> =
            names.iter().filter_map(|(id, name)| Some((*id, index_of(name)?))).collect();
        let mut unknown: Vec<String> = names
            .iter()
            .filter(|(id, _)| !index.contains_key(id))
            .map(|(_, name)| name.clone())
            .collect();
        unknown.sort();
        self.unknown = unknown;
        for (image_id, mut object) in raw {
            let Some(&picture) = self.by_id.get(&image_id) else {
                self.orphans += 1;
                continue;
            };
            object.picture = picture;
            object.category = index.get(&object.category_id).map(|&i| i as u8);
            self.objects.push(object);
        }
        self.objects.sort_by_key(|object| (object.picture, object.id));
        for (place, object) in self.objects.iter().enumerate() {
            if self.by_object.insert(object.id, place as u32).is_some() {
                let message = format!("annotation {} occurs twice", object.id);
                return Err(DataError::format(&self.files[0], message));
            }
            let picture = &mut self.pictures[object.picture as usize];
            if picture.objects.is_empty() {
                picture.objects = place as u32..place as u32;
            }
            picture.objects.end = place as u32 + 1;
            if let Some(category) = object.category {
                let one = CategorySet::one(category.into());
                picture.present |= one;
                if object.crowd {
                    picture.crowds |= one;
                }
            }
        }
        Ok(())
    }

    /// All images in the order of the files.
    pub fn pictures(&self) -> &[Picture] {
        &self.pictures
    }

    /// Objects of one image, by id.
    pub fn objects(&self, picture: usize) -> &[Object] {
        let range = &self.pictures[picture].objects;
        &self.objects[range.start as usize..range.end as usize]
    }

    /// Number of objects.
    pub fn object_count(&self) -> usize {
        self.objects.len()
    }

    /// The place of the image with this id.
    pub fn find(&self, image_id: i64) -> Option<usize> {
        self.by_id.get(&image_id).map(|&place| place as usize)
    }

    /// The place of the image with this file name.
    pub fn find_name(&self, file_name: &str) -> Option<usize> {
        self.by_name.get(file_name).map(|&place| place as usize)
    }

    /// The object with this id.
    pub fn object(&self, id: i64) -> Option<&Object> {
        self.by_object.get(&id).map(|&place| &self.objects[place as usize])
    }

    /// The files read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Names of categories that are not among COCO's 80: no prompt and no check knows them.
    pub fn unknown_categories(&self) -> &[String] {
        &self.unknown
    }

    /// Annotations of images that no file lists.
    pub fn orphans(&self) -> usize {
        self.orphans
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(element: &'a [u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(element).map_err(|e| {
        let shown = String::from_utf8_lossy(&element[..element.len().min(80)]);
        format!("cannot read {what}: {e}: {shown}")
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Objects given as `(image, category, crowd, bbox)` on images 1.. of 100 x 100 pixels.
    pub(in crate::build_zom) fn catalog(objects: &[(i64, &str, bool, [f32; 4])]) -> Catalog {
        let images = objects.iter().map(|o| o.0).max().unwrap_or(0);
        let mut catalog = Catalog { files: vec!["test.json".into()], ..Catalog::default() };
        for id in 1..=images {
            let image =
                StoredImage { id, file_name: format!("{id}.jpg").into(), width: 100, height: 100 };
            catalog.add_image(image).unwrap();
        }
        let names: HashMap<i64, String> = super::super::categories::CATEGORIES
            .iter()
            .enumerate()
            .map(|(i, c)| (i as i64 + 1, c.name.to_owned()))
            .collect();
        let raw = objects.iter().enumerate().map(|(i, (image, name, crowd, bbox))| {
            let object = Object {
                id: i as i64 + 1,
                picture: 0,
                category_id: index_of(name).unwrap() as i64 + 1,
                category: None,
                crowd: *crowd,
                area: bbox[2] * bbox[3],
                bbox: *bbox,
            };
            (*image, object)
        });
        catalog.join(raw.collect(), &names).unwrap();
        catalog
    }

    #[test]
    fn coco33_is_read_as_serde_reads_it() {
        let path =
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33/instances.json"));
        let catalog = Catalog::read(std::slice::from_ref(&path), |_, _| {}).unwrap();
        let whole = crate::Instances::load(&path).unwrap();
        assert_eq!(catalog.pictures().len(), whole.images.len());
        assert_eq!(catalog.object_count(), whole.annotations.len());
        assert_eq!((catalog.orphans(), catalog.unknown_categories().len()), (0, 0));
        for annotation in &whole.annotations {
            let object = catalog.object(annotation.id).unwrap();
            assert_eq!(catalog.pictures()[object.picture as usize].id, annotation.image_id);
            assert_eq!(object.crowd, annotation.iscrowd != 0);
            assert!((f64::from(object.area) - annotation.area).abs() < 0.01 * annotation.area);
        }
        let total: usize = (0..catalog.pictures().len()).map(|p| catalog.objects(p).len()).sum();
        assert_eq!(total, whole.annotations.len());
    }

    #[test]
    fn twice_the_same_file_and_other_files_are_refused() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33/");
        let path = PathBuf::from(format!("{dir}instances.json"));
        let error = Catalog::read(&[path.clone(), path], |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("occurs twice"), "{error}");
        let captions = PathBuf::from(format!("{dir}captions.json"));
        let error = Catalog::read(&[captions], |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("captions.json") && error.contains("category_id"), "{error}");
        assert!(Catalog::read(&["nowhere.json".into()], |_, _| {}).is_err());
    }
}
