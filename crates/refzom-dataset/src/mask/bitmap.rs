//! A mask with one byte a pixel, row by row.

use super::{Rle, check_extent};
use crate::DataError;

/// A box in whole pixels, as COCO writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BoundingBox {
    /// Left column.
    pub x: u32,
    /// Upper row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A mask of `height` x `width` bytes, each 0 or 1, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    height: u32,
    width: u32,
    bits: Vec<u8>,
}

impl Mask {
    /// An empty mask.
    ///
    /// # Errors
    /// The extent is empty or larger than [`super::MAX_PIXELS`].
    pub fn zeros(height: u32, width: u32) -> Result<Self, DataError> {
        check_extent(height, width).map_err(DataError::Mask)?;
        Ok(Self::zeros_trusted(height, width))
    }

    pub(super) fn zeros_trusted(height: u32, width: u32) -> Self {
        Self { height, width, bits: vec![0; height as usize * width as usize] }
    }

    /// Takes `height * width` bytes, row-major; whatever is not 0 becomes 1.
    ///
    /// # Errors
    /// Their number is wrong, or the extent is empty or too large.
    pub fn from_bits(height: u32, width: u32, mut bits: Vec<u8>) -> Result<Self, DataError> {
        check_extent(height, width).map_err(DataError::Mask)?;
        if bits.len() != height as usize * width as usize {
            return Err(DataError::Mask(format!(
                "{} bytes do not fill {width} x {height} pixels",
                bits.len()
            )));
        }
        for bit in &mut bits {
            *bit = u8::from(*bit != 0);
        }
        Ok(Self { height, width, bits })
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// One byte a pixel, 0 or 1, row-major.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    pub(super) fn bits_mut(&mut self) -> &mut [u8] {
        &mut self.bits
    }

    /// Gives the bytes away.
    pub fn into_bits(self) -> Vec<u8> {
        self.bits
    }

    /// Whether the pixel of column `x` and row `y` is foreground; outside is not.
    pub fn get(&self, x: u32, y: u32) -> bool {
        x < self.width
            && y < self.height
            && self.bits[y as usize * self.width as usize + x as usize] == 1
    }

    /// Number of foreground pixels.
    pub fn area(&self) -> u64 {
        self.bits.iter().map(|&b| u64::from(b)).sum()
    }

    /// Smallest box around the foreground, `None` where there is none.
    pub fn bounding_box(&self) -> Option<BoundingBox> {
        let w = self.width as usize;
        let (mut left, mut right, mut rows) = (usize::MAX, 0, None::<(usize, usize)>);
        for (y, row) in self.bits.chunks_exact(w).enumerate() {
            if let Some(first) = row.iter().position(|&b| b == 1) {
                let last = row.iter().rposition(|&b| b == 1).unwrap_or(first);
                (left, right) = (left.min(first), right.max(last));
                rows = Some((rows.map_or(y, |r| r.0), y));
            }
        }
        rows.map(|(top, bottom)| BoundingBox {
            x: left as u32,
            y: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        })
    }

    /// Adds the foreground of `other`.
    ///
    /// # Errors
    /// The extents differ.
    pub fn union_with(&mut self, other: &Mask) -> Result<(), DataError> {
        if (self.height, self.width) != (other.height, other.width) {
            return Err(DataError::Mask(format!(
                "a mask of {} x {} cannot join one of {} x {}",
                other.width, other.height, self.width, self.height
            )));
        }
        for (a, b) in self.bits.iter_mut().zip(&other.bits) {
            *a |= b;
        }
        Ok(())
    }

    /// COCO run lengths.
    pub fn to_rle(&self) -> Rle {
        Rle::encode(self)
    }

    /// Nearest-neighbour resize, equal to Pillow's `NEAREST`: the source coordinate starts at half a
    /// step and is *accumulated* in double precision, which decides ties.
    ///
    /// # Errors
    /// The new extent is empty or too large.
    pub fn resize_nearest(&self, height: u32, width: u32) -> Result<Mask, DataError> {
        let mut out = Mask::zeros(height, width)?;
        if (height, width) == (self.height, self.width) {
            out.bits.copy_from_slice(&self.bits);
            return Ok(out);
        }
        let columns = nearest_sources(self.width, width);
        let rows = nearest_sources(self.height, height);
        let w = self.width as usize;
        for (row, &y) in out.bits.chunks_exact_mut(width as usize).zip(&rows) {
            let source = &self.bits[y * w..(y + 1) * w];
            for (bit, &x) in row.iter_mut().zip(&columns) {
                *bit = source[x];
            }
        }
        Ok(out)
    }
}

/// For every destination place, its source.
pub(super) fn nearest_sources(from: u32, to: u32) -> Vec<usize> {
    let step = f64::from(from) / f64::from(to);
    let mut at = step * 0.5;
    let mut sources = Vec::with_capacity(to as usize);
    for _ in 0..to {
        sources.push((at as usize).min(from as usize - 1));
        at += step;
    }
    sources
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nearest_keeps_single_pixels_and_constants() {
        let one = Mask::from_bits(1, 1, vec![255]).unwrap();
        assert_eq!(one.resize_nearest(3, 5).unwrap().area(), 15);
        let wide = Mask::from_bits(2, 4, vec![0, 1, 0, 0, 0, 0, 0, 1]).unwrap();
        assert_eq!(wide.resize_nearest(2, 2).unwrap().bits(), &[1, 0, 0, 1]);
        assert_eq!(wide.resize_nearest(2, 4).unwrap(), wide);
    }

    #[test]
    fn boxes_and_errors() {
        let mask = Mask::from_bits(2, 3, vec![0, 0, 1, 0, 1, 0]).unwrap();
        assert_eq!(mask.bounding_box(), Some(BoundingBox { x: 1, y: 0, width: 2, height: 2 }));
        assert!(mask.get(2, 0) && !mask.get(3, 0));
        assert_eq!(Mask::zeros(2, 2).unwrap().bounding_box(), None);
        assert!(Mask::zeros(0, 1).is_err());
        assert!(Mask::from_bits(2, 2, vec![0]).is_err());
        assert!(mask.clone().union_with(&Mask::zeros(3, 2).unwrap()).is_err());
    }
}
