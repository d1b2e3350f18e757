//! Binary masks in COCO's three spellings (polygons, run lengths, compressed run lengths), equal bit for bit to pycocotools 2.0.
//!
//! Own port in safe code. What hostile files could make unbounded is bounded: see [`MAX_PIXELS`] and [`MAX_OUTLINE`].

mod bitmap;
mod polygon;
mod rle;

pub use bitmap::{BoundingBox, Mask};
pub use polygon::{MAX_OUTLINE, rasterize_polygon};
pub use rle::Rle;

use crate::{Counts, DataError, Segmentation};

/// Most pixels of an image or mask: Pillow's limit against decompression bombs (178,956,970).
pub const MAX_PIXELS: u64 = 178_956_970;

/// Checks that an image of `height` x `width` pixels is neither empty nor larger than [`MAX_PIXELS`].
///
/// # Errors
/// It is.
pub fn check_extent(height: u32, width: u32) -> Result<(), String> {
    if height == 0 || width == 0 {
        return Err(format!("a size of {width} x {height} pixels holds nothing"));
    }
    if u64::from(height) * u64::from(width) > MAX_PIXELS {
        return Err(format!(
            "{width} x {height} pixels are more than the limit of {MAX_PIXELS}; scale it down first"
        ));
    }
    Ok(())
}

impl Segmentation {
    /// The mask over an image of `height` x `width` pixels: the union of all polygons or run lengths.
    /// Polygons with fewer than 6 numbers are skipped, as gRefCOCO's loader does.
    ///
    /// # Errors
    /// Nothing is left to draw, an outline is absurdly long, or run lengths do not fit the image.
    pub fn to_rle(&self, height: u32, width: u32) -> Result<Rle, DataError> {
        check_extent(height, width).map_err(DataError::Mask)?;
        match self {
            Self::Polygons(polygons) => {
                let parts: Vec<Rle> = polygons
                    .iter()
                    .filter(|polygon| polygon.len() >= 6)
                    .map(|polygon| rasterize_polygon(polygon, height, width))
                    .collect::<Result<_, _>>()?;
                Rle::union(&parts).ok_or_else(|| {
                    DataError::Mask("segmentation holds no polygon of three points or more".into())
                })
            }
            Self::Rle { size, counts } => rle_of(*size, counts, height, width),
            Self::Rles(parts) => {
                let parts: Vec<Rle> = parts
                    .iter()
                    .map(|part| rle_of(part.size, &part.counts, height, width))
                    .collect::<Result<_, _>>()?;
                Rle::union(&parts)
                    .ok_or_else(|| DataError::Mask("segmentation is an empty list".into()))
            }
        }
    }
}

fn rle_of(size: [u32; 2], counts: &Counts, height: u32, width: u32) -> Result<Rle, DataError> {
    if size != [height, width] {
        return Err(DataError::Mask(format!(
            "run lengths are for {} x {} pixels but the image has {width} x {height}",
            size[1], size[0]
        )));
    }
    match counts {
        Counts::Plain(counts) => Rle::new(height, width, counts.clone()),
        Counts::Compressed(text) => Rle::from_compressed(height, width, text),
    }
}
