//! Every format written and read back: the same expressions, masks and splits; what a format cannot hold is listed.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use refzom_dataset::{
    Annotations, Carving, Counts, Dataset, DatasetConfig, Export, Exported, Format, ImagePlacement,
    Loss, MaskForm, RefRecord, Segmentation, TargetKind, load_refs,
};

fn coco33() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/coco33")
}

fn open(dir: &Path) -> Annotations {
    Annotations::open(&DatasetConfig::new(dir, "all")).unwrap()
}

fn export(annotations: &Annotations, format: Format, out: &Path) -> Exported {
    Export::new(format).write(annotations, out, |_, _, _| {}).unwrap()
}

/// What a person sees: image, split, sentence, kind, mask. In the order of the file.
fn content(dir: &Path) -> Vec<(String, String, String, TargetKind, Vec<u32>)> {
    let (dataset, rejected) = Dataset::load(&DatasetConfig::new(dir, "all")).unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    let samples = dataset.samples().iter();
    samples
        .map(|s| {
            let name = s.image_path.file_name().unwrap().to_string_lossy().into_owned();
            let runs = s.mask().unwrap().to_rle().counts().to_vec();
            (name, s.split.clone(), s.expression.clone(), s.kind, runs)
        })
        .collect()
}

#[test]
fn every_format_keeps_sentences_masks_and_splits() {
    let root = tempfile::tempdir().unwrap();
    let source = open(&coco33());
    let expected = content(&coco33());
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Refer) {
        for masks in [MaskForm::Keep, MaskForm::Rle, MaskForm::Png] {
            if format.has_instances() && masks != MaskForm::Keep {
                continue;
            }
            let out = root.path().join(format!("{format}-{masks:?}"));
            let cfg = Export { masks, ..Export::new(format) };
            cfg.write(&source, &out, |_, _, _| {}).unwrap();
            assert_eq!(open(&out).format, format);
            assert!(content(&out) == expected, "{format} {masks:?}");
            // And from there to Ref-ZOM again.
            let back = root.path().join(format!("{format}-{masks:?}-back"));
            export(&open(&out), Format::RefZom, &back);
            assert!(content(&back) == expected, "{format} {masks:?} back");
        }
    }
}

#[test]
fn ref_zom_to_grefcoco_and_back_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (there, back) = (root.path().join("g"), root.path().join("z"));
    let done = export(&open(&coco33()), Format::Grefcoco, &there);
    assert!(done.losses.is_empty(), "{}", done.losses);
    // The same conversion, made by other hands.
    let expected: Vec<RefRecord> = load_refs(coco33().join("grefs(unc).json")).unwrap();
    assert_eq!(load_refs(there.join("grefs(unc).json")).unwrap(), expected);
    let same = |name: &str| {
        std::fs::read(there.join(name)).unwrap() == std::fs::read(coco33().join(name)).unwrap()
    };
    assert!(same("instances.json"));
    let done = export(&open(&there), Format::RefZom, &back);
    assert!(done.losses.is_empty(), "{}", done.losses);
    let original = load_refs(coco33().join("refs(final).p")).unwrap();
    assert_eq!(load_refs(back.join("refs(final).p")).unwrap(), original);
}

#[test]
fn what_refcoco_cannot_hold_is_refused_then_listed() {
    let root = tempfile::tempdir().unwrap();
    let source = open(&coco33());
    let out = root.path().join("r");
    let mut cfg = Export::new(Format::Refer);
    let error = cfg.write(&source, &out, |_, _, _| {}).unwrap_err().to_string();
    assert!(
        error.contains("33 zero-target records") && error.contains("15 records of several"),
        "{error}"
    );
    assert!(!out.exists(), "nothing is written");
    cfg.allow_loss = true;
    let done = cfg.write(&source, &out, |_, _, _| {}).unwrap();
    assert_eq!((done.records, done.losses.count(Loss::ZeroRecord)), (52, 33));
    assert!(content(&out).iter().all(|(_, _, _, kind, _)| *kind == TargetKind::One));
    let error = cfg.write(&source, &out, |_, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("is not empty; remove it or name another folder"), "{error}");
}

