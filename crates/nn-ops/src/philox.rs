//! Philox4x32-10 (Salmon et al., SC 2011): random words of a counter and a key, so that any element of a mask is computed
//! alone, on any device, with the same result.

#[cfg(target_arch = "x86_64")]
use crate::simd::{self, Level};

/// The four words of block `counter` under `key`.
pub(crate) fn block(counter: u64, key: u64) -> [u32; 4] {
    let [words] = lanes(counter, key);
    words
}

/// Blocks of [`blocks`].
pub(crate) const LANES: usize = 8;

/// The words of [`LANES`] blocks from `counter` on, side by side in vector registers.
pub(crate) fn blocks(counter: u64, key: u64) -> [[u32; 4]; LANES] {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(counter: u64, key: u64) -> [[u32; 4]; LANES] {
            lanes(counter, key)
        }
        if simd::level() >= Level::Avx2 {
            // SAFETY: the processor was found to have AVX2.
            return unsafe { avx2(counter, key) };
        }
    }
    lanes(counter, key)
}

/// `N` blocks.
#[inline(always)]
fn lanes<const N: usize>(counter: u64, key: u64) -> [[u32; 4]; N] {
    // One array a word, so that a round is the same arithmetic on all blocks.
    let at: [u64; N] = std::array::from_fn(|i| counter.wrapping_add(i as u64));
    let (mut c0, mut c1) = (at.map(|c| c as u32), at.map(|c| (c >> 32) as u32));
    let (mut c2, mut c3) = ([0u32; N], [0u32; N]);
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        for i in 0..N {
            let p = u64::from(0xD251_1F53u32) * u64::from(c0[i]);
            let q = u64::from(0xCD9E_8D57u32) * u64::from(c2[i]);
            (c0[i], c1[i], c2[i], c3[i]) = (
                (q >> 32) as u32 ^ c1[i] ^ k[0],
                q as u32,
                (p >> 32) as u32 ^ c3[i] ^ k[1],
                p as u32,
            );
        }
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    std::array::from_fn(|i| [c0[i], c1[i], c2[i], c3[i]])
}

#[cfg(test)]
mod tests {
    use super::{LANES, block, blocks};

    #[test]
    fn several_blocks_are_the_single_ones() {
        for counter in [0, 5, u64::from(u32::MAX) - 3, u64::MAX - 2] {
            for key in [0, 0x0123_4567_89AB_CDEF] {
                let single = |i| block(counter.wrapping_add(i), key);
                assert_eq!(
                    blocks(counter, key),
                    std::array::from_fn::<_, LANES, _>(|i| single(i as u64))
                );
            }
        }
    }

    #[test]
    fn published_test_vectors() {
        // Random123's kat_vectors for philox4x32-10: all zeros.
        assert_eq!(block(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    #[test]
    fn counters_and_keys_both_matter() {
        assert_ne!(block(0, 1), block(0, 2));
        assert_ne!(block(1, 1), block(2, 1));
        assert_ne!(block(1 << 32, 1), block(0, 1));
    }
}
