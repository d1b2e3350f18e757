//! A data set with one fault of every kind: the doctor finds each, and nothing in sound data.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use refzom_dataset::{
    Annotation, Annotations, Dataset, DatasetConfig, Diagnosis, Doctor, Fault, Ids, ImageEntry,
    Instances, RefRecord, RgbImage, Segmentation, Sentence, Severity, save_refs,
};

fn coco33() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33").to_owned()
}

fn examine(doctor: &Doctor, dir: impl AsRef<Path>) -> Diagnosis {
    let annotations = Annotations::open(&DatasetConfig::new(dir.as_ref(), "all")).unwrap();
    doctor.examine(&annotations, |_, _, _| {}).unwrap()
}

fn record(ref_id: i64, image_id: i64, ids: &[i64], sentences: &[&str]) -> RefRecord {
    let sentence = |(i, raw): (usize, &&str)| Sentence {
        tokens: Vec::new(),
        raw: (*raw).to_owned(),
        sent: String::new(),
        sent_id: ref_id * 100 + i as i64,
    };
    let sentences: Vec<Sentence> = sentences.iter().enumerate().map(sentence).collect();
    RefRecord {
        ref_id,
        ann_id: Ids::Many(ids.to_vec()),
        image_id,
        category_id: Ids::One(1),
        split: "train".into(),
        file_name: String::new(),
        sent_ids: sentences.iter().map(|s| s.sent_id).collect(),
        sentences,
        source: None,
        no_target: None,
    }
}

fn polygon(id: i64, image_id: i64, points: &[f64]) -> Annotation {
    Annotation {
        id,
        image_id,
        category_id: 1,
        segmentation: Segmentation::Polygons(vec![points.to_vec()]),
        area: 0.0,
        bbox: Vec::new(),
        iscrowd: 0,
    }
}

fn entry(id: i64, file_name: &str) -> ImageEntry {
    ImageEntry { id, file_name: file_name.into(), width: 8, height: 6 }
}

/// Two sound images `a.png`, `b.png`, one cut short, one of another size, and everything that can be said wrongly.
fn faulty(dir: &Path) {
    let images = dir.join("images");
    std::fs::create_dir_all(&images).unwrap();
    let picture = |value| RgbImage::from_pixel(8, 6, image::Rgb([value; 3]));
    picture(10).save(images.join("a.png")).unwrap();
    picture(20).save(images.join("b.png")).unwrap();
    std::fs::copy(images.join("a.png"), images.join("copy of a.png")).unwrap();
    RgbImage::new(6, 8).save(images.join("turned.png")).unwrap();
    let whole = std::fs::read(images.join("a.png")).unwrap();
    std::fs::write(images.join("cut.png"), &whole[..whole.len() - 20]).unwrap();

    let square = [1., 1., 4., 1., 4., 4., 1., 4.];
    let far = [90., 90., 95., 90., 95., 95., 90., 95.];
    let instances = Instances {
        images: vec![
            entry(1, "a.png"),
            entry(2, "b.png"),
            entry(3, "cut.png"),
            entry(4, "turned.png"),
            entry(5, "gone.png"),
            entry(6, "../outside.png"),
            ImageEntry { width: 0, ..entry(7, "b.png") },
            entry(8, "never used.png"),
            entry(9, "copy of a.png"),
            entry(2, "b.png"),
        ],
        annotations: vec![
            polygon(10, 1, &square),
            polygon(11, 1, &far),
            polygon(12, 1, &[1., 1.]),
            polygon(13, 2, &square),
            polygon(14, 1, &[0., 0., 6., 0., 6., 5., 0., 5.]),
            polygon(13, 2, &square),
            polygon(15, 9, &square),
            polygon(16, 3, &square),
            polygon(17, 4, &square),
            polygon(18, 5, &square),
            polygon(19, 2, &[1., 1., 4., 1., 4., 4., 1., 4., 2.]),
        ],
        categories: Vec::new(),
    };
    instances.save(dir.join("instances.json")).unwrap();

    let long = vec!["word"; 40].join(" ");
    let named = |source: &str, record| RefRecord { source: Some(source.into()), ..record };
    let split = |split: &str, record| RefRecord { split: split.into(), ..record };
    let records = vec![
        record(1, 1, &[10], &["the Square", "", " \u{301}", "the square"]),
        record(2, 1, &[14], &["the  square", &long, &"x ".repeat(6000)]),
        record(3, 1, &[11], &["far away"]),
        record(4, 1, &[10, 11], &["one and a half"]),
        record(5, 1, &[12], &["a line"]),
        record(6, 1, &[13], &["of another image"]),
        record(7, 1, &[99], &["no annotation"]),
        record(8, 77, &[], &["no image"]),
        record(9, 3, &[16], &["cut"]),
        record(10, 4, &[17], &["turned"]),
        split("testA", record(11, 5, &[18], &["gone"])),
        record(12, 6, &[], &["outside"]),
        record(13, 7, &[], &["no size"]),
        record(14, 1, &[10], &[]),
        named("zero", record(15, 1, &[10], &["zero with target"])),
        named("one", record(16, 1, &[], &["one without"])),
        named("Zero", record(17, 1, &[10], &["misspelt"])),
        named("poem", record(18, 1, &[10], &["unknown"])),
        split("trian", record(19, 1, &[10], &["which split"])),
        split("val", record(20, 1, &[10], &["leaks"])),
        split("test", record(21, 9, &[15], &["leaks in secret"])),
        RefRecord { sent_ids: vec![1], ..record(22, 1, &[10], &["ids"]) },
        record(22, 1, &[10], &["ids twice"]),
        record(23, 2, &[13], &["the other picture"]),
        split("testA", record(24, 5, &[18], &["nothing left here"])),
        record(25, 2, &[19], &["half a point"]),
    ];
    save_refs(dir.join("refs(x).p"), &records).unwrap();
}

