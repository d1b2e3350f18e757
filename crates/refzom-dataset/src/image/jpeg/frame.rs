//! The segments before the coded data: sizes, samplings and tables.

use super::huffman::{AcTable, DcTable};

/// Which share of the colour samples is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sampling {
    /// There is no colour.
    #[default]
    Gray,
    /// 4:4:4.
    Full,
    /// 4:2:2, every other column.
    Halved,
    /// 4:2:0, every other column and row.
    Quartered,
}

impl Sampling {
    /// Blocks of brightness a unit of the scan: across, down.
    pub(super) fn luma_blocks(self) -> (usize, usize) {
        match self {
            Self::Gray | Self::Full => (1, 1),
            Self::Halved => (2, 1),
            Self::Quartered => (2, 2),
        }
    }
}

/// One of Y, Cb, Cr.
#[derive(Clone)]
pub(super) struct Component {
    pub(super) dc: usize,
    pub(super) ac: usize,
    /// Steps of quantisation in natural order.
    pub(super) quantization: [i16; 64],
    /// Whether its scan has begun.
    begun: bool,
}

/// All that is known before the coded data of a scan begin.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) sampling: Sampling,
    pub(super) components: Vec<Component>,
    pub(super) dc_tables: [Option<DcTable>; 4],
    pub(super) ac_tables: [Option<AcTable>; 4],
    /// Units between two restarts; 0: there are none.
    pub(super) restart_interval: usize,
    /// Components of the scan.
    pub(super) scan: Vec<usize>,
    /// First byte of the coded data.
    pub(super) scan_start: usize,
    pub(super) exif: Option<std::ops::Range<usize>>,
    announced: Vec<Announced>,
    quantizations: [Option<[i16; 64]>; 4],
    jfif: bool,
    adobe: Option<u8>,
}

/// Natural place of the `i`-th coefficient of a block.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Identifier, samplings across and down, quantisation table of a component.
type Announced = (u8, u8, u8, usize);

impl Frame {
    /// Up to the first scan. `None`: not a kind of JPEG that this decoder reads.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut frame = Self::default();
        frame.read_scan(bytes, 2)?.then_some(())?;
        frame.sampling = sampling(&frame.announced, frame.jfif, frame.adobe)?;
        Some(frame)
    }

    /// Reads the segments from `at` to the next scan; `false` if the picture ends there instead.
    pub(super) fn read_scan(&mut self, bytes: &[u8], mut at: usize) -> Option<bool> {
        loop {
            if bytes.get(at..at + 2)? == [0xff, 0xd9] {
                return Some(false);
            }
            let head = bytes.get(at..at + 4)?;
            let (marker, length) = (head[1], usize::from(u16::from_be_bytes([head[2], head[3]])));
            if head[0] != 0xff || length < 2 {
                return None;
            }
            let from = at + 4;
            at += 2 + length;
            let body = bytes.get(from..at)?;
            match marker {
                0xe0 => self.jfif |= body.starts_with(b"JFIF\0"),
                0xe1 if self.exif.is_none() && body.starts_with(b"Exif\0\0") => {
                    self.exif = Some(from + 6..at)
                }
                0xee if body.starts_with(b"Adobe") => self.adobe = Some(*body.get(11)?),
                0xe1..=0xef | 0xfe => {}
                0xdb => read_quantization(body, &mut self.quantizations)?,
                0xc4 => read_huffman(body, &mut self.dc_tables, &mut self.ac_tables)?,
                0xdd => self.restart_interval = u16::from_be_bytes(body.try_into().ok()?).into(),
                0xc0 if self.announced.is_empty() => {
                    let ([8, h1, h0, w1, w0, count], rest) = body.split_first_chunk::<6>()? else {
                        return None;
                    };
                    self.height = u16::from_be_bytes([*h1, *h0]).into();
                    self.width = u16::from_be_bytes([*w1, *w0]).into();
                    let (parts, []) = rest.as_chunks::<3>() else { return None };
                    if parts.len() != usize::from(*count) {
                        return None;
                    }
                    let part = |p: &[u8; 3]| (p[0], p[1] >> 4, p[1] & 15, usize::from(p[2]));
                    self.announced = parts.iter().map(part).collect();
                    let unknown = Component { dc: 0, ac: 0, quantization: [0; 64], begun: false };
                    self.components = vec![unknown; parts.len()];
                }
                0xda if self.height > 0 && self.width > 0 => {
                    self.begin_scan(body)?;
                    self.scan_start = at;
                    return Some(true);
                }
                _ => return None,
            }
        }
    }

    /// Takes a scan of all coefficients of components that had none yet.
    fn begin_scan(&mut self, body: &[u8]) -> Option<()> {
        let (&count, rest) = body.split_first()?;
        let (parts, [0, 63, 0]) = rest.split_at_checked(2 * usize::from(count))? else {
            return None;
        };
        self.scan.clear();
        for &[id, tables] in parts.as_chunks::<2>().0 {
            // Components come in the order in which they were announced.
            let from = self.scan.last().map_or(0, |&last| last + 1);
            let c = from + self.announced[from..].iter().position(|&(named, ..)| named == id)?;
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            self.dc_tables.get(dc)?.as_ref()?;
            self.ac_tables.get(ac)?.as_ref()?;
            let quantization = (*self.quantizations.get(self.announced[c].3)?)?;
            if self.components[c].begun {
                return None;
            }
            self.components[c] = Component { dc, ac, quantization, begun: true };
            self.scan.push(c);
        }
        (!self.scan.is_empty()).then_some(())
    }

    /// Whether the scan holds all components.
    pub(super) fn is_whole(&self) -> bool {
        self.scan.len() == self.components.len()
    }

    /// Whether every component had its scan.
    pub(super) fn is_complete(&self) -> bool {
        self.components.iter().all(|c| c.begun)
    }

    /// Blocks of component `c` a unit of a scan of several: across, down.
    pub(super) fn blocks_of(&self, c: usize) -> (usize, usize) {
        if c == 0 { self.sampling.luma_blocks() } else { (1, 1) }
    }

    /// Units of the scan, across and down, and the blocks in one of them. The units of a single component are the blocks that
    /// hold its samples; rows of them are not filled up.
    pub(super) fn units(&self) -> (usize, usize, usize) {
        let [c] = self.scan[..] else {
            let blocks = self.scan.iter().map(|&c| self.blocks_of(c)).map(|(h, v)| h * v).sum();
            return (self.mcus_across(), self.mcus_down(), blocks);
        };
        let ((most_h, most_v), (h, v)) = (self.sampling.luma_blocks(), self.blocks_of(c));
        ((self.width * h).div_ceil(most_h * 8), (self.height * v).div_ceil(most_v * 8), 1)
    }

    /// Units of the scan a row.
    pub(super) fn mcus_across(&self) -> usize {
        self.width.div_ceil(8 * self.sampling.luma_blocks().0)
    }

    /// Rows of units.
    pub(super) fn mcus_down(&self) -> usize {
        self.height.div_ceil(8 * self.sampling.luma_blocks().1)
    }

    /// Blocks a unit.
    pub(super) fn blocks_per_mcu(&self) -> usize {
        let (h, v) = self.sampling.luma_blocks();
        h * v + self.components.len() - 1
    }
}

