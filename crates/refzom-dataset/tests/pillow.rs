//! Decoding and resizing equal Pillow 10.4: every byte for PNG and the usual JPEGs, within 4 of 255 for progressive ones and CMYK
//! (another inverse DCT).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use refzom_dataset::{Mask, Orientation, Resampling, load_rgb, resize_bilinear, resize_with};
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
        let exact = !name.contains("progressive") && !name.contains("cmyk");
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

#[derive(Deserialize)]
struct Crcs {
    made: BTreeMap<String, u32>,
    photos: BTreeMap<String, u32>,
}

#[test]
fn jpegs_of_all_usual_kinds_and_odd_sizes_equal_libjpeg() {
    let repo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let made = repo.join("tests/golden/g6/jpeg");
    let crcs: Crcs =
        serde_json::from_slice(&std::fs::read(made.join("crc32.json")).unwrap()).unwrap();
    assert!(crcs.made.len() >= 116 && crcs.photos.len() == 33);
    let photos = repo.join("data/coco33/images");
    for (folder, files) in [(made, crcs.made), (photos, crcs.photos)] {
        for (name, crc) in files {
            let picture = load_rgb(folder.join(&name), Orientation::Ignore).unwrap();
            assert_eq!(crc32fast::hash(picture.as_raw()), crc, "{name}");
        }
    }
}

/// Prints what docs/results.md says of the quick resize.
#[test]
fn four_neighbours_at_480_are_this_far_off() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/coco33/images");
    let (mut sum, mut count, mut most) = (0u64, 0u64, 0u8);
    for entry in std::fs::read_dir(dir).unwrap() {
        let picture = load_rgb(entry.unwrap().path(), Orientation::Ignore).unwrap();
        let exact = resize_bilinear(&picture, 480, 480);
        let quick = resize_with(&picture, 480, 480, Resampling::FourNeighbours);
        for (a, b) in quick.as_raw().iter().zip(exact.as_raw()) {
            sum += u64::from(a.abs_diff(*b));
            most = most.max(a.abs_diff(*b));
        }
        count += exact.as_raw().len() as u64;
    }
    let mean = sum as f64 / count as f64;
    eprintln!("four neighbours at 480: {mean:.3} levels of 255 off on average, {most} at most");
    assert!((0.01..2.0).contains(&mean), "{mean}");
}

#[test]
fn four_neighbours_differ_only_where_pictures_shrink() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/coco33/images");
    let (mut sum, mut count) = (0u64, 0u64);
    for name in ["000000006818.jpg", "000000041888.jpg", "000000051191.jpg"] {
        let picture = load_rgb(dir.join(name), Orientation::Ignore).unwrap();
        let (w, h) = picture.dimensions();
        let both = |h, w| {
            let quick = resize_with(&picture, h, w, Resampling::FourNeighbours);
            (quick, resize_bilinear(&picture, h, w))
        };
        let (quick, exact) = both(h + 31, w + 97);
        assert_eq!(quick, exact, "{name} enlarged");
        let (quick, exact) = both(h * 3 / 4, w * 3 / 4);
        let off = quick.as_raw().iter().zip(exact.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b)));
        (sum, count) = (sum + off.sum::<u64>(), count + exact.as_raw().len() as u64);
    }
    let mean = sum as f64 / count as f64;
    eprintln!("at three quarters the four neighbours are {mean:.2} levels of 255 off on average");
    assert!(mean > 0.0 && mean < 4.0, "{mean}");
}
