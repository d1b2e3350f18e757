//! The whole way on real files: data/coco33 to a folder that the readers load.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::*;
use crate::synthetic::KindCounts;
use crate::{Dataset, DatasetConfig, Instances, TargetKind, load_refs};

fn coco33(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/coco33").join(name)
}

fn inputs() -> ZomInputs {
    ZomInputs {
        instances: vec![coco33("instances.json")],
        captions: vec![coco33("captions.json")],
        refs: vec![coco33("refs(final).p"), coco33("refs(human).p")],
        images: vec![coco33("images")],
        ..ZomInputs::default()
    }
}

fn make(config: ZomConfig, inputs: &ZomInputs) -> ZomPlan {
    ZomPlan::make(config, inputs, |_| {}).unwrap()
}

fn sentences(plan: &ZomPlan, kind: TargetKind) -> Vec<(i64, String)> {
    let of = |c: &Chosen| {
        (plan.catalog.pictures()[c.candidate.picture as usize].id, c.candidate.sentence.clone())
    };
    plan.chosen.iter().filter(|c| c.candidate.kind() == kind).map(of).collect()
}

#[test]
fn the_written_folder_loads_and_says_what_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("zom");
    let plan = make(ZomConfig::ref_zom(), &inputs());
    plan.write_to(&out, Placing::Link, |_| {}).unwrap();

    let (all, rejected) = Dataset::load(&DatasetConfig::new(&out, "all")).unwrap();
    assert!(rejected.is_empty(), "{rejected:?}");
    assert_eq!(all.len(), plan.chosen.len());
    let mut by_split: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for sample in all.samples() {
        by_split.entry(&sample.split).or_default().insert(sample.image_id);
        assert_eq!(sample.kind == TargetKind::Zero, sample.mask().unwrap().area() == 0, "{sample}");
    }
    assert!(by_split["train"].is_disjoint(&by_split["test"]), "an image in both splits");

    // held out by the inputs, held out here
    for record in load_refs(coco33("refs(final).p")).unwrap() {
        let held = record.split != "train" && by_split["train"].contains(&record.image_id);
        assert!(!held, "image {} was held out", record.image_id);
    }
    // every kind and source, in Ref-ZOM's proportions as far as whole numbers go
    let report = &plan.report;
    let kinds = |kind: &str| report.sources[kind].values().sum::<usize>();
    let total = plan.chosen.len() as f64;
    assert!((kinds("one") as f64 / total - 56_972.0 / 90_199.0).abs() < 0.03, "{report:?}");
    assert!((kinds("zero") as f64 / total - 11_937.0 / 90_199.0).abs() < 0.03, "{report:?}");
    assert!(report.sources["many"]["combined"] > 0 && report.sources["many"]["prompt"] > 0);
    assert!(
        report.sources["zero"]["other_caption"] > 0
            && report.sources["zero"]["other_expression"] > 0
    );

    // outlines, licences and addresses are those of the source
    let (ours, theirs) = (
        Instances::load(out.join("instances.json")).unwrap(),
        Instances::load(coco33("instances.json")).unwrap(),
    );
    let source: HashMap<i64, &crate::Annotation> =
        theirs.annotations.iter().map(|a| (a.id, a)).collect();
    assert!(ours.annotations.iter().all(|a| source[&a.id] == a));
    assert_eq!(ours.categories, theirs.categories);
    let text = std::fs::read_to_string(out.join("instances.json")).unwrap();
    assert!(text.contains("flickr_url") && text.contains("Attribution"));

    // a line of provenance for every sentence, with its id
    let lines = std::fs::read_to_string(out.join("provenance.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_id: HashMap<i64, &serde_json::Value> =
        lines.iter().map(|l| (l["sent_id"].as_i64().unwrap(), l)).collect();
    assert_eq!(by_id.len(), all.len());
    for sample in all.samples() {
        let line = by_id[&sample.sentence_id];
        assert_eq!(
            (line["sentence"].as_str(), line["ref_id"].as_i64()),
            (Some(sample.expression.as_str()), Some(sample.ref_id))
        );
        assert_eq!(line["kind"], sample.kind.to_string());
        let zero = sample.kind == TargetKind::Zero;
        assert_eq!(line["checks"].is_object(), zero, "{line}");
    }
}

#[test]
fn the_same_settings_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: u64| {
        let out = dir.path().join(name);
        let plan = make(ZomConfig { seed, ..ZomConfig::ref_zom() }, &inputs());
        plan.write_to(&out, Placing::None, |_| {}).unwrap();
        let read = |file: &str| std::fs::read(out.join(file)).unwrap();
        [
            read("refs(final).p"),
            read("instances.json"),
            read("provenance.jsonl"),
            read("summary.json"),
        ]
    };
    let first = write("a", 1);
    assert_eq!(first, write("b", 1));
    assert_ne!(first[0], write("c", 2)[0]);
    let again =
        make(ZomConfig::ref_zom(), &inputs()).write_to(dir.path().join("a"), Placing::None, |_| {});
    assert!(again.unwrap_err().to_string().contains("not empty"));
}

