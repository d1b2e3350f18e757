//! One's own sets: json lines and tables with masks as PNG, polygons, run lengths or none; faults of single lines are listed.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use refzom_dataset::{
    Annotations, Dataset, DatasetConfig, Format, RgbImage, TargetKind, count_reasons,
};

/// Two pictures of 8 x 6 pixels and a mask of their left half.
fn pictures(dir: &Path) {
    std::fs::create_dir_all(dir.join("images")).unwrap();
    std::fs::create_dir_all(dir.join("masks")).unwrap();
    for name in ["a.png", "b.jpg"] {
        RgbImage::new(8, 6).save(dir.join("images").join(name)).unwrap();
    }
    let white = image::Rgb([255u8; 3]);
    RgbImage::from_fn(8, 6, |x, _| if x < 4 { white } else { image::Rgb([0; 3]) })
        .save(dir.join("masks/left.png"))
        .unwrap();
    RgbImage::from_pixel(3, 3, white).save(dir.join("masks/small.png")).unwrap();
    RgbImage::from_pixel(6, 8, white).save(dir.join("masks/turned.png")).unwrap();
}

fn areas(dataset: &Dataset) -> Vec<(String, TargetKind, u64)> {
    let area = |i: usize| dataset.mask(i).unwrap().area();
    let samples = dataset.samples().iter().enumerate();
    samples.map(|(i, s)| (s.expression.clone(), s.kind, area(i))).collect()
}

#[test]
fn json_lines_of_every_kind_of_mask() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let lines = r#"
{"image": "./a.png", "expression": "the left half", "mask": "./masks/left.png"}
{"image": "a.png", "expressions": ["a square", "one square"], "mask": [[1,1,3,1,3,3,1,3]], "category": "square"}
{"image": "b.jpg", "expression": "runs", "mask": {"size": [6, 8], "counts": [0, 6, 42]}}
{"image": "b.jpg", "expression": "packed runs", "mask": {"size": [6, 8], "counts": "06Z1"}}
{"image": "b.jpg", "expression": "both", "masks": [[1,1,3,1,3,3,1,3], "masks/left.png"]}
{"image": "b.jpg", "expression": "no such thing", "mask": null}
{"image": "b.jpg", "expression": "later", "mask": null, "split": "val"}

