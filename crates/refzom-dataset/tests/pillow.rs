//! Decoding and resizing equal Pillow 10.4: every byte for PNG, within 4 of 255 for JPEG (another inverse DCT).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use refzom_dataset::{Mask, Orientation, load_rgb, resize_bilinear};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    images: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    width: u32,
    height: u32,
    decoded_crc32: u32,
    decoded: Vec<u8>,
    resized: Vec<Resized>,
}

#[derive(Deserialize)]
struct Resized {
    height: u32,
    width: u32,
    crc32: u32,
    samples: Vec<u8>,
    mask_crc32: u32,
}

fn check_close(name: &str, ours: &[u8], expected: &[u8]) {
    for (i, &theirs) in expected.iter().enumerate() {
        let mine = ours[i * ours.len() / expected.len()];
        assert!(mine.abs_diff(theirs) <= 4, "{name}: sample {i} is {mine}, Pillow has {theirs}");
    }
}

#[test]
fn pixels_equal_pillow() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/g6");
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(dir.join("pillow.json")).unwrap()).unwrap();
    assert!(golden.images.len() >= 4);
    for (name, case) in &golden.images {
        let picture = load_rgb(dir.join("images").join(name), Orientation::Ignore).unwrap();
        assert_eq!(picture.dimensions(), (case.width, case.height), "{name}");
        check_close(name, picture.as_raw(), &case.decoded);
        let exact = name.ends_with(".png");
        if exact {
            assert_eq!(crc32fast::hash(picture.as_raw()), case.decoded_crc32, "{name}");
        }
        let bits = picture.pixels().map(|p| u8::from(p.0[0] > 127)).collect();
        let mask = Mask::from_bits(case.height, case.width, bits).unwrap();
        for to in &case.resized {
            let name = format!("{name} at {} x {}", to.height, to.width);
            let resized = resize_bilinear(&picture, to.height, to.width);
            check_close(&name, resized.as_raw(), &to.samples);
            if exact {
                assert_eq!(crc32fast::hash(resized.as_raw()), to.crc32, "{name}");
                let near = mask.resize_nearest(to.height, to.width).unwrap();
                assert_eq!(crc32fast::hash(near.bits()), to.mask_crc32, "{name}");
            }
        }
    }
}
