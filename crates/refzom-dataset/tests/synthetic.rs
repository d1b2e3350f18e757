//! The synthetic files, checked as a stranger would: sentences are parsed from their words, objects
//! measured from pixels, and both compared by rules that share no code with the generator.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use refzom_dataset::DataError;
use refzom_dataset::mask::Mask;
use refzom_dataset::refer::{Instances, RefRecord};
use refzom_dataset::synthetic::{
    Answer, Changed, Color, Entity, Meaning, Query, Shape, Size, SyntheticConfig, SyntheticRefZom,
    World, evaluate,
};

fn config() -> SyntheticConfig {
    SyntheticConfig {
        seed: 7,
        width: 80,
        height: 64,
        train_scenes: 300,
        val_scenes: 40,
        test_scenes: 60,
        max_objects: 7,
        paraphrase: 0.6,
        ..SyntheticConfig::quickstart()
    }
}

struct Written {
    dir: tempfile::TempDir,
    refs: Vec<RefRecord>,
    instances: Instances,
    meaning: Meaning,
}

fn write(config: SyntheticConfig) -> Written {
    let dir = tempfile::tempdir().unwrap();
    SyntheticRefZom::new(config).unwrap().write_to(dir.path()).unwrap();
    let refs = std::fs::read(dir.path().join(SyntheticRefZom::REFS)).unwrap();
    Written {
        refs: serde_pickle::from_slice(&refs, serde_pickle::DeOptions::new()).unwrap(),
        instances: Instances::load(dir.path().join("instances.json")).unwrap(),
        meaning: serde_json::from_slice(&std::fs::read(dir.path().join("meaning.json")).unwrap())
            .unwrap(),
        dir,
    }
}

/// An object measured from its mask and the picture.
struct Measured {
    ann_id: i64,
    entity: Entity,
    mask: Mask,
}

fn measure(written: &Written, config: &SyntheticConfig) -> BTreeMap<i64, Vec<Measured>> {
    let names: BTreeMap<i64, &str> =
        written.instances.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let mut pictures = BTreeMap::new();
    let mut scenes: BTreeMap<i64, Vec<Measured>> = BTreeMap::new();
    for entry in &written.instances.images {
        let rgb = image::open(written.dir.path().join("images").join(&entry.file_name))
            .unwrap()
            .to_rgb8();
        assert_eq!(rgb.dimensions(), (config.width, config.height));
        pictures.insert(entry.id, rgb);
    }
    for annotation in &written.instances.annotations {
        let rgb = &pictures[&annotation.image_id];
        let mask = annotation.segmentation.to_rle(config.height, config.width).unwrap().decode();
        let (mut sum, mut x_sum, mut y_sum, mut n) = ([0.0; 3], 0.0, 0.0, 0.0);
        for (x, y, pixel) in rgb.enumerate_pixels().filter(|(x, y, _)| mask.get(*x, *y)) {
            (0..3).for_each(|c| sum[c] += f64::from(pixel.0[c]));
            (x_sum, y_sum, n) = (x_sum + f64::from(x) + 0.5, y_sum + f64::from(y) + 0.5, n + 1.0);
        }
        assert_eq!(n, annotation.area);
        assert!(n >= f64::from(config.min_visible_pixels));
        let distance = |color: &Color| {
            (0..3).map(|c| (sum[c] / n - f64::from(color.rgb()[c])).powi(2)).sum::<f64>()
        };
        let color = *Color::ALL.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
        let radius = (n / std::f64::consts::PI).sqrt() / f64::from(config.width.min(config.height));
        let shape =
            *Shape::ALL.iter().find(|s| s.name() == names[&annotation.category_id]).unwrap();
        // Between the largest small object and the smallest large one that is partly hidden.
        let least_large = config.large_radius[0] * config.min_visible.sqrt();
        let middle = (config.small_radius[1] + least_large) / 2.0;
        let size = if radius > middle { Size::Large } else { Size::Small };
        let entity = Entity { color, shape, size, center: (x_sum / n, y_sum / n) };
        scenes.entry(annotation.image_id).or_default().push(Measured {
            ann_id: annotation.id,
            entity,
            mask,
        });
    }
    scenes
}

