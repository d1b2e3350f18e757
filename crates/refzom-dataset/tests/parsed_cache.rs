//! The parsed cache: the same result as parsing, whatever happens to the cache file or to the annotations.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use refzom_dataset::{
    Annotation, Dataset, DatasetConfig, Ids, ImageEntry, Instances, RefRecord, RgbImage,
    Segmentation, Sentence, save_refs,
};

/// Enough records that the files are worth a cache: every 50th without an annotation of that id, one picture of 20 missing.
fn write(dir: &Path, word: &str) -> DatasetConfig {
    std::fs::create_dir_all(dir.join("images")).unwrap();
    for i in 0..19 {
        std::fs::write(dir.join("images").join(format!("{i}.jpg")), "").unwrap();
    }
    let sentence = |id: i64| Sentence {
        tokens: Vec::new(),
        raw: format!("{word} number {id} {}", "and so on ".repeat(30)),
        sent: String::new(),
        sent_id: id,
    };
    let record = |i: i64| RefRecord {
        ref_id: i,
        ann_id: if i % 50 == 0 { Ids::One(-i - 7) } else { Ids::Many(vec![i, i + 1]) },
        image_id: 0,
        category_id: Ids::One(1),
        split: if i % 3 == 0 { "val".into() } else { "train".into() },
        file_name: String::new(),
        sent_ids: vec![i],
        sentences: vec![sentence(i)],
        source: (i % 2 == 0).then(|| "many".to_owned()),
        no_target: None,
    };
    let record = |i: i64| RefRecord { image_id: i / 200, ..record(i) };
    save_refs(dir.join("refs(final).p"), &(0..3999).map(record).collect::<Vec<_>>()).unwrap();
    let annotation = |id: i64| Annotation {
        id,
        image_id: id / 200,
        category_id: 1,
        segmentation: Segmentation::Polygons(vec![vec![1., 1., 5., 1., 5., 5. + (id % 3) as f64]]),
        area: 0.0,
        bbox: Vec::new(),
        iscrowd: 0,
    };
    let image = |id: i64| ImageEntry { id, file_name: format!("{id}.jpg"), width: 10, height: 10 };
    let instances = Instances {
        images: (0..20).map(image).collect(),
        annotations: (0..4000).map(annotation).collect(),
        categories: Vec::new(),
    };
    instances.save(dir.join("instances.json")).unwrap();
    DatasetConfig::new(dir, "train")
}

/// Everything there is to know, as text.
fn content(cfg: &DatasetConfig) -> String {
    let (dataset, rejected) = Dataset::load(cfg).unwrap();
    format!("{:?} {:?}", dataset.samples(), rejected)
}

fn cache_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir.join(".refzom-cache")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "bin"));
    files.sort();
    files
}

#[test]
fn the_same_with_and_without_and_after_changes() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = write(dir.path(), "dog");
    let plain = DatasetConfig { cache: false, ..cfg.clone() };
    let expected = content(&plain);
    assert!(cache_files(dir.path()).is_empty(), "cache = false writes nothing");
    assert_eq!(content(&cfg), expected, "the first start");
    let files = cache_files(dir.path());
    assert_eq!(files.len(), 1, "one cache for all splits");
    assert_eq!(content(&cfg), expected, "the second start");
    let val = DatasetConfig { split: "val".into(), ..cfg.clone() };
    assert_eq!(content(&val), content(&DatasetConfig { cache: false, ..val.clone() }));
    assert_eq!(cache_files(dir.path()), files);

    // A picture that comes later, and one that goes, are noticed though the cache stays.
    std::fs::write(dir.path().join("images/19.jpg"), "").unwrap();
    std::fs::remove_file(dir.path().join("images/3.jpg")).unwrap();
    assert_ne!(content(&cfg), expected);
    assert_eq!(content(&cfg), content(&plain));

    // Other annotations of the same length.
    write(dir.path(), "cat");
    assert!(content(&cfg).contains("cat number"));
    assert_eq!(content(&cfg), content(&plain));
    let instances = dir.path().join("instances.json");
    let text = std::fs::read_to_string(&instances).unwrap();
    std::fs::write(&instances, text.replacen("\"width\":10", "\"width\":11", 1)).unwrap();
    assert!(content(&cfg).contains("width: 11"));
}

#[test]
fn a_damaged_cache_is_passed_over_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = write(dir.path(), "dog");
    let expected = content(&cfg);
    let file = cache_files(dir.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let cuts = [0, 7, 8, 23, 24, 25, whole.len() / 2, whole.len() - 1];
    for damaged in cuts.iter().map(|&end| whole[..end].to_vec()).chain(
        [0, 9, 17, 30, whole.len() / 3, whole.len() - 1].iter().map(|&at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        }),
    ) {
        std::fs::write(&file, &damaged).unwrap();
        assert_eq!(content(&cfg), expected);
        assert_eq!(std::fs::read(&file).unwrap(), whole, "it is written anew");
    }
    // What a killed process leaves beside it does not matter.
    std::fs::write(file.with_extension("bin.1-0.tmp"), &whole[..9]).unwrap();
    assert_eq!(content(&cfg), expected);
}

#[test]
fn a_folder_that_cannot_be_written_to_works_without() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = write(dir.path(), "dog");
    // A file in the place of the cache folder: that stops root too.
    std::fs::write(dir.path().join(".refzom-cache"), "").unwrap();
    let expected = content(&DatasetConfig { cache: false, ..cfg.clone() });
    assert_eq!(content(&cfg), expected);
    assert_eq!(content(&cfg), expected);
}

#[test]
fn masks_and_pictures_of_ones_own_set_are_watched() {
    let dir = tempfile::tempdir().unwrap();
    let white = |w| RgbImage::from_pixel(w, 4, image::Rgb([255; 3]));
    RgbImage::new(8, 4).save(dir.path().join("a.png")).unwrap();
    white(8).save(dir.path().join("m.png")).unwrap();
    let padding = "x".repeat(2000);
    let lines: String = (0..800)
        .map(|i| {
            format!(
                "{{\"image\": \"a.png\", \"expression\": \"{i} {padding}\", \"mask\": \"m.png\"}}\n"
            )
        })
        .collect();
    std::fs::write(dir.path().join("train.jsonl"), lines).unwrap();
    let cfg = DatasetConfig::new(dir.path(), "train");
    let area = |cfg| Dataset::load(cfg).unwrap().0.mask(0).unwrap().area();
    assert_eq!((area(&cfg), area(&cfg), cache_files(dir.path()).len()), (32, 32, 1));
    let half = RgbImage::from_fn(8, 4, |x, _| image::Rgb([if x < 4 { 255 } else { 0 }; 3]));
    half.save(dir.path().join("m.png")).unwrap();
    assert_eq!(area(&cfg), 16);
    // A mask of another size is a fault that is not remembered.
    white(3).save(dir.path().join("m.png")).unwrap();
    assert!(Dataset::load(&cfg).is_err());
    white(8).save(dir.path().join("m.png")).unwrap();
    assert_eq!(area(&cfg), 32);
}
