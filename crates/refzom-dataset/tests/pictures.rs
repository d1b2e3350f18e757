//! Pictures nobody would draw: cut short, damaged, huge, tiny, gray, 16-bit, transparent, turned.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;
use image::{
    DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, Rgba, RgbaImage,
};
use refzom_dataset::{DataError, ImageTransform, Orientation, RgbImage, decode_rgb, load_rgb};

fn repo(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn decode(bytes: &[u8]) -> Result<RgbImage, DataError> {
    decode_rgb(bytes, "test", Orientation::Ignore)
}

fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(picture).unwrap();
    bytes
}

/// Cut positions that include the ends and steps in between.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..200).map(move |i| i * length / 200).chain(length.saturating_sub(20)..length)
}

#[test]
fn every_cut_of_real_files_is_an_error() {
    for file in [
        "data/coco33/images/000000006818.jpg",
        "tests/golden/g6/images/small_q75_progressive.jpg",
        "tests/golden/g6/images/gray.jpg",
        "tests/golden/g6/images/small_rgba.png",
        "tests/golden/g6/images/small_palette.png",
    ] {
        let whole = std::fs::read(repo(file)).unwrap();
        assert!(decode(&whole).is_ok(), "{file}");
        for cut in cuts(whole.len()) {
            assert!(decode(&whole[..cut]).is_err(), "{file} cut to {cut} of {}", whole.len());
        }
    }
}

#[test]
fn half_a_jpeg_with_a_forged_end_is_an_error() {
    for file in ["data/coco33/images/000000006818.jpg", "tests/golden/g6/images/gray.jpg"] {
        let whole = std::fs::read(repo(file)).unwrap();
        for part in 3..9 {
            let mut forged = whole[..whole.len() * part / 10].to_vec();
            forged.extend(b"\xff\xd9");
            assert!(decode(&forged).is_err(), "{file}: {part} tenths");
        }
    }
}

#[test]
fn no_damage_to_a_jpeg_panics() {
    let mut state = 3u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for file in [
        "420_restart_17x31_q85",
        "444_5x6_q100",
        "422_33x17_q85",
        "420_50x49_q100",
        "420_scans20_17x31",
        "422_scans30_50x49",
    ] {
        let whole = std::fs::read(repo(&format!("tests/golden/g6/jpeg/{file}.jpg"))).unwrap();
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, random(256) as u8),
                }
            }
            // Looks too whether registers and plain numbers make the same of it.
            refzom_dataset::fuzzing::picture(&bytes);
        }
    }
}

#[test]
fn flat_jpegs_of_a_few_bytes_a_row_are_whole() {
    for (width, height) in [(8, 64), (1, 500), (500, 1), (3, 3), (16, 16), (640, 480), (200, 1000)]
    {
        let picture = RgbImage::from_pixel(width, height, Rgb([200; 3]));
        let whole = jpeg(&picture);
        assert_eq!(decode(&whole).unwrap().dimensions(), (width, height));
    }
    let mut forged = jpeg(&RgbImage::from_pixel(640, 480, Rgb([200; 3])));
    forged.truncate(forged.len() - 100);
    forged.extend(b"\xff\xd9");
    assert!(decode(&forged).is_err());
}

#[test]
fn every_shipped_photo_decodes() {
    for entry in std::fs::read_dir(repo("data/coco33/images")).unwrap() {
        load_rgb(entry.unwrap().path(), Orientation::Apply).unwrap();
    }
}

#[test]
fn jpegs_that_would_come_out_false_are_refused() {
    // The samplings of the first and the second component.
    for (file, samplings, words) in [
        ("420_scans30_17x31", [0x41, 0x11], "in several scans"),
        ("420_scans30_17x31", [0x12, 0x11], "in several scans"),
        ("444_17x31_q85", [0x11, 0x21], "finer than its brightness"),
    ] {
        let mut bytes = std::fs::read(repo(&format!("tests/golden/g6/jpeg/{file}.jpg"))).unwrap();
        let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        [bytes[frame + 11], bytes[frame + 14]] = samplings;
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("; open it in another"), "{error}");
    }
    let whole = std::fs::read(repo("tests/golden/g6/jpeg/420_scans30_50x49.jpg")).unwrap();
    for cut in cuts(whole.len()) {
        assert!(decode(&[&whole[..cut], b"\xff\xd9"].concat()).is_err() || cut + 2 >= whole.len());
    }
}

#[test]
fn damaged_png_data_are_an_error() {
    let mut bytes = std::fs::read(repo("tests/golden/g6/images/small_rgba.png")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    let error = decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("damaged png") && error.contains("; fetch it again"), "{error}");
}