/// A noun phrase as read from words.
#[derive(Debug, Default)]
struct Reading {
    color: Option<Color>,
    shape: Option<Shape>,
    size: Option<Size>,
    sides: Vec<&'static str>,
    extreme: Option<&'static str>,
    relation: Option<(&'static str, Box<Reading>)>,
}

fn read(text: &str) -> Reading {
    let mut text = format!(" {text} ");
    for whole in
        ["in the picture", "in the image", "in the photo", "of the picture", "of the image"]
    {
        text = text.replace(&format!(" {whole} "), " ");
    }
    let mut reading = Reading::default();
    for (marker, direction) in [
        (" left of the ", "left"),
        (" right of the ", "right"),
        (" above the ", "top"),
        (" higher than the ", "top"),
        (" below the ", "bottom"),
        (" lower than the ", "bottom"),
    ] {
        if let Some((thing, landmark)) = text.clone().split_once(marker) {
            reading.relation = Some((direction, Box::new(read(landmark))));
            text = format!(" {thing} ");
        }
    }
    for word in text.split_whitespace() {
        let singular = word
            .strip_suffix("es")
            .filter(|w| w.ends_with(['s', 'x']))
            .or(word.strip_suffix('s'))
            .unwrap_or(word);
        match if word == "rhombus" || word == "plus" || word == "cross" { word } else { singular } {
            "circle" | "disc" => reading.shape = Some(Shape::Circle),
            "square" | "box" => reading.shape = Some(Shape::Square),
            "triangle" => reading.shape = Some(Shape::Triangle),
            "star" => reading.shape = Some(Shape::Star),
            "cross" | "plus" => reading.shape = Some(Shape::Cross),
            "diamond" | "rhombus" => reading.shape = Some(Shape::Diamond),
            "small" | "little" | "tiny" => reading.size = Some(Size::Small),
            "large" | "big" => reading.size = Some(Size::Large),
            "leftmost" => reading.extreme = Some("left"),
            "rightmost" => reading.extreme = Some("right"),
            "topmost" | "highest" => reading.extreme = Some("top"),
            "bottommost" | "lowest" => reading.extreme = Some("bottom"),
            "left" if reading.relation.is_none() => reading.sides.push("left"),
            "right" if reading.relation.is_none() => reading.sides.push("right"),
            "top" | "upper" => reading.sides.push("top"),
            "bottom" | "lower" => reading.sides.push("bottom"),
            "middle" | "center" => reading.sides.push("middle"),
            other => {
                if let Some(&color) = Color::ALL.iter().find(|c| c.name() == other) {
                    reading.color = Some(color);
                }
            }
        }
    }
    if text.contains(" furthest to the ") || text.contains(" farthest to the ") {
        assert_eq!(reading.sides.len(), 1);
        reading.extreme = reading.sides.pop();
    }
    reading
}

/// Plain geometry without margins.
fn find(reading: &Reading, scene: &[Measured], width: f64, height: f64) -> BTreeSet<i64> {
    let mut found: Vec<&Measured> = scene
        .iter()
        .filter(|m| {
            reading.color.is_none_or(|c| c == m.entity.color)
                && reading.shape.is_none_or(|s| s == m.entity.shape)
                && reading.size.is_none_or(|s| s == m.entity.size)
        })
        .collect();
    let beyond = |direction: &str, a: (f64, f64), b: (f64, f64)| match direction {
        "left" => a.0 < b.0,
        "right" => a.0 > b.0,
        "top" => a.1 < b.1,
        "bottom" => a.1 > b.1,
        other => panic!("{other}"),
    };
    let middle = (width / 2.0, height / 2.0);
    for side in &reading.sides {
        found.retain(|m| match *side {
            "middle" => {
                let (x, y) = m.entity.center;
                (x / width - 0.5).abs().max((y / height - 0.5).abs()) < 0.18
            }
            side => beyond(side, m.entity.center, middle),
        });
    }
    if let Some((direction, landmark)) = &reading.relation {
        let marks = find(landmark, scene, width, height);
        assert!(marks.len() <= 1, "the landmark is not unique");
        let mark = scene.iter().find(|m| marks.contains(&m.ann_id));
        found.retain(|m| {
            mark.is_some_and(|mark| beyond(direction, m.entity.center, mark.entity.center))
        });
    }
    if let Some(direction) = reading.extreme {
        let all = found.clone();
        found.retain(|m| {
            all.iter().all(|o| {
                o.ann_id == m.ann_id || beyond(direction, m.entity.center, o.entity.center)
            })
        });
    }
    found.iter().map(|m| m.ann_id).collect()
}

#[test]
fn every_sentence_means_its_masks() {
    let config = config();
    let written = write(config.clone());
    let scenes = measure(&written, &config);
    let attributes: BTreeMap<i64, _> =
        written.meaning.objects.iter().map(|o| (o.ann_id, *o)).collect();
    for scene in scenes.values() {
        for object in scene {
            let told = attributes[&object.ann_id];
            let seen = object.entity;
            assert_eq!((told.color, told.shape, told.size), (seen.color, seen.shape, seen.size));
        }
        for pair in 0..scene.len() {
            for other in pair + 1..scene.len() {
                let both = |x, y| scene[pair].mask.get(x, y) && scene[other].mask.get(x, y);
                assert!(
                    !(0..config.height).any(|y| (0..config.width).any(|x| both(x, y))),
                    "masks overlap"
                );
            }
        }
    }
    let queries: BTreeMap<i64, _> =
        written.meaning.sentences.iter().map(|s| (s.sent_id, s)).collect();
    let (w, h) = (f64::from(config.width), f64::from(config.height));
    let mut sentences = 0;
    for record in &written.refs {
        let scene = &scenes[&record.image_id];
        let world =
            World { width: w, height: h, entities: scene.iter().map(|m| m.entity).collect() };
        let targets: BTreeSet<i64> = record.ann_id.to_vec().into_iter().collect();
        match record.source.as_deref() {
            Some("one") => assert_eq!(targets.len(), 1),
            Some("many") => assert!(targets.len() >= 2),
            Some("zero") => assert!(targets.is_empty() && record.is_zero()),
            other => panic!("{other:?}"),
        }
        for sentence in &record.sentences {
            sentences += 1;
            let text = &sentence.raw;
            assert!(text.split(' ').count() <= 18 && !text.contains("  "), "{text:?}");
            // the words, read without the generator
            let parts: Vec<&str> = match text.split_once(" and ") {
                Some((a, b)) if !Color::ALL.iter().any(|c| b == c.name()) => vec![a, b],
                _ => vec![text],
            };
            let found: Vec<BTreeSet<i64>> =
                parts.iter().map(|p| find(&read(p), scene, w, h)).collect();
            if parts.len() == 2 {
                assert!(found.iter().all(|f| f.len() == 1), "{text}");
            }
            assert_eq!(
                found.concat_sets(),
                targets,
                "{text} {:?}",
                scene.iter().map(|m| (m.ann_id, m.entity)).collect::<Vec<_>>()
            );
            let number = ["two", "three", "four", "five", "six", "seven"]
                .iter()
                .position(|n| text.split(' ').any(|w| w == *n));
            if let Some(n) = number.filter(|_| !targets.is_empty()) {
                assert_eq!(targets.len(), n + 2, "{text}");
            }
            // the stored query, by the evaluator, on measured objects
            let query = &queries[&sentence.sent_id].query;
            let Answer::Objects(answer) = evaluate(query, &world) else {
                panic!("unclear: {text}")
            };
            let answer: BTreeSet<i64> = answer.into_iter().map(|i| scene[i].ann_id).collect();
            assert_eq!(answer, targets, "{text}");
        }
    }
    assert_eq!(sentences, config.scenes() * config.sentences_per_scene);
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<i64>;
}

impl ConcatSets for Vec<BTreeSet<i64>> {
    fn concat_sets(self) -> BTreeSet<i64> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn near_misses_differ_in_the_named_attribute_from_a_true_sentence() {
    let config = config();
    let written = write(config.clone());
    let scenes = measure(&written, &config);
    let image_of: BTreeMap<i64, i64> =
        written.refs.iter().flat_map(|r| r.sent_ids.iter().map(|s| (*s, r.image_id))).collect();
    let mut kinds: BTreeMap<Changed, usize> = BTreeMap::new();
    for sentence in &written.meaning.sentences {
        let scene = &scenes[&image_of[&sentence.sent_id]];
        let world = World {
            width: f64::from(config.width),
            height: f64::from(config.height),
            entities: scene.iter().map(|m| m.entity).collect(),
        };
        let Some(near) = sentence.near_miss else {
            assert!(!evaluate(&sentence.query, &world).is_none());
            continue;
        };
        assert!(evaluate(&sentence.query, &world).is_none());
        assert!(
            matches!(evaluate(&near.from, &world), Answer::Objects(found) if !found.is_empty())
        );
        let (Query::Things(n, now), Query::Things(m, before)) = (sentence.query, near.from) else {
            panic!("a near miss is no pair")
        };
        assert_eq!(n, m);
        let what = [
            (Changed::Color, now.what.color != before.what.color),
            (Changed::Size, now.what.size != before.what.size),
            (Changed::Shape, now.what.shape != before.what.shape),
        ];
        let differing: Vec<Changed> = what.iter().filter(|(_, d)| *d).map(|(c, _)| *c).collect();
        let place = now.place != before.place;
        match near.changed {
            Changed::Position | Changed::Relation | Changed::Landmark => {
                assert!(place && differing.is_empty())
            }
            changed => assert!(!place && differing == [changed]),
        }
        *kinds.entry(near.changed).or_default() += 1;
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn splits_share_no_scene_and_kinds_keep_their_proportions() {
    let config = config();
    let written = write(config.clone());
    let mut split_of: BTreeMap<i64, &str> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for record in &written.refs {
        let split = split_of.entry(record.image_id).or_insert(&record.split);
        assert_eq!(*split, record.split);
        *counts.entry((&record.split, record.source.as_deref().unwrap())).or_default() +=
            record.sentences.len();
    }
    for (split, scenes) in [("train", 300), ("val", 40), ("test", 60)] {
        assert_eq!(split_of.values().filter(|s| **s == split).count(), scenes);
        let n = scenes * config.sentences_per_scene;
        let own = config.train_proportions.filter(|_| split == "train");
        let expected = own.unwrap_or(config.proportions).counts(n);
        let got =
            ["one", "many", "zero"].map(|kind| counts.get(&(split, kind)).copied().unwrap_or(0));
        assert_eq!(got, expected, "{split}");
    }
    let mut bytes = BTreeSet::new();
    for entry in &written.instances.images {
        let png = std::fs::read(written.dir.path().join("images").join(&entry.file_name)).unwrap();
        assert!(bytes.insert(png), "two scenes with the same picture");
    }
}

fn all_bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [dir.to_path_buf(), dir.join("images")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_seed_decides_every_byte() {
    let small = |seed| SyntheticConfig {
        seed,
        train_scenes: 12,
        val_scenes: 3,
        test_scenes: 3,
        ..config()
    };
    let (a, b, c) = (write(small(5)), write(small(5)), write(small(6)));
    assert_eq!(all_bytes(a.dir.path()), all_bytes(b.dir.path()));
    assert_ne!(all_bytes(a.dir.path()), all_bytes(c.dir.path()));
    assert_eq!(all_bytes(a.dir.path()).len(), 18 + 6);
}

#[test]
fn nothing_is_overwritten_or_left_behind() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    let synthetic = SyntheticRefZom::new(SyntheticConfig {
        train_scenes: 2,
        val_scenes: 0,
        test_scenes: 1,
        ..config()
    })
    .unwrap();
    let message = synthetic.write_to(&dir).unwrap_err().to_string();
    assert!(message.contains("not empty") && message.contains("data"), "{message}");
    let fresh = parent.path().join("fresh");
    let stopped = synthetic.write_with_progress(parent.path().join("stopped"), |done, _| {
        if done == 2 { Err(DataError::Stopped) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(DataError::Stopped)));
    let mut calls = Vec::new();
    let summary = synthetic
        .write_with_progress(&fresh, |done, all| {
            calls.push((done, all));
            Ok(())
        })
        .unwrap();
    assert_eq!(calls, [(1, 3), (2, 3), (3, 3)]);
    assert_eq!(summary.sentences["train"].total(), 8);
    let names: BTreeSet<String> = std::fs::read_dir(parent.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["data".to_owned(), "fresh".to_owned()]));
}

#[test]
fn one_kind_only_and_few_attributes_work() {
    use refzom_dataset::synthetic::Proportions;
    for (one, many, zero) in [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)] {
        let written = write(SyntheticConfig {
            proportions: Proportions { one, many, zero },
            colors: vec![Color::Red, Color::Blue],
            shapes: vec![Shape::Circle, Shape::Square],
            train_scenes: 10,
            val_scenes: 0,
            test_scenes: 0,
            sentences_per_scene: 3,
            ..config()
        });
        assert_eq!(written.meaning.sentences.len(), 30);
    }
}

#[test]
fn every_word_is_in_the_vocabulary() {
    let written = write(SyntheticConfig { paraphrase: 1.0, ..config() });
    let vocab = std::fs::read_to_string(written.dir.path().join("vocab.txt")).unwrap();
    let vocab: BTreeSet<&str> = vocab.lines().collect();
    for sentence in written.refs.iter().flat_map(|r| &r.sentences) {
        for word in sentence.raw.split(' ') {
            assert!(vocab.contains(word), "{word}");
        }
    }
}

#[test]
fn scenes_that_cannot_be_drawn_are_an_error_and_leave_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let crowded = SyntheticConfig {
        min_objects: 10,
        max_objects: 10,
        small_radius: [0.2, 0.2],
        large_radius: [0.3, 0.3],
        min_visible: 1.0,
        overlap: 0.0,
        ..config()
    };
    let message = SyntheticRefZom::new(crowded)
        .unwrap()
        .write_to(parent.path().join("x"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("max_objects"), "{message}");
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}
