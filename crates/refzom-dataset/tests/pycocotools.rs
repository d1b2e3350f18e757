//! Union masks of the shipped photos equal pycocotools 2.0.11 (x86-64) bit for bit; polygons and crowds are judged by dmmi-parity
//! (case masks_pycocotools), whose reader of the golden file is the only one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use refzom_dataset::{Dataset, DatasetConfig, TargetKind};
use serde::Deserialize;

fn repo(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[derive(Deserialize)]
struct Union {
    area: u64,
    rle: Option<String>,
}

#[test]
fn union_masks_of_the_shipped_photos_equal_pycocotools() {
    let expected: BTreeMap<String, Union> =
        serde_json::from_slice(&std::fs::read(repo("data/coco33/expected_masks.json")).unwrap())
            .unwrap();
    for refs in ["refs(final).p", "grefs(unc).json"] {
        let cfg = DatasetConfig::new(repo("data/coco33"), "all").with_refs(refs);
        let (dataset, rejected) = Dataset::load(&cfg).unwrap();
        assert!(rejected.is_empty(), "{rejected:?}");
        let summary = dataset.summary();
        assert_eq!((summary.images, summary.references), (33, 100), "{summary}");
        for sample in dataset.samples() {
            let union = &expected[&sample.ref_id.to_string()];
            let rle = sample.rle().unwrap();
            if let Some(expected) = &union.rle {
                assert_eq!(&rle.to_compressed(), expected, "{sample}");
            }
            assert_eq!(sample.mask().unwrap().area(), union.area, "{sample}");
            assert_eq!(union.area == 0, sample.kind == TargetKind::Zero, "{sample}");
        }
    }
    let human = DatasetConfig::new(repo("data/coco33"), "test").with_refs("refs(human).p");
    assert_eq!(Dataset::load(&human).unwrap().0.summary().one, 3);
}
