//! The JPEGs that cameras and data sets are made of (ITU T.81: baseline, Huffman, 8 bits), equal to libjpeg-turbo byte for byte:
//! its `islow` inverse DCT, its "fancy" upsampling and its integer colour conversion, which is what Pillow and torchvision decode with.
//!
//! Whatever is unusual (progressive, CMYK, odd samplings, any fault) is left to the general decoder, which also
//! finds the words for what is wrong. So this one may give up anywhere, and nothing it accepts needs a second opinion.

mod color;
mod entropy;
mod frame;
mod huffman;
mod idct;
mod upsample;

use std::cell::RefCell;

use entropy::{BlockReader, Unstuffed};
use frame::{Frame, Sampling};
use idct::inverse_dct;
use upsample::Planes;

/// Scratch memory above this is given back after a picture.
const KEPT_BYTES: usize = 32 << 20;

/// Blocks of a unit of the scan, at most: 4:2:0.
const MOST_BLOCKS: usize = 6;

/// A decoded picture.
pub(super) struct Decoded {
    pub(super) width: u32,
    pub(super) height: u32,
    /// `(height, width, 3)`.
    pub(super) rgb: Vec<u8>,
    /// Where in the file the EXIF block (without its title) lies.
    pub(super) exif: Option<std::ops::Range<usize>>,
}

#[derive(Default)]
struct Scratch {
    coded: Unstuffed,
    planes: Planes,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Decodes a file if it is of the usual kind and without fault. `fits` says whether a height and width may be decoded.
pub(super) fn decode(bytes: &[u8], fits: impl Fn(u32, u32) -> bool) -> Option<Decoded> {
    decode_with(bytes, fits, is_wide())
}

/// `wide`: with what [`is_wide`] asks for.
fn decode_with(bytes: &[u8], fits: impl Fn(u32, u32) -> bool, wide: bool) -> Option<Decoded> {
    let mut frame = Frame::parse(bytes)?;
    if !fits(frame.height as u32, frame.width as u32) {
        return None;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let rgb = scratch.decode(bytes, &mut frame, wide);
        if scratch.coded.bytes() + scratch.planes.bytes() > KEPT_BYTES {
            *scratch = Scratch::default();
        }
        let (width, height) = (frame.width as u32, frame.height as u32);
        Some(Decoded { width, height, rgb: rgb?, exif: frame.exif })
    })
}

/// Whether the processor has what [`Scratch::rows_wide`] is compiled for.
fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// What the fuzz target runs: registers and plain numbers make the same of any bytes.
pub(crate) fn check_forms(bytes: &[u8]) {
    let few = |height, width| u64::from(height) * u64::from(width) <= 1 << 20;
    let forms = [is_wide(), false].map(|wide| decode_with(bytes, few, wide));
    let [quick, plain] = forms.map(|decoded| decoded.map(|d| (d.width, d.height, d.rgb)));
    assert!(quick == plain, "registers and plain numbers differ");
}

impl Scratch {
    fn decode(&mut self, bytes: &[u8], frame: &mut Frame, wide: bool) -> Option<Vec<u8>> {
        let end = self.read_coded(bytes, frame)?;
        let last = bytes.get(end + 1) == Some(&0xd9);
        if last != frame.is_whole() {
            return None;
        }
        self.planes.start(frame);
        if !last {
            return self.scans(bytes, frame, end, wide);
        }
        let mut rgb = Vec::with_capacity(frame.width * frame.height * 3);
        #[cfg(target_arch = "x86_64")]
        if wide {
            // SAFETY: the caller has asked the processor.
            unsafe { self.rows_wide(frame, &mut rgb)? };
            return Some(rgb);
        }
        let _ = wide;
        self.rows(frame, false, &mut rgb)?;
        Some(rgb)
    }

    /// Takes the coded data of the scan; tells where they end.
    fn read_coded(&mut self, bytes: &[u8], frame: &Frame) -> Option<usize> {
        let end = self.coded.read(bytes, frame.scan_start)?;
        // No block takes less than two bits: what is too short is known before memory is taken.
        let (across, down, blocks) = frame.units();
        (self.coded.bits() >= across * down * blocks * 2).then_some(end)
    }

