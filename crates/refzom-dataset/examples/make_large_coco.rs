//! Writes COCO-like files of any size, to measure `dmmi-cli data build-zom` without COCO: nine objects, five captions and
//! one or two expressions an image, polygons as long as COCO's. Only the shape of the files is true to COCO, no picture exists.
//! `cargo run --release -p refzom-dataset --example make_large_coco -- 100000 /tmp/large`

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refzom_dataset::build_zom::CATEGORIES;
use refzom_dataset::{Ids, RefRecord, Sentence, save_refs};

const COLOURS: [&str; 6] = ["red", "blue", "white", "black", "green", "brown"];
const DOING: [&str; 5] = ["standing", "sitting", "seen", "parked", "left"];
const WHERE: [&str; 5] = ["next to", "behind", "in front of", "near", "beside"];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: make_large_coco IMAGES FOLDER";
    let images: i64 = args.next().context(usage)?.parse()?;
    let dir = std::path::PathBuf::from(args.next().context(usage)?);
    std::fs::create_dir_all(&dir)?;
    let open = |name: &str| {
        File::create(dir.join(name)).map(|file| BufWriter::with_capacity(1 << 20, file))
    };
    let (mut instances, mut captions) = (open("instances.json")?, open("captions.json")?);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    write!(instances, "{{\"info\": {{\"description\": \"synthetic\"}}, \"images\": [")?;
    for id in 1..=images {
        let comma = if id > 1 { ", " } else { "" };
        write!(
            instances,
            "{comma}{{\"id\": {id}, \"file_name\": \"COCO_train2014_{id:012}.jpg\", \"width\": 640, \"height\": 480, \"license\": 1, \"flickr_url\": \"none\"}}"
        )?;
    }
    write!(instances, "], \"licenses\": [], \"annotations\": [")?;
    write!(captions, "{{\"annotations\": [")?;
    let (mut ann, mut caption, mut refs) = (0i64, 0i64, Vec::new());
    for image in 1..=images {
        let mut named = Vec::new();
        for _ in 0..rng.random_range(2..=16) {
            ann += 1;
            let category = if rng.random_bool(0.3) { 0 } else { rng.random_range(0..80) };
            named.push((ann, CATEGORIES[category].singular));
            let comma = if ann > 1 { ", " } else { "" };
            let (x, y) = (rng.random_range(0.0..500.0), rng.random_range(0.0..350.0));
            write!(instances, "{comma}{{\"segmentation\": [[")?;
            let points = rng.random_range(8..60);
            for point in 0..points {
                let comma = if point > 0 { ", " } else { "" };
                write!(
                    instances,
                    "{comma}{:.2}, {:.2}",
                    x + rng.random_range(0.0..120.0),
                    y + rng.random_range(0.0..120.0)
                )?;
            }
            let crowd = i32::from(rng.random_bool(0.01));
            write!(
                instances,
                "]], \"area\": 7000.5, \"iscrowd\": {crowd}, \"image_id\": {image}, \"bbox\": [{x:.2}, {y:.2}, 120.0, 120.0], \"category_id\": {}, \"id\": {ann}}}",
                category + 1
            )?;
        }
        let mut pick = |list: &[&'static str]| list[rng.random_range(0..list.len())];
        for _ in 0..5 {
            caption += 1;
            let (first, second) = (named[caption as usize % named.len()].1, named[0].1);
            let comma = if caption > 1 { ", " } else { "" };
            write!(
                captions,
                "{comma}{{\"image_id\": {image}, \"id\": {caption}, \"caption\": \"A {} {first} {} {} a {} {second}.\"}}",
                pick(&COLOURS),
                pick(&DOING),
                pick(&WHERE),
                pick(&COLOURS)
            )?;
        }
        for (object, noun) in named.iter().take(2) {
            let text = format!("the {} {noun} {} the {}", pick(&COLOURS), pick(&WHERE), named[0].1);
            let sent_id = refs.len() as i64;
            refs.push(RefRecord {
                ref_id: sent_id,
                ann_id: Ids::One(*object),
                image_id: image,
                category_id: Ids::One(1),
                split: if image % 10 == 0 { "val" } else { "train" }.into(),
                file_name: String::new(),
                sent_ids: vec![sent_id],
                sentences: vec![Sentence {
                    tokens: Vec::new(),
                    raw: text.clone(),
                    sent: text,
                    sent_id,
                }],
                source: None,
                no_target: None,
            });
        }
    }
    write!(instances, "], \"categories\": [")?;
    for (i, category) in CATEGORIES.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(
            instances,
            "{comma}{{\"id\": {}, \"name\": \"{}\", \"supercategory\": \"\"}}",
            i + 1,
            category.name
        )?;
    }
    writeln!(instances, "]}}")?;
    writeln!(captions, "]}}")?;
    save_refs(dir.join("refs(unc).p"), &refs)?;
    eprintln!("{images} images, {ann} annotations, {caption} captions, {} expressions", refs.len());
    Ok(())
}
