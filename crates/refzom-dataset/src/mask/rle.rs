//! Run lengths of a mask, column by column, beginning with zeros (pycocotools' `maskApi.c`: rleEncode, rleMerge, rleToBbox, rleToString).

use super::bitmap::nearest_sources;
use super::{BoundingBox, Mask, check_extent};
use crate::{Counts, DataError, Segmentation};

/// Run lengths over `height` x `width` pixels in column-major order; the first run is of zeros and may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rle {
    height: u32,
    width: u32,
    counts: Vec<u32>,
}

impl Rle {
    /// Takes run lengths over.
    ///
    /// # Errors
    /// They do not add up to `height * width`, or the extent is empty or too large.
    pub fn new(height: u32, width: u32, counts: Vec<u32>) -> Result<Self, DataError> {
        check_extent(height, width).map_err(DataError::Mask)?;
        let sum: u64 = counts.iter().map(|&c| u64::from(c)).sum();
        if sum != u64::from(height) * u64::from(width) {
            return Err(DataError::Mask(format!(
                "run lengths add up to {sum} but {width} x {height} pixels were announced"
            )));
        }
        Ok(Self { height, width, counts })
    }

    /// For counts whose sum is right by construction.
    pub(super) fn from_trusted(height: u32, width: u32, counts: Vec<u32>) -> Self {
        debug_assert_eq!(
            counts.iter().map(|&c| u64::from(c)).sum::<u64>(),
            u64::from(height) * u64::from(width)
        );
        Self { height, width, counts }
    }

    /// Reads pycocotools' compressed string.
    ///
    /// # Errors
    /// The string is damaged or does not fit the extent.
    pub fn from_compressed(height: u32, width: u32, text: &str) -> Result<Self, DataError> {
        let damaged =
            |at: usize| DataError::Mask(format!("compressed run lengths are damaged at byte {at}"));
        let mut counts: Vec<u32> = Vec::with_capacity(text.len() / 2);
        let (mut value, mut shift) = (0i64, 0u32);
        for (at, byte) in text.bytes().enumerate() {
            let c = i64::from(byte) - 48;
            if !(0..64).contains(&c) || shift > 30 {
                return Err(damaged(at));
            }
            value |= (c & 0x1f) << shift;
            shift += 5;
            if c & 0x20 != 0 {
                continue;
            }
            if c & 0x10 != 0 {
                value |= -1i64 << shift;
            }
            if counts.len() > 2 {
                value += i64::from(counts[counts.len() - 2]);
            }
            counts.push(u32::try_from(value).map_err(|_| damaged(at))?);
            (value, shift) = (0, 0);
        }
        if shift != 0 {
            return Err(damaged(text.len()));
        }
        Self::new(height, width, counts)
    }

    /// pycocotools' compressed string.
    pub fn to_compressed(&self) -> String {
        let mut text = String::with_capacity(self.counts.len() * 2);
        for (i, &count) in self.counts.iter().enumerate() {
            let mut x = i64::from(count);
            if i > 2 {
                x -= i64::from(self.counts[i - 2]);
            }
            loop {
                let mut c = (x & 0x1f) as u8;
                x >>= 5;
                let more = if c & 0x10 != 0 { x != -1 } else { x != 0 };
                if more {
                    c |= 0x20;
                }
                text.push(char::from(c + 48));
                if !more {
                    break;
                }
            }
        }
        text
    }

