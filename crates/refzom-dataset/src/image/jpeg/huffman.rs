//! Huffman codes as tables: the next bits tell two whole coefficients, or one, where they hold them (codes and values), else a code.

/// Bits looked up at once: what five look-ups take fits between two refills.
pub(super) const LOOK: u32 = 11;

/// How far the end of a block leads: further than all coefficients of any two blocks.
pub(super) const END_OF_BLOCK: usize = 128;

/// Entries of a table.
const ENTRIES: usize = 1 << LOOK;

/// A code of DC differences.
pub(super) struct DcTable {
    codes: Codes,
}

/// A code of AC coefficients.
pub(super) struct AcTable {
    /// What [`Self::steps`] says.
    steps: Box<[Step; ENTRIES]>,
    codes: Codes,
}

/// One or two coefficients and the zeros before them. From the lowest bit on: how many bits they take (8), how many coefficients the
/// block is further with them (8), how many zeros are before the first one (4), the bits of the first one if there are two (4),
/// how many coefficients are before the second one (8), both values (16 each).
///
/// The end of a block is a value of 0 that leads far. A second one that is not there is a 0 for the next place.
#[derive(Clone, Copy)]
pub(super) struct Step(u64);

impl Step {
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        (self.0 & 255) as u32
    }

    #[inline(always)]
    pub(super) fn advance(self) -> usize {
        (self.0 >> 8 & 255) as usize
    }

    /// Zeros before the first one, its value.
    #[inline(always)]
    pub(super) fn first(self) -> (usize, i16) {
        ((self.0 >> 16 & 15) as usize, (self.0 >> 32) as i16)
    }

    /// Coefficients before the second one, its value.
    #[inline(always)]
    pub(super) fn second(self) -> (usize, i16) {
        ((self.0 >> 24 & 255) as usize, (self.0 >> 48) as i16)
    }

    /// Bits of the first of two.
    #[inline(always)]
    pub(super) fn bits_of_first(self) -> Option<u32> {
        let bits = (self.0 >> 20 & 15) as u32;
        (bits > 0).then_some(bits)
    }

    /// That of one symbol, whose code and value are at the head of `bits`.
    #[inline(always)]
    fn one(symbol: u8, length: u32, bits: u64) -> Self {
        let (run, size) = (u64::from(symbol >> 4), u32::from(symbol & 15));
        let advance = if symbol == 0 { END_OF_BLOCK as u64 } else { run + 1 };
        let value = u64::from(extend(bits << length, size) as u16);
        Self(u64::from(length + size) | advance << 8 | run << 16 | (run + 1) << 24 | value << 32)
    }

    /// What [`Self::and`] adds.
    fn tail(self) -> u64 {
        let ((run, value), Self(all)) = (self.first(), self);
        all & 0xffff | (run as u64) << 24 | u64::from(value as u16) << 48
    }

    /// This one and another behind it, given by its [`Self::tail`].
    #[inline(always)]
    fn and(self, tail: u64) -> Self {
        Self(self.0 + (u64::from(self.bits()) << 20) + tail)
    }
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
        let mut steps = Box::new([Step(0); ENTRIES]);
        let mut tails = [0u64; ENTRIES];
        // Of every code, all values that fit behind it.
        let mut groups = Vec::with_capacity(ENTRIES);
        let mut head = 0;
        while head < ENTRIES {
            let code = codes.short[head];
            let (symbol, length) = ((code >> 8) as u8, u32::from(code & 255));
            let taken = length + u32::from(symbol & 15);
            if length == 0 || taken > LOOK {
                head += if length == 0 { 1 } else { 1 << (LOOK - length) };
                continue;
            }
            let step = Step::one(symbol, length, (head as u64) << (64 - LOOK));
            let end = head + (1 << (LOOK - taken));
            steps[head..end].fill(step);
            tails[head..end].fill(step.tail());
            groups.push((head, step));
            head = end;
        }
        for (head, step) in groups {
            let left = LOOK - step.bits();
            if step.advance() == END_OF_BLOCK || left == 0 {
                continue;
            }
            let nexts = tails.iter().step_by(1 << step.bits());
            for (to, &next) in steps[head..head + (1 << left)].iter_mut().zip(nexts) {
                let bits = (next & 255) as u32;
                *to = if bits.wrapping_sub(1) < left { step.and(next) } else { step };
            }
        }
        Some(Self { steps, codes })
    }

    /// The coefficients at the head of `bits`, which take [`LOOK`] bits at most; `None` for one that takes more: ask [`Self::read`].
    #[inline(always)]
    pub(super) fn steps(&self, bits: u64) -> Option<Step> {
        let step = self.steps[(bits >> (64 - LOOK)) as usize];
        (step.0 != 0).then_some(step)
    }

    /// The coefficient at the head of `bits`, whatever it takes: at most 26 bits.
    #[inline(always)]
    pub(super) fn read(&self, bits: u64) -> Option<Step> {
        let (symbol, length) = self.codes.read(bits)?;
        Some(Step::one(symbol, length, bits))
    }
}

/// The number that the first `size` (0 to 11) bits stand for.
#[inline(always)]
fn extend(bits: u64, size: u32) -> i32 {
    // In two steps: a shift by 64 is none.
    let value = (bits >> 1 >> (63 - size)) as i32;
    let negative = (bits >> 63) as i32 ^ 1;
    value - (negative * ((1 << size) - 1))
}