#[test]
fn other_files_are_errors_that_say_so() {
    for bytes in [
        &b""[..],
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"P6 1 1 255 abc",
    ] {
        let error = decode(bytes).unwrap_err().to_string();
        assert!(error.starts_with("image test: ") && error.contains("; "), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = load_rgb(folder.path(), Orientation::Apply).unwrap_err().to_string();
    assert!(error.contains("is a folder; name a picture in it"), "{error}");
    let missing = load_rgb("/nowhere/cat.jpg", Orientation::Apply).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read /nowhere/cat.jpg");
}

#[test]
fn all_depths_and_channels_become_rgb() {
    let gray16 = ImageBuffer::from_pixel(1, 1, Luma([0x1234u16]));
    assert_eq!(decode(&png(DynamicImage::ImageLuma16(gray16))).unwrap().as_raw(), &[0x12; 3]);
    let rgb16 = ImageBuffer::from_pixel(1, 1, Rgb([0x12f4u16, 0xfffe, 0xff]));
    assert_eq!(decode(&png(DynamicImage::ImageRgb16(rgb16))).unwrap().as_raw(), &[0x12, 0xff, 0]);
    let transparent = RgbaImage::from_pixel(1, 1, Rgba([9, 8, 7, 0]));
    assert_eq!(decode(&png(transparent)).unwrap().as_raw(), &[9, 8, 7]);
    let gray_alpha = ImageBuffer::from_pixel(1, 1, LumaA([5u8, 3]));
    assert_eq!(decode(&png(DynamicImage::ImageLumaA8(gray_alpha))).unwrap().as_raw(), &[5; 3]);
    let gray = ImageBuffer::from_pixel(1, 1, Luma([5u8]));
    assert_eq!(decode(&png(DynamicImage::ImageLuma8(gray))).unwrap().as_raw(), &[5; 3]);
}

#[test]
fn one_pixel_and_a_hundred_million_work() {
    let transform = ImageTransform::imagenet(8, 6);
    for bytes in [png(RgbImage::new(1, 1)), jpeg(&RgbImage::new(1, 1))] {
        let picture = decode(&bytes).unwrap();
        assert_eq!(picture.dimensions(), (1, 1));
        assert_eq!(transform.apply(&picture).len(), 3 * 8 * 6);
    }
    let large = RgbImage::from_pixel(10_000, 10_000, Rgb([200, 100, 50]));
    for bytes in [png(large.clone()), jpeg(&large)] {
        let picture = decode(&bytes).unwrap();
        assert_eq!(picture.dimensions(), (10_000, 10_000));
        let pixel = transform.resize(&picture).get_pixel(3, 3).0;
        assert!(pixel.iter().zip([200u8, 100, 50]).all(|(a, b)| a.abs_diff(b) <= 2), "{pixel:?}");
    }
}

#[test]
fn announced_sizes_beyond_the_limit_are_refused_before_memory_is_taken() {
    // The header of a PNG of 65,535 x 65,535 pixels, and of a JPEG likewise.
    let mut bytes = png(RgbImage::new(1, 1));
    bytes[16..24].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255]);
    let crc = crc32fast::hash(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("65535 x 65535 pixels are more than the limit"), "{error}");
    let mut bytes = jpeg(&RgbImage::new(1, 1));
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[255, 255, 255, 255]);
    let error = decode(&bytes).unwrap_err().to_string();
    assert!(error.contains("65535 x 65535 pixels are more than the limit"), "{error}");
}

/// A TIFF block with one entry: the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    tiff
}

#[test]
fn the_camera_orientation_is_applied_on_request() {
    // Dark above, bright below; orientation 6: turn by a quarter clockwise to see it.
    let picture = RgbImage::from_fn(8, 16, |_, y| Rgb([if y < 8 { 10 } else { 240 }; 3]));
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif(6)).unwrap();
    encoder.encode_image(&picture).unwrap();
    let stored = decode_rgb(&bytes, "test", Orientation::Ignore).unwrap();
    assert_eq!(stored.dimensions(), (8, 16));
    let seen = decode_rgb(&bytes, "test", Orientation::Apply).unwrap();
    assert_eq!(seen.dimensions(), (16, 8));
    assert!(seen.get_pixel(15, 4).0[0] < 40 && seen.get_pixel(0, 4).0[0] > 200);
}

#[test]
fn junk_between_the_segments_of_a_jpeg_is_stepped_over() {
    let mut bytes = jpeg(&RgbImage::from_pixel(8, 8, Rgb([200; 3])));
    let table = bytes.windows(2).position(|w| w == [0xff, 0xdb]).unwrap();
    bytes.splice(table..table, *b"a camera's note");
    assert!(decode(&bytes).unwrap().get_pixel(4, 4).0[0].abs_diff(200) <= 2);
}
