//! Seeded generators: a stream for each purpose and image, so that one image's choices do not depend on another's.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of `purpose` for the image (or other thing) `id`.
pub(super) fn stream(seed: u64, purpose: &str, id: i64) -> ChaCha8Rng {
    let salt = purpose
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ salt);
    rng.set_stream(id as u64);
    rng
}

/// Shuffles in place.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// One of a slice that is not empty.
pub(super) fn pick<'a, T>(items: &'a [T], rng: &mut impl Rng) -> Option<&'a T> {
    (!items.is_empty()).then(|| &items[rng.random_range(0..items.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_purpose_and_id() {
        let draw = |seed, purpose, id| stream(seed, purpose, id).random::<u64>();
        let first = draw(1, "zero", 7);
        assert_eq!(first, draw(1, "zero", 7));
        for other in [draw(2, "zero", 7), draw(1, "one", 7), draw(1, "zero", 8)] {
            assert_ne!(first, other);
        }
        assert_eq!(pick::<u8>(&[], &mut stream(1, "", 0)), None);
    }
}