/// libjpeg's guess of the colours, and the samplings; only the usual ones.
fn sampling(announced: &[Announced], jfif: bool, adobe: Option<u8>) -> Option<Sampling> {
    match *announced {
        // The samplings of a single component mean nothing.
        [_] => Some(Sampling::Gray),
        [(a, h, v, _), (b, 1, 1, _), (c, 1, 1, _)] => {
            let named = [a, b, c];
            let ycc = jfif || adobe.map_or(named != *b"RGB" && named == [1, 2, 3], |t| t == 1);
            match (ycc, h, v) {
                (true, 1, 1) => Some(Sampling::Full),
                (true, 2, 1) => Some(Sampling::Halved),
                (true, 2, 2) => Some(Sampling::Quartered),
                _ => None,
            }
        }
        _ => None,
    }
}

fn read_quantization(mut body: &[u8], tables: &mut [Option<[i16; 64]>; 4]) -> Option<()> {
    while let Some((&place, rest)) = body.split_first() {
        // Steps of 16 bits have a place of 16 or more.
        let table = tables.get_mut(usize::from(place))?;
        let (steps, rest) = rest.split_first_chunk::<64>()?;
        let mut natural = [0; 64];
        for (&step, &to) in steps.iter().zip(&ZIGZAG) {
            natural[usize::from(to)] = i16::from(step);
        }
        *table = Some(natural);
        body = rest;
    }
    Some(())
}

fn read_huffman(
    mut body: &[u8],
    dc: &mut [Option<DcTable>; 4],
    ac: &mut [Option<AcTable>; 4],
) -> Option<()> {
    while let Some((&place, rest)) = body.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let total: usize = counts.iter().map(|&n| usize::from(n)).sum();
        let (symbols, rest) = rest.split_at_checked(total)?;
        let slot = usize::from(place & 15);
        match place >> 4 {
            0 => *dc.get_mut(slot)? = Some(DcTable::new(counts, symbols)?),
            1 => *ac.get_mut(slot)? = Some(AcTable::new(counts, symbols)?),
            _ => return None,
        }
        body = rest;
    }
    Some(())
}