#[test]
fn every_fault_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    faulty(dir.path());
    let diagnosis = examine(&Doctor { examples: 2, ..Doctor::default() }, dir.path());
    let expected = [
        (Fault::MissingImageEntry, 1),
        (Fault::MissingImageFile, 1),
        (Fault::UnsafeImageName, 1),
        (Fault::BadImageSize, 1),
        (Fault::UnreadableImage, 1),
        (Fault::ImageSizeDiffers, 1),
        (Fault::DuplicateImageId, 1),
        (Fault::DuplicateAnnotationId, 1),
        (Fault::MissingAnnotation, 1),
        (Fault::AnnotationOfOtherImage, 1),
        (Fault::BadOutline, 1),
        (Fault::EmptyMask, 1),
        (Fault::NoSentence, 1),
        (Fault::EmptyExpression, 2),
        (Fault::EndlessExpression, 1),
        (Fault::EmptySplit, 1),
        (Fault::SplitLeak, 1),
        (Fault::HiddenLeak, 1),
        (Fault::EmptyPart, 1),
        (Fault::MaskOutside, 1),
        (Fault::OddPolygon, 1),
        (Fault::ZeroWithTarget, 1),
        (Fault::TargetWithoutAnnotation, 1),
        (Fault::Contradiction, 1),
        (Fault::CutExpression, 1),
        (Fault::DuplicateReferenceId, 1),
        (Fault::DuplicateSentenceId, 1),
        (Fault::SentenceIdsDiffer, 1),
        (Fault::UnknownSplit, 1),
        (Fault::MisspeltSource, 1),
        (Fault::UnknownSource, 1),
        (Fault::RepeatedSentence, 1),
        (Fault::UnusedImage, 1),
    ];
    for (fault, count) in expected {
        assert_eq!(diagnosis.count(fault), count, "{fault:?}\n{diagnosis}");
    }
    assert_eq!(diagnosis.findings.len(), expected.len(), "{diagnosis}");
    assert!(!diagnosis.is_fit());
    let text = diagnosis.to_string();
    for part in [
        "gone.png (image 5), of 2 records",
        "cut short",
        "sides are swapped",
        "\"trian\"",
        "annotation 19 (image 2): 9 coordinates",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(json["findings"][0]["severity"], "error");
    assert!(json["findings"][0]["remedy"].as_str().unwrap().len() > 10);
}

#[test]
fn what_loading_leaves_out_is_an_error_here() {
    let dir = tempfile::tempdir().unwrap();
    faulty(dir.path());
    let (_, rejected) = Dataset::load(&DatasetConfig::new(dir.path(), "all")).unwrap();
    let diagnosis = examine(&Doctor::default(), dir.path());
    let errors: Vec<&str> = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.label)
        .collect();
    for one in &rejected {
        let label = match one.reason.label() {
            "image not in instances.json" => "image id without an image entry",
            "no sentence" => "record without a sentence",
            same => same,
        };
        assert!(errors.contains(&label), "{one}: {errors:?}");
    }
}

#[test]
fn sound_data_is_fit_whatever_the_number_of_threads() {
    let one = examine(&Doctor { threads: 1, ..Doctor::default() }, coco33());
    assert!(one.is_fit(), "{one}");
    assert_eq!((one.pictures_decoded, one.images), (33, 33));
    assert_eq!(one, examine(&Doctor { threads: 4, ..Doctor::default() }, coco33()));
    assert!(one.to_string().contains("no error"), "{one}");
    let quick = examine(&Doctor { decode: false, ..Doctor::default() }, coco33());
    assert!(quick.is_fit() && quick.pictures_decoded == 0);
}

