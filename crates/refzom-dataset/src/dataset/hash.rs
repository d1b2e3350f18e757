//! A quick 64-bit hash that notices changed files; no defence against forgery.

/// Folded multiplications over 32 bytes a step, as in wyhash.
#[derive(Clone, Debug)]
pub(super) struct ContentHash {
    state: u64,
}

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd1b5_4a32_d192_ed03;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// At most eight bytes.
fn last(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl ContentHash {
    pub(super) fn new() -> Self {
        Self { state: A }
    }

    /// Adds a piece; its length counts, so that pieces cannot run into each other.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut lanes = [self.state, self.state ^ B];
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, words) = words.as_chunks::<4>();
        for block in blocks {
            let [a, b, c, d] = block.map(u64::from_le_bytes);
            lanes[0] = fold(lanes[0] ^ a, A ^ b);
            lanes[1] = fold(lanes[1] ^ c, B ^ d);
        }
        for word in words.iter().copied().map(u64::from_le_bytes).chain([last(rest)]) {
            lanes[0] = fold(lanes[0] ^ word, B);
        }
        self.state = fold(fold(lanes[0], A) ^ lanes[1], B ^ bytes.len() as u64);
    }

    pub(super) fn finish(&self) -> u64 {
        fold(self.state ^ B, A)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn of(pieces: &[&[u8]]) -> u64 {
        let mut hash = ContentHash::new();
        pieces.iter().for_each(|piece| hash.update(piece));
        hash.finish()
    }

    #[test]
    fn every_bit_and_every_length_counts() {
        let bytes: Vec<u8> = (0..100u8).map(|i| i.wrapping_mul(37)).collect();
        let mut seen = HashSet::from([of(&[&bytes])]);
        for bit in 0..800 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(of(&[&other])), "bit {bit}");
        }
        for length in 0..100 {
            assert!(seen.insert(of(&[&bytes[..length]])), "length {length}");
            assert!(seen.insert(of(&[&bytes[..length], &bytes[length..]])), "cut at {length}");
        }
        assert!(seen.insert(of(&[&[0; 64]])) && seen.insert(of(&[&[0; 65]])));
    }
}
