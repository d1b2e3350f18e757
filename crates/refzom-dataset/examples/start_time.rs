//! First and second start on a set of RefCOCO's size: 42,404 references with 3 sentences each on 16,994 pictures.
//! `start_time [REFS]` writes one into a temporary folder and prints the seconds of five starts.

use std::time::Instant;

use anyhow::Result;
use refzom_dataset::{
    Annotation, Category, Dataset, DatasetConfig, Ids, ImageEntry, Instances, RefRecord,
    Segmentation, Sentence, save_refs,
};

/// The allocator of `dmmi-cli`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Processor time of this thread where Linux tells it, else 0.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

/// A wavy outline of 28 points around a place that depends on `i`.
fn outline(i: i64) -> Segmentation {
    let (x, y) = (60.0 + (i * 37 % 500) as f64, 60.0 + (i * 53 % 340) as f64);
    let point = |k: i64| {
        let angle = k as f64 * std::f64::consts::TAU / 28.0;
        let radius = 30.0 + 20.0 * ((k * 7 + i) % 5) as f64 / 5.0;
        let round = |v: f64| (v * 100.0).round() / 100.0;
        [round(x + radius * angle.cos()), round(y + radius * angle.sin())]
    };
    Segmentation::Polygons(vec![(0..28).flat_map(point).collect()])
}

#[allow(clippy::print_stdout)] // the result
fn main() -> Result<()> {
    let refs: i64 = std::env::args().nth(1).map_or(Ok(42_404), |n| n.parse())?;
    let pictures = refs * 16_994 / 42_404 + 1;
    let dir = std::env::temp_dir().join(format!("refzom-start-time-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("images"))?;
    let name = |i: i64| format!("COCO_train2014_{i:012}.jpg");
    for i in 0..pictures {
        std::fs::write(dir.join("images").join(name(i)), "")?;
    }
    let sentence = |id: i64| {
        let raw = format!(
            "the {} person in front of table number {}",
            ["left", "tall"][id as usize % 2],
            id % 97
        );
        let tokens = raw.split(' ').map(str::to_owned).collect();
        Sentence { tokens, sent: raw.clone(), raw, sent_id: id }
    };
    let record = |i: i64| RefRecord {
        ref_id: i,
        ann_id: Ids::One(i + 1),
        image_id: i % pictures,
        category_id: Ids::One(i % 80 + 1),
        split: "train".into(),
        file_name: format!("COCO_train2014_{:012}_{i}.jpg", i % pictures),
        sent_ids: (0..3).map(|k| i * 3 + k).collect(),
        sentences: (0..3).map(|k| sentence(i * 3 + k)).collect(),
        source: None,
        no_target: None,
    };
    save_refs(dir.join("refs(unc).p"), &(0..refs).map(record).collect::<Vec<_>>())?;
    let annotation = |i: i64| Annotation {
        id: i + 1,
        image_id: i % pictures,
        category_id: i % 80 + 1,
        segmentation: outline(i),
        area: 5000.0,
        bbox: vec![1.0, 2.0, 3.0, 4.0],
        iscrowd: 0,
    };
    let image = |id: i64| ImageEntry { id, file_name: name(id), width: 640, height: 480 };
    let category =
        |id: i64| Category { id, name: format!("thing {id}"), supercategory: String::new() };
    Instances {
        images: (0..pictures).map(image).collect(),
        annotations: (0..refs).map(annotation).collect(),
        categories: (1..=80).map(category).collect(),
    }
    .save(dir.join("instances.json"))?;
    for start in 1..=5 {
        let (clock, cpu) = (Instant::now(), cpu_seconds());
        let (dataset, rejected) = Dataset::load(&DatasetConfig::new(&dir, "train"))?;
        let seconds = clock.elapsed().as_secs_f64();
        let cpu = cpu_seconds() - cpu;
        println!(
            "start {start}: {seconds:.3} s ({cpu:.3} s of processor time), {}, {} left out",
            dataset.summary(),
            rejected.len()
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