    /// Scan after scan of some of the components, the first one's data taken already and ending at `end`; the pixels last.
    fn scans(
        &mut self,
        bytes: &[u8],
        frame: &mut Frame,
        mut end: usize,
        wide: bool,
    ) -> Option<Vec<u8>> {
        loop {
            self.scan(frame, wide)?;
            if !frame.read_scan(bytes, end)? {
                break;
            }
            end = self.read_coded(bytes, frame)?;
        }
        if !frame.is_complete() {
            return None;
        }
        let mut rgb = Vec::with_capacity(frame.width * frame.height * 3);
        self.planes.convert_up_to(frame, frame.height, wide, &mut rgb);
        Some(rgb)
    }

    /// The samples of one scan.
    fn scan(&mut self, frame: &Frame, wide: bool) -> Option<()> {
        let mut reader = BlockReader::new(frame, &self.coded);
        let (across, down, _) = frame.units();
        for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column)))
        {
            reader.start_mcu()?;
            for &c in &frame.scan {
                let component = &frame.components[c];
                let (h, v) = if frame.scan.len() == 1 { (1, 1) } else { frame.blocks_of(c) };
                for i in 0..h * v {
                    let mut block = [0; 64];
                    reader.block(c, component, &mut block)?;
                    let steps = &component.quantization;
                    let [samples, _] = inverse_dct([&block; 2], [steps; 2], wide);
                    self.planes.put(c, column * h + i % h, row * v + i / h, &samples);
                }
            }
        }
        reader.finish()
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    fn rows_wide(&mut self, frame: &Frame, rgb: &mut Vec<u8>) -> Option<()> {
        self.rows(frame, true, rgb)
    }

    /// `wide`: there is AVX2. Row of blocks by row of blocks, the pixels as soon as all their samples are there.
    #[inline(always)]
    fn rows(&mut self, frame: &Frame, wide: bool, rgb: &mut Vec<u8>) -> Option<()> {
        let mut reader = BlockReader::new(frame, &self.coded);
        // Coefficients of two units: the transform of a block that was written just now would wait for the writes, and it
        // takes blocks by twos.
        let mut blocks = [[0i16; 64]; 2 * MOST_BLOCKS];
        let mut places = [(0, 0, 0); 2 * MOST_BLOCKS];
        let (h, v) = frame.sampling.luma_blocks();
        let steps = |c: usize| &frame.components[c].quantization;
        let (down, across) = (frame.mcus_down(), frame.mcus_across());
        for mcu_row in 0..down {
            for mcu in (0..across).step_by(2) {
                let mut count = 0;
                for mcu in mcu..(mcu + 2).min(across) {
                    reader.start_mcu()?;
                    for i in 0..frame.blocks_per_mcu() {
                        let c = (i + 1).saturating_sub(h * v);
                        reader.block(c, &frame.components[c], &mut blocks[count])?;
                        let (x, y) = if c == 0 {
                            (mcu * h + i % h, mcu_row * v + i / h)
                        } else {
                            (mcu, mcu_row)
                        };
                        places[count] = (c, x, y);
                        count += 1;
                    }
                }
                // The partner of the last one may be empty.
                let pairs = blocks.as_chunks_mut::<2>().0.iter_mut().zip(places.as_chunks::<2>().0);
                for (i, (pair, &[first, second])) in pairs.take(count.div_ceil(2)).enumerate() {
                    let [a, b] =
                        inverse_dct([&pair[0], &pair[1]], [steps(first.0), steps(second.0)], wide);
                    self.planes.put(first.0, first.1, first.2, &a);
                    if 2 * i + 1 < count {
                        self.planes.put(second.0, second.1, second.2, &b);
                    }
                    *pair = [[0; 64]; 2];
                }
            }
            let ready = if mcu_row + 1 == down {
                frame.height
            } else {
                match frame.sampling {
                    Sampling::Gray | Sampling::Full | Sampling::Halved => (mcu_row + 1) * 8,
                    // The last row of colours waits for the one below it.
                    Sampling::Quartered => ((mcu_row + 1) * 8 - 1) * 2,
                }
            };
            self.planes.convert_up_to(frame, ready, wide, rgb);
        }
        reader.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn registers_and_plain_numbers_agree_on_files() {
        let repo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in ["tests/golden/g6/jpeg", "data/coco33/images"] {
            for entry in std::fs::read_dir(repo.join(folder)).unwrap() {
                check_forms(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }
}