    /// COCO's json form, compressed.
    pub fn to_segmentation(&self) -> Segmentation {
        Segmentation::Rle {
            size: [self.height, self.width],
            counts: Counts::Compressed(self.to_compressed()),
        }
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The run lengths, zeros first.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Number of foreground pixels.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&c| u64::from(c)).sum()
    }

    /// Smallest box around the foreground, `None` where there is none.
    pub fn bounding_box(&self) -> Option<BoundingBox> {
        let h = self.height;
        let runs = self.counts.len() / 2 * 2;
        let (mut left, mut top, mut right, mut bottom) = (self.width, h, 0u32, 0u32);
        let (mut end, mut any, mut start_column) = (0u32, false, 0u32);
        for pair in self.counts[..runs].chunks_exact(2) {
            let first = end + pair[0];
            end = first + pair[1];
            if pair[1] == 0 {
                continue;
            }
            any = true;
            for (edge, t) in [(0, first), (1, end - 1)] {
                let (x, y) = (t / h, t % h);
                if edge == 0 {
                    start_column = x;
                } else if start_column < x {
                    (top, bottom) = (0, h - 1);
                }
                (left, right) = (left.min(x), right.max(x));
                (top, bottom) = (top.min(y), bottom.max(y));
            }
        }
        any.then(|| BoundingBox {
            x: left,
            y: top,
            width: right - left + 1,
            height: bottom - top + 1,
        })
    }

    /// The union of masks of one extent; `None` if there are none or their extents differ.
    pub fn union(parts: &[Rle]) -> Option<Rle> {
        let (first, rest) = parts.split_first()?;
        let mut merged = first.clone();
        for part in rest {
            if (part.height, part.width) != (first.height, first.width) {
                return None;
            }
            merged.counts = union_counts(&merged.counts, &part.counts);
        }
        Some(merged)
    }

    /// Encodes a mask.
    pub fn encode(mask: &Mask) -> Rle {
        let (h, w) = (mask.height() as usize, mask.width() as usize);
        let bits = mask.bits();
        let (mut counts, mut run, mut value) = (Vec::new(), 0u32, 0u8);
        for x in 0..w {
            for y in 0..h {
                let bit = bits[y * w + x];
                if bit != value {
                    counts.push(run);
                    (run, value) = (0, bit);
                }
                run += 1;
            }
        }
        counts.push(run);
        Self::from_trusted(mask.height(), mask.width(), counts)
    }

    /// Decodes to one byte a pixel.
    pub fn decode(&self) -> Mask {
        let mut mask = Mask::zeros_trusted(self.height, self.width);
        self.paint(&mut mask);
        mask
    }

    /// Sets the foreground pixels in `mask`, which has the same extent.
    pub(super) fn paint(&self, mask: &mut Mask) {
        let (h, w) = (self.height as usize, self.width as usize);
        let bits = mask.bits_mut();
        let mut at = 0usize;
        for (i, &count) in self.counts.iter().enumerate() {
            let end = at + count as usize;
            if i % 2 == 1 {
                let (mut x, mut y) = (at / h, at % h);
                for _ in at..end {
                    bits[y * w + x] = 1;
                    y += 1;
                    if y == h {
                        (x, y) = (x + 1, 0);
                    }
                }
            }
            at = end;
        }
    }

    /// Sets in `bits` (row-major, `height` x `width`) what [`Mask::resize_nearest`] would make of [`Self::decode`], without decoding.
    pub(crate) fn paint_resized(&self, bits: &mut [u8], (height, width): (usize, usize)) {
        let columns = first_destinations(self.width, width);
        let rows = first_destinations(self.height, height);
        let h = self.height as usize;
        let mut at = 0usize;
        for (i, &count) in self.counts.iter().enumerate() {
            let end = at + count as usize;
            // Runs of ones, one column after the other.
            while i % 2 == 1 && at < end {
                let (x, y) = (at / h, at % h);
                let stop = h.min(y + end - at);
                for to_x in columns[x]..columns[x + 1] {
                    for to_y in rows[y]..rows[stop] {
                        bits[to_y * width + to_x] = 1;
                    }
                }
                at += stop - y;
            }
            at = end;
        }
    }
}

/// For every source place and the end, the first destination that takes it or one behind it.
fn first_destinations(from: u32, to: usize) -> Vec<usize> {
    let mut first = Vec::with_capacity(from as usize + 1);
    for (place, source) in nearest_sources(from, to as u32).into_iter().enumerate() {
        first.resize(first.len().max(source + 1), place);
    }
    first.resize(from as usize + 1, to);
    first
}