#[test]
fn lines_that_would_be_lost_are_named() {
    let root = tempfile::tempdir().unwrap();
    let (own, out) = (root.path().join("own"), root.path().join("out"));
    std::fs::create_dir(&own).unwrap();
    refzom_dataset::RgbImage::new(8, 6).save(own.join("a.png")).unwrap();
    let sound = "{\"image\": \"a.png\", \"expression\": \"x\", \"mask\": null}\n";
    let error = |text: String| {
        std::fs::write(own.join("mine.jsonl"), text).unwrap();
        let error = Export::new(Format::RefZom).write(&open(&own), &out, |_, _, _| {});
        error.unwrap_err().to_string()
    };
    let one = error(format!("{sound}nonsense\n"));
    for part in ["would lose 1 line of the source that could", "(line 2: is no JSON", "data doctor"]
    {
        assert!(one.contains(part), "no {part:?} in {one}");
    }
    let two = error(format!("{sound}nonsense\nnonsense\n"));
    assert!(two.contains("2 lines of the source") && two.contains("the first is line 2"), "{two}");
    assert!(!out.exists());
}

#[test]
#[cfg(unix)]
fn nothing_is_left_of_a_conversion_that_fails() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("l");
    let mut source = open(&coco33());
    source.images = "/nowhere".into();
    for format in [Format::Jsonl, Format::RefZom] {
        let error = Export::new(format).write(&source, &out, |_, _, _| {}).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
    export(&open(&coco33()), Format::Jsonl, &out);
    assert!(content(&out) == content(&coco33()));
}

#[test]
fn ones_own_formats_list_what_they_make_anew() {
    let root = tempfile::tempdir().unwrap();
    let done = export(&open(&coco33()), Format::Csv, &root.path().join("c"));
    assert_eq!(done.losses.count(Loss::Numbers), 100);
    assert!(done.losses.count(Loss::Grouping) > 0 && !done.losses.lose_expressions());
    // From lines to a table nothing is lost but the grouping.
    let lines = root.path().join("l");
    export(&open(&coco33()), Format::Jsonl, &lines);
    let again = root.path().join("l2");
    assert!(export(&open(&lines), Format::Jsonl, &again).losses.is_empty());
    let text = |dir: &Path| std::fs::read_to_string(dir.join("annotations.jsonl")).unwrap();
    assert_eq!(text(&lines), text(&again));
}

#[test]
fn copied_images_make_a_folder_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("c");
    let cfg = Export { images: ImagePlacement::Copy, ..Export::new(Format::Jsonl) };
    cfg.write(&open(&coco33()), &out, |_, _, _| {}).unwrap();
    assert!(!out.join("images").is_symlink());
    assert_eq!(content(&out), content(&coco33()));
}

/// The pickle as Python sees it: protocol 2, plain values, REFER's keys. Skipped where there is no python3.
#[test]
fn python_reads_the_pickles_as_refer_does() {
    let root = tempfile::tempdir().unwrap();
    export(&open(&coco33()), Format::RefZom, &root.path().join("z"));
    let own = root.path().join("l");
    export(&open(&coco33()), Format::Jsonl, &own);
    export(&open(&own), Format::RefZom, &root.path().join("z2"));
    let script = r#"
import pickle, json, sys, pickletools
root, original = sys.argv[1], sys.argv[2]
was = pickle.load(open(original, 'rb'))
now = pickle.load(open(root + '/z/refs(final).p', 'rb'))
assert was == now, [(a, b) for a, b in zip(was, now) if a != b][:1]
raw = open(root + '/z/refs(final).p', 'rb').read()
ops = list(pickletools.genops(raw))
assert ops[0][0].name == 'PROTO' and ops[0][1] == 2, ops[0]
assert max(op.proto for op, _, _ in ops) <= 2
# REFER's index, as its createIndex builds it.
for name in ('z', 'z2'):
    refs = pickle.load(open(root + '/' + name + '/refs(final).p', 'rb'))
    data = json.load(open(root + '/' + name + '/instances.json'))
    anns = {a['id']: a for a in data['annotations']}
    imgs = {i['id']: i for i in data['images']}
    cats = {c['id']: c['name'] for c in data['categories']}
    for ref in refs:
        ids = ref['ann_id'] if isinstance(ref['ann_id'], list) else [ref['ann_id']]
        assert ref['source'] == ('zero' if not ids else 'one' if len(ids) == 1 else 'many')
        for i in ids:
            assert anns[i]['image_id'] == ref['image_id'] and len(anns[i]['bbox']) == 4
            assert anns[i]['category_id'] in cats and anns[i]['area'] > 0
        assert imgs[ref['image_id']]['file_name'] and ref['file_name'] and ref['split']
        assert ref['sent_ids'] == [s['sent_id'] for s in ref['sentences']]
        for s in ref['sentences']:
            assert s['raw'] and s['sent'] and s['tokens'] == s['sent'].split()
print(len(was))
"#;
    let run = Command::new("python3")
        .args(["-c", script])
        .arg(root.path())
        .arg(coco33().join("refs(final).p"))
        .output();
    let Ok(output) = run else {
        eprintln!("skipped: there is no python3 to read the pickles with");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "100");
}

