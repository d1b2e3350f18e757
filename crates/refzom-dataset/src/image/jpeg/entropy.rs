//! The coded data: stuffing taken out, then bits to coefficients.

use super::frame::{Component, Frame, ZIGZAG};
use super::huffman::{AcTable, DcTable, END_OF_BLOCK, LOOK};

/// Bytes within which a block is read: 64 codes of 27 bits and 16 bytes ahead are 232, which a byte counts, and 8 are read from there.
const WINDOW: usize = (64 * 27 / 8 + 16usize).next_power_of_two() + 7;

/// Bytes behind the last one: a block may begin there, and 8 bytes are read ahead.
const PADDING: usize = WINDOW + 8;

/// Coded data without stuffed zeros, and where the parts between restarts end.
#[derive(Default)]
pub(super) struct Unstuffed {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Unstuffed {
    /// Takes the data from `start` to the marker that ends them, and tells its place.
    pub(super) fn read(&mut self, bytes: &[u8], start: usize) -> Option<usize> {
        self.data.clear();
        self.ends.clear();
        let mut rest = bytes.get(start..)?;
        self.data.reserve(rest.len() + PADDING);
        let end = loop {
            let (run, tail) = rest.split_at(find_ff(rest)?);
            self.data.extend_from_slice(run);
            match *tail.get(1)? {
                0x00 => self.data.push(0xff),
                marker @ 0xd0..=0xd7 if usize::from(marker & 7) == self.ends.len() % 8 => {
                    self.ends.push(self.data.len());
                }
                0xd0..=0xd7 | 0xff => return None,
                _ => break bytes.len() - tail.len(),
            }
            rest = &tail[2..];
        };
        self.ends.push(self.data.len());
        self.data.resize(self.data.len() + PADDING, 0xff);
        Some(end)
    }

    /// Bits of coded data.
    pub(super) fn bits(&self) -> usize {
        (self.data.len() - PADDING) * 8
    }

    /// Memory held.
    pub(super) fn bytes(&self) -> usize {
        self.data.capacity() + self.ends.capacity() * 8
    }
}

/// Place of the first byte of ones.
fn find_ff(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    for chunk in bytes.as_chunks::<32>().0 {
        if chunk.iter().fold(false, |found, &byte| found | (byte == 0xff)) {
            break;
        }
        from += 32;
    }
    bytes[from..].iter().position(|&byte| byte == 0xff).map(|place| from + place)
}

/// Places of coefficients for every count that a damaged block may reach.
const PLACES: [u8; 128] = {
    let mut places = [63; 128];
    let mut i = 0;
    while i < 64 {
        places[i] = ZIGZAG[i];
        i += 1;
    }
    places
};

#[inline(always)]
fn place(k: usize) -> usize {
    usize::from(PLACES[k & 127] & 63)
}

/// Look-ups between two refills.
const LOOK_UPS: u32 = 5;

/// Reads block after block.
pub(super) struct BlockReader<'a> {
    data: &'a [u8],
    ends: &'a [usize],
    dc_tables: &'a [Option<DcTable>; 4],
    ac_tables: &'a [Option<AcTable>; 4],
    restart_interval: usize,
    /// Units until the next restart.
    left: usize,
    part: usize,
    predicted: [i32; 3],
    bits: Bits,
}

/// The next bits, the first one uppermost.
#[derive(Clone, Copy)]
struct Bits {
    head: u64,
    /// How many bits of `head` count.
    count: u32,
    /// Next byte to take in.
    at: usize,
}

impl Bits {
    fn from(at: usize) -> Self {
        Self { head: 0, count: 0, at }
    }

    /// 56 bits at least; `at` is a place in the window of a block.
    #[inline(always)]
    fn refill(&mut self, window: &[u8; WINDOW]) {
        let at = usize::from(self.at as u8);
        let next = window[at..at + 8].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.head |= next >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    #[inline(always)]
    fn skip(&mut self, n: u32) {
        self.head <<= n;
        self.count -= n;
    }

    fn skipped(mut self, n: u32) -> Self {
        self.skip(n);
        self
    }

    /// Bits used since the first byte.
    fn position(&self) -> usize {
        self.at * 8 - self.count as usize
    }
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(frame: &'a Frame, coded: &'a Unstuffed) -> Self {
        Self {
            data: &coded.data,
            ends: &coded.ends,
            dc_tables: &frame.dc_tables,
            ac_tables: &frame.ac_tables,
            restart_interval: frame.restart_interval,
            left: if frame.restart_interval == 0 { usize::MAX } else { frame.restart_interval },
            part: 0,
            predicted: [0; 3],
            bits: Bits::from(0),
        }
    }

    /// To be called before every unit.
    #[inline(always)]
    pub(super) fn start_mcu(&mut self) -> Option<()> {
        if self.left == 0 {
            self.finish_part()?;
            self.bits = Bits::from(self.ends[self.part]);
            self.part += 1;
            self.predicted = [0; 3];
            self.left = self.restart_interval;
            if self.part == self.ends.len() {
                return None;
            }
        }
        self.left -= 1;
        Some(())
    }

    /// Whether the part was used up: no bit too many, and no byte left over.
    fn finish_part(&self) -> Option<()> {
        let (used, held) = (self.bits.position(), self.ends[self.part] * 8);
        (used <= held && held - used < 8).then_some(())
    }

    /// To be called behind the last block.
    pub(super) fn finish(&self) -> Option<()> {
        (self.part + 1 == self.ends.len()).then_some(())?;
        self.finish_part()
    }

    /// Reads a block of component `c` into `coefficients`, which are all 0 before.
    #[inline(always)]
    pub(super) fn block(
        &mut self,
        c: usize,
        component: &Component,
        coefficients: &mut [i16; 64],
    ) -> Option<()> {
        let (dc, ac) =
            (self.dc_tables[component.dc].as_ref()?, self.ac_tables[component.ac].as_ref()?);
        let start = self.bits.at;
        let data: &[u8; WINDOW] = self.data.get(start..)?.first_chunk()?;
        let mut bits = Bits { at: 0, ..self.bits };
        bits.refill(data);
        let (difference, length) = dc.read(bits.head)?;
        bits.skip(length);
        self.predicted[c] = self.predicted[c].wrapping_add(difference);
        coefficients[0] = self.predicted[c] as i16;
        let mut k = 1usize;
        loop {
            bits.refill(data);
            const { assert!(LOOK_UPS * LOOK <= 56) };
            for _ in 0..LOOK_UPS {
                let before = bits;
                let step = match ac.steps(bits.head) {
                    Some(step) => {
                        bits.skip(step.bits());
                        step
                    }
                    None => {
                        bits.refill(data);
                        let step = ac.read(bits.head)?;
                        bits.skip(step.bits());
                        bits.refill(data);
                        step
                    }
                };
                // The second one first: behind the last place, both are written there.
                let ((zeros, value), (between, next)) = (step.first(), step.second());
                coefficients[place(k + between)] = next;
                coefficients[place(k + zeros)] = value;
                k += step.advance();
                if k >= 64 {
                    let last = k - step.advance() + zeros;
                    self.bits = match step.bits_of_first() {
                        // The second one belongs to the next block.
                        Some(length) if last == 63 => {
                            k = 64;
                            before.skipped(length)
                        }
                        _ => bits,
                    };
                    self.bits.at += start;
                    return (last < 64 && (k == 64 || k >= END_OF_BLOCK)).then_some(());
                }
            }
        }
    }
}
