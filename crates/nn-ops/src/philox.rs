//! Philox4x32-10 (Salmon et al., SC 2011): random words of a counter and a key, so that any element of a mask is computed
//! alone, on any device, with the same result.

/// The four words of block `counter` under `key`.
pub(crate) fn block(counter: u64, key: u64) -> [u32; 4] {
    let mut c = [counter as u32, (counter >> 32) as u32, 0, 0];
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        let product = |m: u32, v: u32| {
            let p = u64::from(m) * u64::from(v);
            ((p >> 32) as u32, p as u32)
        };
        let ((h0, l0), (h1, l1)) = (product(0xD251_1F53, c[0]), product(0xCD9E_8D57, c[2]));
        c = [h1 ^ c[1] ^ k[0], l1, h0 ^ c[3] ^ k[1], l0];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::block;

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