fn carving() -> Carving {
    Carving { from: "train".into(), to: "val".into(), share: 0.2, seed: 3 }
}

#[test]
fn a_val_split_is_carved_in_every_format() {
    let root = tempfile::tempdir().unwrap();
    let mut chosen = Vec::new();
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Refer) {
        let dir = root.path().join(format.name());
        export(&open(&coco33()), format, &dir);
        let ending = Path::new(format.file_name()).extension().unwrap().to_str().unwrap();
        let out = root.path().join(format!("{format}.{ending}"));
        let carved = carving().write(&DatasetConfig::new(&dir, "all"), &out).unwrap();
        assert_eq!(carved.pictures, 6, "a fifth of 28");
        let cfg = |split: &str| DatasetConfig {
            format: Some(format),
            ..DatasetConfig::new(&dir, split).with_refs(&out)
        };
        let load = |split: &str| Dataset::load(&cfg(split)).unwrap().0;
        let (train, val) = (load("train"), load("val"));
        let (train_images, val_images) = (train.pictures(), val.pictures());
        assert!(val_images.keys().all(|key| !train_images.contains_key(key)));
        assert_eq!((train_images.len(), val_images.len()), (22, 6));
        assert_eq!(
            load("all").len(),
            open(&dir).records.iter().map(|r| r.sentences.len()).sum::<usize>()
        );
        chosen.push(val_images.into_keys().map(|key| key.to_string()).collect::<Vec<_>>());
        // Once is enough.
        let again = cfg("all");
        let error =
            carving().write(&again, &root.path().join(format!("again.{ending}"))).unwrap_err();
        assert!(error.to_string().contains("has a split \"val\" already"), "{error}");
    }
    assert!(chosen.windows(2).all(|pair| pair[0] == pair[1]), "{chosen:?}");
}

#[test]
fn carving_keeps_what_no_field_is_known_for() {
    let root = tempfile::tempdir().unwrap();
    for format in [Format::Grefcoco, Format::RefZom] {
        let dir = root.path().join(format.name());
        export(&open(&coco33()), format, &dir);
        let file = dir.join(format.file_name());
        let json = format == Format::Grefcoco;
        let read = |path: &Path| -> Vec<serde_json::Map<String, serde_json::Value>> {
            let bytes = std::fs::read(path).unwrap();
            match json {
                true => serde_json::from_slice(&bytes).unwrap(),
                false => serde_pickle::from_slice(&bytes, serde_pickle::DeOptions::new()).unwrap(),
            }
        };
        let mut records = read(&file);
        for (i, record) in records.iter_mut().enumerate() {
            record.insert("annotator".into(), i.into());
            record["sentences"][0]["boxes"] = vec![0.5, 2.0].into();
        }
        let bytes = match json {
            true => serde_json::to_vec(&records).unwrap(),
            false => serde_pickle::to_vec(&records, serde_pickle::SerOptions::new()).unwrap(),
        };
        std::fs::write(&file, bytes).unwrap();
        let out = root.path().join(format!("carved.{}", if json { "json" } else { "p" }));
        carving().write(&DatasetConfig::new(&dir, "all"), &out).unwrap();
        let carved = read(&out);
        assert!(carved != records);
        for (mut carved, record) in carved.into_iter().zip(records) {
            carved["split"] = record["split"].clone();
            assert_eq!(carved, record, "{format}");
        }
    }
}

