//! The reference's hash: weights, images and probes of a golden case come from a name, a seed and an index.
//!
//! Source: the README of the golden data. All arithmetic is wrapping u32 and IEEE f32 without fused multiply-add.

use rayon::prelude::*;

/// Elements a task fills at a time.
const BLOCK: usize = 1 << 16;

/// The u32 stream of one named tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashStream {
    key: u32,
}

impl HashStream {
    /// CRC-32 of the name, mixed with the seed.
    pub fn new(name: &str, seed: u32) -> Self {
        Self { key: crc32fast::hash(name.as_bytes()) ^ seed.wrapping_mul(0x27D4_EB2F) }
    }

    /// The random bits of row-major index `i`.
    pub fn bits(self, i: u32) -> u32 {
        let mut x = i.wrapping_mul(0x9E37_79B9) ^ self.key;
        x ^= x >> 16;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x = x.wrapping_mul(0xC2B2_AE35);
        x ^ (x >> 16)
    }

    /// A value in `[-1, 1)`, exact in f32.
    pub fn unit(self, i: u32) -> f32 {
        ((self.bits(i) >> 8) as i32 - 8_388_608) as f32 * (1.0 / 8_388_608.0)
    }
}

/// `n` values `base + scale * unit`, each operation rounded to f32; filled on all cores.
pub fn hash_values(name: &str, seed: u32, base: f32, scale: f32, n: usize) -> Vec<f32> {
    let stream = HashStream::new(name, seed);
    let mut out = vec![0.0; n];
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, chunk)| {
        for (i, x) in chunk.iter_mut().enumerate() {
            *x = base + scale * stream.unit((block * BLOCK + i) as u32);
        }
    });
    out
}

/// `n` integers in `lo..hi`: `lo + bits mod (hi - lo)`. An empty range gives `lo`.
pub fn hash_ints(name: &str, seed: u32, lo: u32, hi: u32, n: usize) -> Vec<u32> {
    let stream = HashStream::new(name, seed);
    let span = hi.saturating_sub(lo).max(1);
    (0..n).map(|i| lo + stream.bits(i as u32) % span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the golden data's README: name, seed, index, bits of the stream, base, scale, bits of the value.
    const SAMPLES: [(&str, u32, u32, u32, f32, f32, u32); 13] = [
        ("model.classifier.conv1_1.weight", 101, 0, 4258553345, 0.0, 0.09375, 0x3dbcbe8d),
        ("model.classifier.conv1_1.weight", 101, 1, 68993516, 0.0, 0.09375, 0xbdb9d4de),
        (QUERY, 303, 0, 2482948128, 0.0, 0.0625, 0x3c1ff640),
        (QUERY, 303, 1, 1632998117, 0.0, 0.0625, 0xbc755370),
        (QUERY, 303, 2, 162926236, 0.0, 0.0625, 0xbd6c93e4),
        (QUERY, 303, 1000003, 404098711, 0.0, 0.0625, 0xbd4fd3e4),
        (QUERY, 303, 4194304, 1201032630, 0.0, 0.0625, 0xbce1a6cc),
        ("input.image.s96", 101, 0, 2467558609, 0.0, 2.0, 0x3e989fa0),
        ("input.image.s96", 101, 1, 2639120640, 0.0, 2.0, 0x3eea6e48),
        ("model.backbone.norm0.weight", 101, 0, 2196572376, 1.0, 0.2, 0x3f8095ce),
        ("model.backbone.norm0.weight", 101, 1, 414075100, 1.0, 0.2, 0x3f56ac1d),
        ("é", 4294967295, 0, 307974573, 0.0, 1.0, 0xbf5b495e),
        ("é", 4294967295, 1, 3226568104, 0.0, 1.0, 0x3f00a30a),
    ];
    const QUERY: &str = "bert_model.encoder.layer.0.attention.self.query.weight";

    #[test]
    fn equals_the_published_samples_bit_for_bit() {
        for (name, seed, i, bits, base, scale, value) in SAMPLES {
            assert_eq!(HashStream::new(name, seed).bits(i), bits, "{name} {i}");
            let filled = hash_values(name, seed, base, scale, i as usize + 1);
            assert_eq!(filled.last().map(|v| v.to_bits()), Some(value), "{name} {i}");
        }
    }

    #[test]
    fn integers_stay_in_range() {
        let ids = hash_ints("ids", 5, 3, 9, 1000);
        assert!(ids.iter().all(|i| (3..9).contains(i)));
        assert!((3..9).all(|i| ids.contains(&i)));
        assert_eq!(hash_ints("ids", 5, 4, 4, 2), [4, 4]);
    }
}
