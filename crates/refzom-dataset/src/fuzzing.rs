//! What the fuzz targets and the corpus test run: each takes any bytes, must not panic, and checks what must hold of what was read.
//!
//! Not part of the crate's interface.

use crate::image::check_jpeg_forms;
use crate::refer::{parse_jsonl, records_from_bytes};
use crate::{Instances, Orientation, Rle, decode_rgb, rasterize_polygon};

/// A refs file: what is read can be written as json and read back.
pub fn pickle(bytes: &[u8]) {
    if let Ok(records) = records_from_bytes(bytes) {
        let json = serde_json::to_vec(&records).expect("records have a json form");
        assert_eq!(records_from_bytes(&json).expect("what was written reads"), records);
    }
}

/// The json readers; outlines of what is read are drawn.
pub fn json(bytes: &[u8]) {
    pickle(bytes);
    drop(parse_jsonl(bytes));
    if let Ok(instances) = serde_json::from_slice::<Instances>(bytes) {
        for annotation in instances.annotations {
            let drawn = annotation.segmentation.to_rle(20, 30);
            let sum = |rle: Rle| rle.counts().iter().map(|&c| u64::from(c)).sum::<u64>();
            assert!(drawn.map_or(600, sum) == 600, "runs fill the image");
        }
    }
}

/// A picture file, JPEG or PNG; what is read is whole.
pub fn picture(bytes: &[u8]) {
    check_jpeg_forms(bytes);
    if let Ok(picture) = decode_rgb(bytes, "fuzz", Orientation::Apply) {
        let pixels = u64::from(picture.width()) * u64::from(picture.height());
        assert_eq!(picture.as_raw().len() as u64, 3 * pixels);
    }
}

/// Run lengths (two bytes of extent, then a compressed string) and, from the same bytes, a polygon.
pub fn rle(bytes: &[u8]) {
    let [h, w, rest @ ..] = bytes else { return };
    let (h, w) = (u32::from(*h), u32::from(*w));
    if let Ok(rle) = Rle::from_compressed(h, w, &String::from_utf8_lossy(rest)) {
        let again = Rle::from_compressed(h, w, &rle.to_compressed());
        assert_eq!(again.expect("what was written reads"), rle);
        let mask = rle.decode();
        assert_eq!((mask.area(), mask.bounding_box()), (rle.area(), rle.bounding_box()));
        assert_eq!(Rle::encode(&mask).decode(), mask);
    }
    let points: Vec<f64> = rest.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    if let Ok(rle) = rasterize_polygon(&points, h, w) {
        assert_eq!(rle.counts().iter().map(|&c| u64::from(c)).sum::<u64>(), u64::from(h * w));
    }
}
