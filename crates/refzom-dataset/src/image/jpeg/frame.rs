//! The segments before the coded data: sizes, samplings and tables.

use super::huffman::{AcTable, DcTable};

/// Which share of the colour samples is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampling {
    /// There is no colour.
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
pub(super) struct Component {
    pub(super) dc: usize,
    pub(super) ac: usize,
    /// Steps of quantisation in natural order.
    pub(super) quantization: [i16; 64],
}

/// All that is known before the coded data begin.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) sampling: Sampling,
    pub(super) components: Vec<Component>,
    pub(super) dc_tables: [Option<DcTable>; 4],
    pub(super) ac_tables: [Option<AcTable>; 4],
    /// Units between two restarts; 0: there are none.
    pub(super) restart_interval: usize,
    /// First byte of the coded data.
    pub(super) scan_start: usize,
    pub(super) exif: Option<std::ops::Range<usize>>,
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
    /// `None`: not a kind of JPEG that this decoder reads.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut quantizations: [Option<[i16; 64]>; 4] = [None; 4];
        let mut dc_tables = [const { None }; 4];
        let mut ac_tables = [const { None }; 4];
        let (mut size, mut announced) = (None, Vec::<Announced>::new());
        let (mut jfif, mut adobe, mut exif, mut restart_interval) = (false, None, None, 0);
        let mut at = 2;
        loop {
            let head = bytes.get(at..at + 4)?;
            let (marker, length) = (head[1], usize::from(u16::from_be_bytes([head[2], head[3]])));
            if head[0] != 0xff || length < 2 {
                return None;
            }
            let from = at + 4;
            at += 2 + length;
            let body = bytes.get(from..at)?;
            match marker {
                0xe0 => jfif |= body.starts_with(b"JFIF\0"),
                0xe1 if exif.is_none() && body.starts_with(b"Exif\0\0") => {
                    exif = Some(from + 6..at)
                }
                0xee if body.starts_with(b"Adobe") => adobe = Some(*body.get(11)?),
                0xe1..=0xef | 0xfe => {}
                0xdb => read_quantization(body, &mut quantizations)?,
                0xc4 => read_huffman(body, &mut dc_tables, &mut ac_tables)?,
                0xdd => restart_interval = usize::from(u16::from_be_bytes(body.try_into().ok()?)),
                0xc0 if size.is_none() => {
                    let ([8, h1, h0, w1, w0, count], rest) = body.split_first_chunk::<6>()? else {
                        return None;
                    };
                    size = Some((u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0])));
                    let (parts, []) = rest.as_chunks::<3>() else { return None };
                    if parts.len() != usize::from(*count) {
                        return None;
                    }
                    let part = |p: &[u8; 3]| (p[0], p[1] >> 4, p[1] & 15, usize::from(p[2]));
                    announced = parts.iter().map(part).collect();
                }
                0xda => {
                    let (height, width) = size.filter(|&(h, w)| h > 0 && w > 0)?;
                    let components = scan(body, &announced, &quantizations)?;
                    if components
                        .iter()
                        .any(|c| dc_tables[c.dc].is_none() || ac_tables[c.ac].is_none())
                    {
                        return None;
                    }
                    return Some(Self {
                        width: width.into(),
                        height: height.into(),
                        sampling: sampling(&announced, jfif, adobe)?,
                        components,
                        dc_tables,
                        ac_tables,
                        restart_interval,
                        scan_start: at,
                        exif,
                    });
                }
                _ => return None,
            }
        }
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

/// The components of a scan of everything at once.
fn scan(
    body: &[u8],
    announced: &[Announced],
    quantizations: &[Option<[i16; 64]>; 4],
) -> Option<Vec<Component>> {
    let (&count, rest) = body.split_first()?;
    let (parts, [0, 63, 0]) = rest
        .as_chunks::<2>()
        .0
        .split_at_checked(usize::from(count))
        .and_then(|(parts, _)| rest.get(2 * parts.len()..).map(|tail| (parts, tail)))?
    else {
        return None;
    };
    if parts.len() != announced.len() {
        return None;
    }
    let component = |(&[id, tables], &(named, .., quantization)): (&[u8; 2], &Announced)| {
        let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        let quantization = (*quantizations.get(quantization)?)?;
        (id == named && dc < 4 && ac < 4).then_some(Component { dc, ac, quantization })
    };
    parts.iter().zip(announced).map(component).collect()
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
