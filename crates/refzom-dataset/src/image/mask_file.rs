//! Masks as PNG files, and the size of a picture without decoding it.

use std::io::BufReader;
use std::path::Path;

use image::{ImageFormat, ImageReader};

use super::decode::decode_png;
use crate::Mask;
use crate::mask::check_extent;

/// Width and height of a PNG or JPEG as stored, from its header.
pub(crate) fn dimensions(path: &Path) -> Result<(u32, u32), String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format();
    let reader = reader.map_err(|e| format!("{shown} cannot be read: {e}"))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(format!("{shown} is neither PNG nor JPEG; convert it first"));
    }
    let (width, height) =
        reader.into_dimensions().map_err(|e| format!("{shown} is damaged: {e}; fetch it again"))?;
    check_extent(height, width).map_err(|message| format!("{shown}: {message}"))?;
    Ok((width, height))
}

/// A PNG as a mask: whatever is not black is the target, transparency does not matter.
pub(crate) fn load_mask_png(path: &Path) -> Result<Mask, String> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ if path.is_dir() => "is a folder".to_owned(),
        _ => format!("cannot be read: {e}"),
    })?;
    if !bytes.starts_with(b"\x89PNG") {
        return Err("is no PNG; other formats blur the edge of a mask".into());
    }
    let picture = decode_png(&bytes)?;
    let (width, height) = (picture.width(), picture.height());
    // Sixteen bits hold object numbers, of which the small ones would be lost in eight.
    let bits = if picture.color().bytes_per_pixel() / picture.color().channel_count() > 1 {
        picture.to_rgb16().pixels().map(|pixel| u8::from(pixel.0 != [0; 3])).collect()
    } else {
        picture.to_rgb8().pixels().map(|pixel| u8::from(pixel.0 != [0; 3])).collect()
    };
    Mask::from_bits(height, width, bits).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::{DynamicImage, GrayImage, ImageBuffer, Luma, LumaA, RgbImage};

    #[test]
    fn whatever_is_not_black_is_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.png");
        let bits = |picture: DynamicImage| {
            picture.save(&path).unwrap();
            load_mask_png(&path).unwrap().into_bits()
        };
        let gray = GrayImage::from_raw(3, 1, vec![0, 1, 255]).unwrap();
        assert_eq!(bits(gray.into()), [0, 1, 1]);
        let ids = ImageBuffer::<Luma<u16>, _>::from_raw(3, 1, vec![0u16, 3, 700]).unwrap();
        assert_eq!(bits(ids.into()), [0, 1, 1]);
        let alpha = ImageBuffer::<LumaA<u8>, _>::from_raw(2, 1, vec![0u8, 255, 9, 0]).unwrap();
        assert_eq!(bits(alpha.into()), [0, 1]);
        let blue = RgbImage::from_raw(2, 1, vec![0, 0, 7, 0, 0, 0]).unwrap();
        assert_eq!(bits(blue.into()), [1, 0]);
        assert_eq!(dimensions(&path).unwrap(), (2, 1));
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jpg");
        RgbImage::new(4, 4).save(&path).unwrap();
        assert!(load_mask_png(&path).unwrap_err().contains("no PNG"));
        assert_eq!(load_mask_png(&dir.path().join("gone.png")).unwrap_err(), "does not exist");
        assert_eq!(load_mask_png(dir.path()).unwrap_err(), "is a folder");
        assert_eq!(dimensions(&path).unwrap(), (4, 4));
        std::fs::write(&path, "BM..").unwrap();
        assert!(dimensions(&path).unwrap_err().contains("neither PNG nor JPEG"));
        assert!(dimensions(&dir.path().join("gone")).unwrap_err().contains("gone"));
    }
}
