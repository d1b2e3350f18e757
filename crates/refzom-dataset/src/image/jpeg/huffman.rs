//! Huffman codes as tables: the next bits tell a whole coefficient where they hold one (code and value), else the code.

/// Bits looked up at once: what five look-ups take fits between two refills.
pub(super) const LOOK: u32 = 10;

/// Zeros that end a block, more than any block has.
pub(super) const END_OF_BLOCK: usize = 128;

/// Entries of a table.
const ENTRIES: usize = 1 << LOOK;

/// A code of DC differences.
pub(super) struct DcTable {
    codes: Codes,
}

/// A code of AC coefficients.
pub(super) struct AcTable {
    /// What [`Self::fused`] says.
    fused: Box<[u32; ENTRIES]>,
    codes: Codes,
}

/// Symbols by code.
struct Codes {
    /// Symbol (upper 8 bits), bits of the code (8); 0 for longer codes.
    short: Box<[u16; ENTRIES]>,
    /// Of every length, the first code that is longer, with 16 bits (17 for the last).
    above: [u32; 17],
    /// Of every length, what leads from a code to its place in `symbols`.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// `None` for codes that are no prefix code, or have more symbols than there are.
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        if symbols.is_empty() || symbols.len() > 256 {
            return None;
        }
        let mut short = Box::new([0u16; ENTRIES]);
        let (mut above, mut offset) = ([0u32; 17], [0i32; 17]);
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            offset[length as usize] = place as i32 - code as i32;
            for &symbol in &symbols[place..place + count] {
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    let entries = short.get_mut(first..first + (1 << (LOOK - length)))?;
                    entries.fill(u16::from(symbol) << 8 | length as u16);
                }
                code += 1;
            }
            place += count;
            // A code of ones only is reserved.
            if code >= 1 << length && count > 0 {
                return None;
            }
            above[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(Self { short, above, offset, symbols: symbols.to_vec() })
    }

    /// Symbol and length of the code at the head of `bits`.
    #[inline(always)]
    fn read(&self, bits: u64) -> Option<(u8, u32)> {
        let entry = self.short[(bits >> (64 - LOOK)) as usize];
        if entry != 0 {
            return Some(((entry >> 8) as u8, u32::from(entry & 255)));
        }
        self.read_long(bits)
    }

    #[cold]
    fn read_long(&self, bits: u64) -> Option<(u8, u32)> {
        let head = (bits >> 48) as u32;
        let length = (LOOK + 1..=16).find(|&length| head < self.above[length as usize])?;
        let place = (head >> (16 - length)) as i32 + self.offset[length as usize];
        Some((*self.symbols.get(usize::try_from(place).ok()?)?, length))
    }
}

impl DcTable {
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        // More than 11 bits are no 8-bit picture.
        if symbols.iter().any(|&size| size > 11) {
            return None;
        }
        Some(Self { codes: Codes::new(counts, symbols)? })
    }

    /// The difference at the head of `bits` and the bits it takes, at most 27.
    #[inline(always)]
    pub(super) fn read(&self, bits: u64) -> Option<(i32, u32)> {
        let (size, length) = self.codes.read(bits)?;
        let size = u32::from(size);
        Some((extend(bits << length, size), length + size))
    }
}

impl AcTable {
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        // More than 10 bits are no 8-bit picture. Of the sizes of 0, only the end of a block and 16 zeros mean something.
        if symbols.iter().any(|&s| s & 15 > 10 || (s & 15 == 0 && s != 0 && s != 0xf0)) {
            return None;
        }
        let codes = Codes::new(counts, symbols)?;
        let mut fused = Box::new([0u32; ENTRIES]);
        for (head, entry) in fused.iter_mut().enumerate() {
            let code = codes.short[head];
            let (symbol, length) = ((code >> 8) as u8, u32::from(code & 255));
            if length > 0 && length + u32::from(symbol & 15) <= LOOK {
                *entry = coefficient(symbol, length, (head as u64) << (64 - LOOK));
            }
        }
        Some(Self { fused, codes })
    }

    /// The coefficient at the head of `bits` (upper 16 bits), the zeros before it (8 bits) and the bits it takes (8, at most [`LOOK`]);
    /// 0 for one that takes more: ask [`Self::read`]. The end of a block is a coefficient of 0 behind [`END_OF_BLOCK`] zeros.
    #[inline(always)]
    pub(super) fn fused(&self, bits: u64) -> u32 {
        self.fused[(bits >> (64 - LOOK)) as usize]
    }

    /// The same of any length, at most 26 bits.
    #[inline(always)]
    pub(super) fn read(&self, bits: u64) -> Option<u32> {
        let (symbol, length) = self.codes.read(bits)?;
        Some(coefficient(symbol, length, bits))
    }
}

#[inline(always)]
fn coefficient(symbol: u8, length: u32, bits: u64) -> u32 {
    let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
    let run = if symbol == 0 { END_OF_BLOCK as u32 } else { run };
    (extend(bits << length, size) as u32) << 16 | run << 8 | (length + size)
}

/// The number that the first `size` (0 to 11) bits stand for.
#[inline(always)]
fn extend(bits: u64, size: u32) -> i32 {
    // In two steps: a shift by 64 is none.
    let value = (bits >> 1 >> (63 - size)) as i32;
    let negative = (bits >> 63) as i32 ^ 1;
    value - (negative * ((1 << size) - 1))
}