#[test]
fn other_sets_test_images_must_not_be_trained_on() {
    let open = |refs: &str| {
        Annotations::open(&DatasetConfig::new(coco33(), "all").with_refs(refs)).unwrap()
    };
    let same = ("itself".to_owned(), open("grefs(unc).json"));
    let doctor = Doctor { decode: false, against: vec![same], ..Doctor::default() };
    assert!(doctor.examine(&open("refs(final).p"), |_, _, _| {}).unwrap().is_fit());
    // All of it trained on: its test images leak.
    let mut all = open("refs(final).p");
    let tested: usize = {
        let of = |a: &Annotations| -> std::collections::BTreeSet<i64> {
            a.records.iter().filter(|r| r.split != "train").map(|r| r.image_id).collect()
        };
        of(&all).len()
    };
    all.records.iter_mut().for_each(|record| record.split = "train".into());
    let diagnosis = doctor.examine(&all, |_, _, _| {}).unwrap();
    assert_eq!(diagnosis.count(Fault::LeakAgainst), tested, "{diagnosis}");
}

#[test]
fn lines_of_ones_own_that_are_no_record_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    RgbImage::new(8, 6).save(dir.path().join("a.png")).unwrap();
    let lines = r#"{"image": "a.png", "expression": "x", "mask": null}
not json
{"image": "gone.png", "expression": "x", "mask": null}
{"image": "a.png", "expression": "x", "mask": "gone.png"}
"#;
    std::fs::write(dir.path().join("mine.jsonl"), lines).unwrap();
    let diagnosis = examine(&Doctor::default(), dir.path());
    for fault in [Fault::BadRecord, Fault::MissingImageFile, Fault::BadMaskFile] {
        assert_eq!(diagnosis.count(fault), 1, "{diagnosis}");
    }
    assert_eq!(diagnosis.count(Fault::BadOutline), 0, "{diagnosis}");
    for part in ["line 2", "gone.png: does not exist", "save the mask as a PNG"] {
        assert!(diagnosis.to_string().contains(part), "{part}: {diagnosis}");
    }
}

#[test]
fn a_set_without_a_split_to_train_on_is_not_fit_for_training() {
    let dir = tempfile::tempdir().unwrap();
    RgbImage::new(8, 6).save(dir.path().join("a.png")).unwrap();
    let examine_splits = |splits: &[&str]| {
        let line = |(i, split): (usize, &&str)| {
            format!(
                "{{\"image\": \"a.png\", \"expression\": \"{i}\", \"mask\": null, \"split\": \"{split}\"}}\n"
            )
        };
        let lines: String = splits.iter().enumerate().map(line).collect();
        std::fs::write(dir.path().join("mine.jsonl"), lines).unwrap();
        examine(&Doctor::default(), dir.path())
    };
    let misspelt = examine_splits(&["Train", "Train"]);
    assert_eq!(misspelt.count(Fault::NoTrainSplit), 1, "{misspelt}");
    assert!(!misspelt.is_fit(), "{misspelt}");
    assert!(misspelt.to_string().contains("there is only \"Train\" (2)"), "{misspelt}");
    let tested = examine_splits(&["testA", "testB"]);
    assert!(tested.is_fit(), "{tested}");
    let text = tested.to_string();
    assert!(text.contains("no split \"train\", only testA, testB"), "{text}");
    assert!(!text.contains("fit for training"), "{text}");
    let sound = examine_splits(&["train", "train", "Extra"]);
    assert_eq!(sound.count(Fault::NoTrainSplit), 0, "{sound}");
    assert!(sound.to_string().contains("fit for training"), "{sound}");
}

#[test]
fn a_misspelt_key_is_no_record() {
    let dir = tempfile::tempdir().unwrap();
    RgbImage::new(8, 6).save(dir.path().join("a.png")).unwrap();
    let lines = r#"{"image": "a.png", "expression": "x", "mask": null}
{"image": "a.png", "expression": "y", "mask": null, "spilt": "val"}
"#;
    std::fs::write(dir.path().join("mine.jsonl"), lines).unwrap();
    let diagnosis = examine(&Doctor::default(), dir.path());
    assert_eq!(diagnosis.count(Fault::BadRecord), 1, "{diagnosis}");
    assert!(!diagnosis.is_fit() && diagnosis.to_string().contains("spilt"), "{diagnosis}");
}
