//! Faults in annotation files: counted and listed with their reasons, not fatal unless nothing remains.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use refzom_dataset::{
    Annotation, Counts, Dataset, DatasetConfig, Ids, ImageEntry, Instances, RefRecord, RgbImage,
    Segmentation, Sentence, count_reasons, save_refs,
};

fn record(ref_id: i64, image_id: i64, ann_id: Ids, sentences: &[&str]) -> RefRecord {
    let sentence = |(i, raw): (usize, &&str)| Sentence {
        tokens: Vec::new(),
        raw: (*raw).to_owned(),
        sent: String::new(),
        sent_id: ref_id * 100 + i as i64,
    };
    RefRecord {
        ref_id,
        ann_id,
        image_id,
        category_id: Ids::One(1),
        split: "train".into(),
        file_name: String::new(),
        sent_ids: Vec::new(),
        sentences: sentences.iter().enumerate().map(sentence).collect(),
        source: Some("one".into()),
        no_target: None,
    }
}

fn annotation(id: i64, image_id: i64, segmentation: Segmentation) -> Annotation {
    Annotation {
        id,
        image_id,
        category_id: 1,
        segmentation,
        area: 0.0,
        bbox: Vec::new(),
        iscrowd: 0,
    }
}

fn square() -> Segmentation {
    Segmentation::Polygons(vec![vec![1., 1., 5., 1., 5., 5., 1., 5.]])
}

fn image(id: i64, file_name: &str, width: u32, height: u32) -> ImageEntry {
    ImageEntry { id, file_name: file_name.into(), width, height }
}

fn write(dir: &Path, records: &[RefRecord]) -> DatasetConfig {
    let rle = |size, counts| Segmentation::Rle { size, counts };
    let instances = Instances {
        images: vec![
            image(1, "a.png", 8, 8),
            image(2, "gone.png", 8, 8),
            image(3, "../../etc/passwd", 8, 8),
            image(4, "a.png", 4_000_000, 4_000_000),
            image(5, "a.png", 0, 8),
        ],
        annotations: vec![
            annotation(10, 1, square()),
            annotation(11, 2, square()),
            annotation(12, 1, Segmentation::Polygons(vec![])),
            annotation(13, 1, Segmentation::Polygons(vec![vec![0., 0., 1e300, 4., 4., 4.]])),
            annotation(14, 1, Segmentation::Polygons(vec![vec![90., 90., 95., 90., 95., 95.]])),
            annotation(15, 1, rle([8, 8], Counts::Plain(vec![4_000_000_000, 64]))),
            annotation(16, 1, rle([80, 80], Counts::Compressed("PPPP".into()))),
            annotation(17, 1, rle([8, 8], Counts::Compressed("\u{7f}".into()))),
            annotation(18, 1, rle([8, 8], Counts::Plain(vec![32, 32]))),
        ],
        categories: Vec::new(),
    };
    instances.save(dir.join("instances.json")).unwrap();
    save_refs(dir.join("refs(bad).p"), records).unwrap();
    std::fs::create_dir_all(dir.join("images")).unwrap();
    RgbImage::new(8, 8).save(dir.join("images/a.png")).unwrap();
    DatasetConfig::new(dir, "train")
}

#[test]
fn every_fault_is_listed_and_the_rest_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let long = "the very red dog ".repeat(125);
    let endless = "dog ".repeat(10_000);
    let records = [
        record(
            1,
            1,
            Ids::One(10),
            &["a dog", "  ", "\u{fe0f}", &long, "собака слева 左边的狗 🐕", &endless],
        ),
        record(2, 1, Ids::Many(vec![10, 18]), &["both"]),
        record(3, 1, Ids::Many(vec![]), &["a cat"]),
        record(4, 9, Ids::One(10), &["no image entry"]),
        record(5, 2, Ids::One(11), &["no image file"]),
        record(6, 3, Ids::None, &["unsafe name"]),
        record(7, 4, Ids::None, &["too large"]),
        record(8, 5, Ids::None, &["empty"]),
        record(9, 1, Ids::One(999), &["no annotation"]),
        record(10, 1, Ids::One(11), &["of another image"]),
        record(11, 1, Ids::One(12), &["nothing drawn"]),
        record(12, 1, Ids::One(13), &["to infinity"]),
        record(13, 1, Ids::One(14), &["outside"]),
        record(14, 1, Ids::One(15), &["runs too long"]),
        record(15, 1, Ids::One(16), &["runs of another size"]),
        record(16, 1, Ids::One(17), &["damaged runs"]),
        record(17, 1, Ids::One(10), &[]),
    ];
    let (dataset, rejected) = Dataset::load(&write(dir.path(), &records)).unwrap();
    let summary = dataset.summary();
    assert_eq!((summary.one, summary.many, summary.zero), (3, 1, 1), "{summary}");
    assert!(dataset.samples().iter().any(|s| s.expression.contains("左边的狗")));
    let counts = count_reasons(&rejected);
    let expected = [
        ("annotation id without annotation", 1),
        ("annotation of another image", 1),
        ("empty expression", 2),
        ("expression beyond all length", 1),
        ("image file missing", 1),
        ("image name leads out of the image folder", 1),
        ("image not in instances.json", 1),
        ("impossible image size", 2),
        ("no sentence", 1),
        ("outline that cannot be drawn", 5),
        ("target without a pixel", 1),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected, "{rejected:#?}");
    let shown = rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(
        shown.contains("reference 9 (image 1): annotation id without annotation: 999"),
        "{shown}"
    );
}

#[test]
fn nothing_left_and_missing_splits_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = write(dir.path(), &[record(9, 1, Ids::One(999), &["no annotation"])]);
    let error = Dataset::load(&cfg).unwrap_err().to_string();
    assert!(error.contains("annotation id without annotation (1)"), "{error}");
    let other = DatasetConfig { split: "val".into(), ..cfg.clone() };
    let error = Dataset::load(&other).unwrap_err().to_string();
    assert!(error.contains("has no split \"val\"; it has train (1)"), "{error}");
    save_refs(dir.path().join("refs(bad).p"), &[]).unwrap();
    assert!(Dataset::load(&cfg).unwrap_err().to_string().contains("no record at all"));
}

#[test]
fn missing_and_damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = write(dir.path(), &[record(1, 1, Ids::One(10), &["a dog"])]);
    let refs = dir.path().join("refs(bad).p");
    let whole = std::fs::read(&refs).unwrap();
    std::fs::write(&refs, &whole[..whole.len() / 2]).unwrap();
    let error = Dataset::load(&cfg).unwrap_err().to_string();
    assert!(error.contains("refs(bad).p: not a readable pickle"), "{error}");
    std::fs::write(&refs, &whole).unwrap();
    let instances = dir.path().join("instances.json");
    let json = std::fs::read(&instances).unwrap();
    std::fs::write(&instances, &json[..json.len() / 2]).unwrap();
    let error = Dataset::load(&cfg).unwrap_err().to_string();
    assert!(error.contains("instances.json: not COCO's instances layout"), "{error}");
    std::fs::remove_file(&instances).unwrap();
    let error = Dataset::load(&cfg).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("instances.json"), "{error}");
    let nowhere = DatasetConfig::new(dir.path().join("nowhere"), "train");
    assert!(Dataset::load(&nowhere).unwrap_err().to_string().contains("nowhere"));
}
