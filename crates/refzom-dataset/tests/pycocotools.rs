//! Masks equal pycocotools 2.0.11 (x86-64) bit for bit: random and real polygons, crowd run lengths, union masks of the shipped photos.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use refzom_dataset::{
    Counts, Dataset, DatasetConfig, Rle, SizedCounts, TargetKind, rasterize_polygon,
};
use serde::Deserialize;

fn repo(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[derive(Deserialize)]
struct Vectors {
    polys: Vec<PolygonCase>,
    crowd: Vec<CrowdCase>,
}

#[derive(Deserialize)]
struct PolygonCase {
    kind: String,
    h: u32,
    w: u32,
    polys: Vec<Vec<f64>>,
    rles: Vec<String>,
    merged: String,
    area: u64,
    bbox: [f64; 4],
}

#[derive(Deserialize)]
struct CrowdCase {
    #[serde(flatten)]
    runs: SizedCounts,
    rle: String,
    area: u64,
}

fn box_of(rle: &Rle) -> [f64; 4] {
    rle.bounding_box().map_or([0.0; 4], |b| [b.x, b.y, b.width, b.height].map(f64::from))
}

#[test]
fn polygons_and_crowds_equal_pycocotools() {
    let file = std::fs::File::open(repo("tests/golden/vectors/masks_pycocotools.json")).unwrap();
    let vectors: Vectors = serde_json::from_reader(std::io::BufReader::new(file)).unwrap();
    assert!(vectors.polys.len() > 1000 && vectors.crowd.len() == 10);
    for (i, case) in vectors.polys.iter().enumerate() {
        let name = format!("case {i} ({})", case.kind);
        let parts: Vec<Rle> =
            case.polys.iter().map(|p| rasterize_polygon(p, case.h, case.w).unwrap()).collect();
        for (part, expected) in parts.iter().zip(&case.rles) {
            assert_eq!(&part.to_compressed(), expected, "{name}");
            assert_eq!(&Rle::from_compressed(case.h, case.w, expected).unwrap(), part, "{name}");
        }
        let merged = Rle::union(&parts).unwrap();
        assert_eq!(merged.to_compressed(), case.merged, "{name}");
        assert_eq!(merged.area(), case.area, "{name}");
        assert_eq!(box_of(&merged), case.bbox, "{name}");
    }
    for case in &vectors.crowd {
        let Counts::Plain(counts) = &case.runs.counts else { panic!("crowds are plain") };
        let [h, w] = case.runs.size;
        let rle = Rle::new(h, w, counts.clone()).unwrap();
        assert_eq!(rle.to_compressed(), case.rle);
        assert_eq!(rle.area(), case.area);
        assert_eq!(Rle::encode(&rle.decode()), rle);
    }
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