/// rleMerge with "or": runs come out without empty ones in between.
fn union_counts(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut rest_a, mut rest_b) = (a.iter().copied(), b.iter().copied());
    let (mut ca, mut cb) = (rest_a.next().unwrap_or(0), rest_b.next().unwrap_or(0));
    let (mut va, mut vb, mut v, mut run) = (false, false, false, 0u32);
    loop {
        let c = ca.min(cb);
        run += c;
        let mut left = false;
        for (count, value, rest) in
            [(&mut ca, &mut va, &mut rest_a), (&mut cb, &mut vb, &mut rest_b)]
        {
            *count -= c;
            if *count == 0
                && let Some(next) = rest.next()
            {
                *count = next;
                *value = !*value;
            }
            left |= *count > 0;
        }
        let before = v;
        v = va || vb;
        if v != before || !left {
            out.push(run);
            run = 0;
        }
        if !left {
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn mask_strategy() -> impl Strategy<Value = Mask> {
        (1u32..12, 1u32..12).prop_flat_map(|(h, w)| {
            proptest::collection::vec(0u8..2, (h * w) as usize)
                .prop_map(move |bits| Mask::from_bits(h, w, bits).unwrap())
        })
    }

    proptest! {
        #[test]
        fn encode_then_decode_is_identity(mask in mask_strategy()) {
            let rle = Rle::encode(&mask);
            prop_assert_eq!(&rle.decode(), &mask);
            let again = Rle::from_compressed(mask.height(), mask.width(), &rle.to_compressed()).unwrap();
            prop_assert_eq!(&again, &rle);
            prop_assert_eq!(rle.area(), mask.area());
            prop_assert_eq!(rle.bounding_box(), mask.bounding_box());
        }

        #[test]
        fn union_is_or(a in mask_strategy(), seed in any::<u64>()) {
            let bits = (0..a.bits().len()).map(|i| ((seed >> (i % 64)) & 1) as u8).collect();
            let b = Mask::from_bits(a.height(), a.width(), bits).unwrap();
            let merged = Rle::union(&[Rle::encode(&a), Rle::encode(&b)]).unwrap();
            let mut both = a.clone();
            both.union_with(&b).unwrap();
            prop_assert_eq!(merged.decode(), both.clone());
            prop_assert_eq!(merged, Rle::encode(&both));
        }

        #[test]
        fn resizing_runs_is_resizing_pixels(mask in mask_strategy(), h in 1u32..30, w in 1u32..30) {
            let mut bits = vec![0; (h * w) as usize];
            mask.to_rle().paint_resized(&mut bits, (h as usize, w as usize));
            prop_assert_eq!(mask.resize_nearest(h, w).unwrap().into_bits(), bits);
        }

        #[test]
        fn no_string_panics(text in "[0-z]{0,40}", h in 1u32..9, w in 1u32..9) {
            let _ = Rle::from_compressed(h, w, &text);
        }
    }

    #[test]
    fn wrong_sums_and_strings_are_errors() {
        assert!(Rle::new(2, 2, vec![1, 2]).is_err());
        assert!(Rle::new(2, 2, vec![u32::MAX, u32::MAX, 6]).is_err());
        assert!(Rle::new(0, 2, vec![]).is_err());
        assert!(Rle::new(100_000, 100_000, vec![0]).is_err());
        assert!(Rle::from_compressed(2, 2, "\u{e9}").is_err());
        assert!(Rle::from_compressed(2, 2, "oooooooooooooo").is_err());
        assert!(Rle::from_compressed(2, 2, "P").is_err());
    }

    #[test]
    fn box_of_nothing_is_none() {
        assert_eq!(Rle::new(3, 3, vec![9]).unwrap().bounding_box(), None);
        assert_eq!(Rle::new(3, 3, vec![4, 0, 5]).unwrap().bounding_box(), None);
    }
}
