//! Planes of samples to rows of pixels: libjpeg's "fancy" (triangle) upsampling of `jdsample.c`.

use super::color;
use super::frame::{Frame, Sampling};

/// Y, Cb, Cr in whole blocks.
#[derive(Default)]
pub(super) struct Planes {
    samples: [Vec<u8>; 3],
    strides: [usize; 3],
    /// Rows of pixels made.
    done: usize,
    /// A row of Cb and one of Cr at full width.
    rows: [Vec<u8>; 2],
    /// A near and a far row of colours, 3 + 1 parts.
    sums: Vec<u16>,
}

impl Planes {
    /// Makes room for a picture.
    pub(super) fn start(&mut self, frame: &Frame) {
        let (across, down) = (frame.mcus_across(), frame.mcus_down());
        for c in 0..frame.components.len() {
            let (h, v) = frame.blocks_of(c);
            self.strides[c] = across * h * 8;
            // What a former picture left is overwritten block by block.
            self.samples[c].resize(self.strides[c] * down * v * 8, 0);
        }
        for row in &mut self.rows {
            row.resize(across * frame.sampling.luma_blocks().0 * 8, 0);
        }
        self.sums.resize(across * 8, 0);
        self.done = 0;
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        self.samples.iter().map(Vec::capacity).sum()
    }

    /// Takes block `x`, `y` of component `c`.
    #[inline(always)]
    pub(super) fn put(&mut self, c: usize, x: usize, y: usize, block: &[u8; 64]) {
        let stride = self.strides[c];
        // One look whether all is inside, not one a row.
        let out = &mut self.samples[c][y * 8 * stride + x * 8..][..7 * stride + 8];
        for (i, row) in block.as_chunks::<8>().0.iter().enumerate() {
            out[i * stride..i * stride + 8].copy_from_slice(row);
        }
    }

    /// Appends the rows of pixels below `end` that are not made yet.
    #[inline(always)]
    pub(super) fn convert_up_to(
        &mut self,
        frame: &Frame,
        end: usize,
        wide: bool,
        rgb: &mut Vec<u8>,
    ) {
        let width = frame.width;
        for y in self.done..end.min(frame.height) {
            let luma = &self.samples[0][y * self.strides[0]..][..width];
            if frame.sampling == Sampling::Gray {
                rgb.extend(luma.iter().flat_map(|&y| [y; 3]));
                continue;
            }
            let stride = self.strides[1];
            match frame.sampling {
                Sampling::Gray | Sampling::Full => {
                    let chroma = |c: usize| &self.samples[c][y * stride..][..width];
                    color::append(luma, chroma(1), chroma(2), wide, rgb);
                    continue;
                }
                Sampling::Halved => {
                    let there = width.div_ceil(2);
                    for (c, row) in self.rows.iter_mut().enumerate() {
                        let from = &self.samples[c + 1][y * stride..][..there];
                        widen(from, row);
                    }
                }
                Sampling::Quartered => {
                    let (there, rows) = (width.div_ceil(2), frame.height.div_ceil(2));
                    let near = y / 2;
                    let far =
                        if y % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(rows - 1) };
                    for (c, row) in self.rows.iter_mut().enumerate() {
                        let line = |y: usize| &self.samples[c + 1][y * stride..][..there];
                        if there > 2 {
                            for ((sum, &a), &b) in
                                self.sums.iter_mut().zip(line(near)).zip(line(far))
                            {
                                *sum = u16::from(a) * 3 + u16::from(b);
                            }
                            widen_sums(&self.sums[..there], row);
                        } else {
                            repeat(line(near), row);
                        }
                    }
                }
            }
            color::append(luma, &self.rows[0][..width], &self.rows[1][..width], wide, rgb);
        }
        self.done = end;
    }
}

/// Every sample twice: what libjpeg does with rows too short for a neighbour on each side.
fn repeat(from: &[u8], to: &mut [u8]) {
    for (&sample, pair) in from.iter().zip(to.as_chunks_mut::<2>().0) {
        *pair = [sample; 2];
    }
}

/// Three quarters of the near sample, a quarter of the far one; rounded down on the left, up on the right.
#[inline(always)]
fn widen(from: &[u8], to: &mut [u8]) {
    let n = from.len();
    if n <= 2 {
        return repeat(from, to);
    }
    let pairs = &mut to.as_chunks_mut::<2>().0[..n];
    let wide = |i: usize| u16::from(from[i]);
    pairs[0] = [from[0], ((wide(0) * 3 + wide(1) + 2) >> 2) as u8];
    let last = ((wide(n - 1) * 3 + wide(n - 2) + 1) >> 2) as u8;
    pairs[n - 1] = [last, from[n - 1]];
    let neighbours = from[..n - 2].iter().zip(&from[1..n - 1]).zip(&from[2..]);
    for (pair, ((&left, &here), &right)) in pairs[1..n - 1].iter_mut().zip(neighbours) {
        let here = u16::from(here) * 3;
        *pair =
            [((here + u16::from(left) + 1) >> 2) as u8, ((here + u16::from(right) + 2) >> 2) as u8];
    }
}

/// The same of sums of a near and a far row (3 + 1 parts of each sample).
#[inline(always)]
fn widen_sums(from: &[u16], to: &mut [u8]) {
    let n = from.len();
    let pairs = &mut to.as_chunks_mut::<2>().0[..n];
    pairs[0] = [((from[0] * 4 + 8) >> 4) as u8, ((from[0] * 3 + from[1] + 7) >> 4) as u8];
    let last = ((from[n - 1] * 3 + from[n - 2] + 8) >> 4) as u8;
    pairs[n - 1] = [last, ((from[n - 1] * 4 + 7) >> 4) as u8];
    let neighbours = from[..n - 2].iter().zip(&from[1..n - 1]).zip(&from[2..]);
    for (pair, ((&left, &here), &right)) in pairs[1..n - 1].iter_mut().zip(neighbours) {
        *pair = [((here * 3 + left + 8) >> 4) as u8, ((here * 3 + right + 7) >> 4) as u8];
    }
}