#[test]
fn leaks_are_not_carved_over() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("z");
    let mut annotations = open(&coco33());
    // The first of several records of one train image.
    let of = |image: i64| annotations.records.iter().filter(|r| r.image_id == image).count();
    let leak = annotations.records.iter().position(|r| r.split == "train" && of(r.image_id) > 1);
    annotations.records[leak.unwrap()].split = "test".into();
    export(&annotations, Format::Grefcoco, &dir);
    let cfg = DatasetConfig::new(&dir, "all");
    let error = carving().write(&cfg, &dir.join("grefs(val).json")).unwrap_err().to_string();
    assert!(error.contains("are trained on") && error.contains("doctor"), "{error}");
    let error = carving().write(&cfg, &dir.join("x.p")).unwrap_err().to_string();
    assert!(error.contains("another ending"), "{error}");
    let error = Carving { from: "tarin".into(), ..carving() };
    let error = error.write(&cfg, &dir.join("y.json")).unwrap_err().to_string();
    assert!(error.contains("no split \"tarin\""), "{error}");
}

#[test]
fn outlines_that_must_be_drawn_and_cannot_be_cost_their_record_only() {
    let root = tempfile::tempdir().unwrap();
    let mut source = open(&coco33());
    let one = source.records.iter().position(|r| r.ann_id.to_vec().len() == 1).unwrap();
    let meant = source.records[one].ann_id.to_vec()[0];
    source.records.retain(|r| r.ann_id.to_vec() == [meant] || !r.ann_id.to_vec().contains(&meant));
    let outline = source.instances.annotations.iter_mut().find(|a| a.id == meant).unwrap();
    outline.segmentation = Segmentation::default();
    let lost = source.records.iter().filter(|r| r.ann_id.to_vec() == [meant]).count();
    for (masks, faulty) in [(MaskForm::Keep, 0), (MaskForm::Rle, lost), (MaskForm::Png, lost)] {
        let export = Export { masks, ..Export::new(Format::Jsonl) };
        let out = root.path().join(format!("{masks:?}"));
        let refused = export.write(&source, &out, |_, _, _| {});
        assert_eq!(refused.is_err(), faulty > 0, "{refused:?}");
        if let Err(error) = refused {
            assert!(error.to_string().contains("outline that can be drawn"), "{error}");
            let export = Export { allow_loss: true, ..export };
            let done = export.write(&source, &out, |_, _, _| {}).unwrap();
            assert_eq!(done.losses.count(Loss::FaultyRecord), faulty);
            assert_eq!(done.records, source.records.len() - faulty);
        }
    }
}

#[test]
fn plain_run_lengths_are_compressed_where_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let mut source = open(&coco33());
    let sizes: HashMap<i64, (u32, u32)> =
        source.instances.images.iter().map(|i| (i.id, (i.height, i.width))).collect();
    for outline in &mut source.instances.annotations {
        let (height, width) = sizes[&outline.image_id];
        let rle = outline.segmentation.to_rle(height, width).unwrap();
        let counts = Counts::Plain(rle.counts().to_vec());
        outline.segmentation = Segmentation::Rle { size: [height, width], counts };
    }
    let export = Export { masks: MaskForm::Rle, ..Export::new(Format::Jsonl) };
    let out = root.path().join("lines");
    let done = export.write(&source, &out, |_, _, _| {}).unwrap();
    assert_eq!(done.losses.count(Loss::OutlineForm), 0);
    assert!(!std::fs::read_to_string(done.file).unwrap().contains("\"counts\":["));
    assert!(content(&out) == content(&coco33()));
}

#[test]
fn images_under_their_records_names_go_along() {
    let root = tempfile::tempdir().unwrap();
    let mut source = open(&coco33());
    let names: HashMap<i64, String> =
        source.instances.images.iter().map(|i| (i.id, i.file_name.clone())).collect();
    for record in &mut source.records {
        record.file_name = names[&record.image_id].clone();
    }
    for image in &mut source.instances.images {
        image.file_name.insert_str(0, "COCO_train2014_");
    }
    for images in [ImagePlacement::Link, ImagePlacement::Copy] {
        let out = root.path().join(format!("{images:?}"));
        let export = Export { images, ..Export::new(Format::Jsonl) };
        let done = export.write(&source, &out, |_, _, _| {}).unwrap();
        assert_eq!(done.losses.count(Loss::MissingImage), 0);
        assert!(content(&out) == content(&coco33()), "{images:?}");
    }
}