#[test]
fn zero_targets_answer_to_nothing_that_is_annotated() {
    let plan = make(
        ZomConfig { per_image: KindCounts { one: 1, many: 1, zero: 2 }, ..ZomConfig::ref_zom() },
        &inputs(),
    );
    for chosen in plan.chosen.iter().filter(|c| c.candidate.kind() == TargetKind::Zero) {
        let picture = &plan.catalog.pictures()[chosen.candidate.picture as usize];
        let checks = chosen.candidate.origin.checks().unwrap();
        assert!(checks.conflict.is_none(), "conflicts wait for a person");
        for name in &checks.looked_for {
            let there = picture.present.has(index_of(name).unwrap());
            assert!(!there, "{name} in image {}: {}", picture.id, chosen.candidate.sentence);
        }
    }
}

#[test]
fn decisions_are_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let config = ZomConfig::ref_zom();
    let plan = make(config.clone(), &inputs());
    let zero = sentences(&plan, TargetKind::Zero);
    assert!(zero.len() >= 4);
    let verdict = |i: usize| if i.is_multiple_of(2) { Verdict::Reject } else { Verdict::Accept };
    let decisions: Vec<Decision> = zero
        .iter()
        .enumerate()
        .map(|(i, (image_id, sentence))| Decision {
            image_id: *image_id,
            sentence: sentence.clone(),
            verdict: verdict(i),
        })
        .collect();
    let path = dir.path().join("decisions.json");
    let file = DecisionsFile { format: DecisionsFile::FORMAT.into(), decisions };
    std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let decided = ZomInputs { decisions: vec![path], ..inputs() };

    let after = make(config.clone(), &decided);
    let now: BTreeSet<(i64, String)> = sentences(&after, TargetKind::Zero).into_iter().collect();
    for (i, pair) in zero.iter().enumerate() {
        assert_eq!(now.contains(pair), verdict(i) == Verdict::Accept, "{pair:?}");
    }
    assert_eq!(after.report.accepted_used, zero.len() / 2);
    assert_eq!(after.report.accepted_unknown, 0);
    let place = |image_id: i64| after.catalog.find(image_id).unwrap() as u32;
    let open = |(image_id, sentence): &(i64, String)| {
        after.undecided().iter().any(|c| c.picture == place(*image_id) && c.sentence == *sentence)
    };
    assert!(!zero.iter().any(open), "decided sentences are not shown again");

    let only = make(ZomConfig { only_accepted: true, ..config }, &decided);
    assert_eq!(sentences(&only, TargetKind::Zero).len(), zero.len() / 2);
}

#[test]
fn accepted_conflicts_enter_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let config = ZomConfig { conflicts: 30, ..ZomConfig::ref_zom() };
    let plan = make(config.clone(), &inputs());
    let Some(first) = plan.proposals.first() else { panic!("coco33 has conflicts") };
    let image_id = plan.catalog.pictures()[first.picture as usize].id;
    let decision =
        Decision { image_id, sentence: first.sentence.clone(), verdict: Verdict::Accept };
    let file = DecisionsFile { format: DecisionsFile::FORMAT.into(), decisions: vec![decision] };
    let path = dir.path().join("decisions.json");
    std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let after = make(config, &ZomInputs { decisions: vec![path], ..inputs() });
    assert!(sentences(&after, TargetKind::Zero).contains(&(image_id, first.sentence.clone())));
}

#[test]
fn counts_are_exact_or_an_error() {
    let config = |one, many, zero| ZomConfig {
        counts: KindCounts { one, many, zero },
        exact: true,
        ..ZomConfig::ref_zom()
    };
    let plan = make(config(20, 7, 9), &inputs());
    let count = |kind| sentences(&plan, kind).len();
    assert_eq!(
        (count(TargetKind::One), count(TargetKind::Many), count(TargetKind::Zero)),
        (20, 7, 9)
    );
    let error = ZomPlan::make(config(20, 7000, 9), &inputs(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("7000 one-to-many") && error.contains("ask for fewer"), "{error}");
    let no_texts = ZomInputs { captions: vec![], refs: vec![], ..inputs() };
    let error = ZomPlan::make(config(0, 0, 5), &no_texts, |_| {}).unwrap_err().to_string();
    assert!(error.contains("0 can be made"), "{error}");
}

#[test]
fn hand_written_sentences_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hand.csv");
    let text = "image_id,sentence,ann_ids\n397133,the cook and the bowl on the counter,\"200887 1125079\"\n\
        397133,a zebra in the kitchen,\n397133,the ghost,1 2\n";
    std::fs::write(&path, text).unwrap();
    let config = ZomConfig {
        counts: KindCounts { one: 0, many: 3, zero: 3 },
        exact: true,
        ..ZomConfig::ref_zom()
    };
    let plan = make(config, &ZomInputs { hand_written: vec![path], ..inputs() });
    let has = |kind, text: &str| sentences(&plan, kind).iter().any(|(_, s)| s == text);
    assert!(has(TargetKind::Many, "the cook and the bowl on the counter"));
    assert!(has(TargetKind::Zero, "a zebra in the kitchen"));
    assert_eq!(plan.report.bad_lines.len(), 1);
    assert!(plan.report.bad_lines[0].contains("line 4"));
}