{"image": "a.png", "expression": "forgotten mask"}
{"image": "a.png", "mask": null}
{"image": "gone.png", "expression": "no image", "mask": null}
{"image": "../a.png", "expression": "leads out", "mask": null}
{"image": "a.png", "expression": "no mask file", "mask": "masks/gone.png"}
{"image": "a.png", "expression": "other size", "mask": "masks/small.png"}
{"image": "a.png", "expression": "outside", "mask": "../../secret.png"}
{"image": "a.png", "expression": "beside", "mask": [[90,90,95,90,95,95]]}
{"image": "a.png", "expression": 7, "mask": null}
not json at all
{"image": "a.png", "expression": "cut off", "mask":
{"image": "a.png", "expression": "misspelt", "mask": null, "spilt": "val"}
{"image": "a.png", "expression": "no mask", "mask": 7}
[1, 2]
{"image": "a.png", "expression": "nameless mask", "mask": ""}
{"image": "a.png", "expression": "turned", "mask": "masks/turned.png"}
"#;
    std::fs::write(dir.path().join("mine.jsonl"), lines).unwrap();
    let cfg = DatasetConfig::new(dir.path(), "train");
    let (dataset, rejected) = Dataset::load(&cfg).unwrap();
    use TargetKind::{Many, One, Zero};
    let expected = [
        ("the left half", One, 24),
        ("a square", One, 4),
        ("one square", One, 4),
        ("runs", One, 6),
        ("packed runs", One, 6),
        ("both", Many, 24),
        ("no such thing", Zero, 0),
    ];
    let expected: Vec<_> = expected.iter().map(|(e, k, a)| (e.to_string(), *k, *a)).collect();
    assert_eq!(areas(&dataset), expected, "{rejected:#?}");
    let counts: Vec<_> = count_reasons(&rejected).into_iter().collect();
    let faults = [
        ("image file missing", 1),
        ("image name leads out of the image folder", 1),
        ("line that is no record", 8),
        ("mask file that cannot be used", 5),
        ("target without a pixel", 1),
    ];
    assert_eq!(counts, faults, "{rejected:#?}");
    let shown = rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in [
        "line 10: has no mask; write \"mask\": null",
        "line 11: has no expression (mine.jsonl)",
        "small.png: has 3 x 3 pixels but the image 8 x 6",
        "reference 17 (image 2): target without a pixel",
        "turned.png: has 6 x 8 pixels but the image 8 x 6, as stored",
        "gone.png: does not exist",
        "mask is an empty name; give null",
        "line 18: expression is a number; give a text in quotes (mine.jsonl)",
        "line 19: is no JSON object on one line; write one like {\"image\"",
        "line 20: is no JSON object on one line: EOF while parsing a value; write one like",
        "line 21: has the unknown key \"spilt\"; is split meant?",
        "line 22: mask is a number; give the name of a PNG file, polygons",
        "line 23: is no JSON object on one line; write one like",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let looked_up = dir.path().join("masks/gone.png").display().to_string();
    assert!(shown.contains(&looked_up), "no {looked_up} in\n{shown}");
    for leak in ["OwnRecord", "OwnMask", " column "] {
        assert!(!shown.contains(leak), "{leak} in\n{shown}");
    }
    let val = Dataset::load(&DatasetConfig::new(dir.path(), "val")).unwrap().0;
    assert_eq!((val.len(), val.samples()[0].ref_id), (1, 8));
    let annotations = Annotations::open(&cfg).unwrap();
    assert_eq!(annotations.format, Format::Jsonl);
    assert_eq!(annotations.instances.categories[0].name, "square");
    // The file itself may be named instead of its folder.
    let by_file = DatasetConfig::new(dir.path().join("mine.jsonl"), "train");
    assert_eq!(areas(&Dataset::load(&by_file).unwrap().0), expected);
}

#[test]
fn tables_hold_the_same() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let table = "\u{feff}Image,expression,mask,split\r\n\
        a.png,\"left, half\",masks/left.png,train\r\n\
        a.png,square,\"[[1,1,3,1,3,3,1,3]]\",train\r\n\
        b.jpg,runs,\"{\"\"size\"\": [6, 8], \"\"counts\"\": [0, 6, 42]}\",train\r\n\
        b.jpg,two,masks/left.png; masks/left.png,train\r\n\
        b.jpg,two outlines,\"[{\"\"size\"\": [6, 8], \"\"counts\"\": [0, 6, 42]}, [1,1,3,1,3,3,1,3]]\",train\r\n\
        b.jpg,nothing,,testA\r\n\
        b.jpg,damaged,\"[[1,\",train\r\n\
        b.jpg,short\r\n\
        b.jpg,a dog,,masks/left.png,train\r\n\
        b.jpg,empty cells,,testA,,\r\n";
    std::fs::write(dir.path().join("mine.csv"), table).unwrap();
    let (dataset, rejected) = Dataset::load(&DatasetConfig::new(dir.path(), "train")).unwrap();
    use TargetKind::{Many, One};
    let expected = [
        ("left, half", One, 24),
        ("square", One, 4),
        ("runs", One, 6),
        ("two", Many, 24),
        ("two outlines", Many, 10),
    ];
    let expected: Vec<_> = expected.iter().map(|(e, k, a)| (e.to_string(), *k, *a)).collect();
    assert_eq!(areas(&dataset), expected, "{rejected:#?}");
    let shown = rejected.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(shown.contains("line 8: has a mask that is neither"), "{shown}");
    assert!(shown.contains("line 9: has fewer cells"), "{shown}");
    assert!(shown.contains("line 10: has more cells"), "{shown}");
    let test = Dataset::load(&DatasetConfig::new(dir.path(), "test")).unwrap().0;
    assert_eq!((test.len(), test.samples()[0].kind), (2, TargetKind::Zero));
    std::fs::write(dir.path().join("mine.csv"), "image,text\na.png,dog\n").unwrap();
    let error = Dataset::load(&DatasetConfig::new(dir.path(), "train")).unwrap_err().to_string();
    assert!(error.contains("no column expression") && error.contains("commas"), "{error}");
    let table = "image,expression,mask,spilt,\na.png,dog,,val,\n";
    std::fs::write(dir.path().join("mine.csv"), table).unwrap();
    let error = Dataset::load(&DatasetConfig::new(dir.path(), "train")).unwrap_err().to_string();
    assert!(error.contains("unknown column \"spilt\"; is split meant?"), "{error}");
    // Spreadsheets leave columns without a name.
    std::fs::write(dir.path().join("mine.csv"), table.replace("spilt", "split")).unwrap();
    assert_eq!(Dataset::load(&DatasetConfig::new(dir.path(), "val")).unwrap().0.len(), 1);
}

#[test]
fn files_named_for_splits_and_a_folder_of_images_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let lists = dir.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    let line =
        |e: &str| format!("{{\"image\": \"a.png\", \"expression\": \"{e}\", \"mask\": null}}\n");
    std::fs::write(lists.join("train.jsonl"), line("one") + &line("two")).unwrap();
    std::fs::write(lists.join("val.jsonl"), line("three")).unwrap();
    let cfg = |split: &str| DatasetConfig {
        images: Some("../images".into()),
        ..DatasetConfig::new(&lists, split)
    };
    assert_eq!(Dataset::load(&cfg("train")).unwrap().0.len(), 2);
    assert_eq!(Dataset::load(&cfg("val")).unwrap().0.len(), 1);
    let error = Dataset::load(&cfg("test")).unwrap_err().to_string();
    assert!(error.contains("has no split \"test\"; it has train (2), val (1)"), "{error}");
    std::fs::write(lists.join("train.jsonl"), "nonsense\n").unwrap();
    std::fs::write(lists.join("val.jsonl"), "").unwrap();
    let error = Dataset::load(&cfg("train")).unwrap_err().to_string();
    assert!(error.contains("line that is no record (1); first: line 1"), "{error}");
}
