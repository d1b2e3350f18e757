//! The fuzz corpus and seeded mutations of it through the readers, on any toolchain: nothing panics, nothing takes long.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutations of every file.
const ROUNDS: usize = 400;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{target} has {} files", files.len());
    let read = |path: &PathBuf| (path.display().to_string(), std::fs::read(path).unwrap());
    files.iter().map(read).collect()
}

/// One to eight of: flip, overwrite, insert, delete, cut, repeat a stretch, splice another file in.
fn mutate(bytes: &[u8], other: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=out.len());
        let end = (at + rng.random_range(1..=16)).min(out.len());
        match rng.random_range(0..7) {
            0 if at < out.len() => out[at] ^= 1 << rng.random_range(0..8),
            1 if at < out.len() => {
                out[at] = [0, 0x7f, 0x80, 0xff, b'(', b'.', b'0', b'9', b'[', b'}']
                    [rng.random_range(0..10)];
            }
            2 => out.insert(at, rng.random()),
            3 => drop(out.drain(at..end)),
            4 if rng.random_range(0..4) == 0 => out.truncate(at),
            5 => {
                let part = out[at..end].to_vec();
                for _ in 0..rng.random_range(1..40) {
                    out.splice(at..at, part.iter().copied());
                }
            }
            6 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                let to = (from + rng.random_range(1..=64)).min(other.len());
                out.splice(at..at, other[from..to].iter().copied());
            }
            _ => {}
        }
    }
    out.truncate(1 << 16);
    out
}

fn run(target: &str, read: fn(&[u8])) {
    let corpus = corpus(target);
    let mut rng = ChaCha8Rng::seed_from_u64(0x5eed);
    for (name, bytes) in &corpus {
        read(bytes);
        for round in 0..ROUNDS {
            let other = &corpus[rng.random_range(0..corpus.len())].1;
            let mutated = mutate(bytes, other, &mut rng);
            let start = Instant::now();
            let caught = std::panic::catch_unwind(|| read(&mutated));
            assert!(caught.is_ok(), "round {round} of {name}: {mutated:?}");
            let seconds = start.elapsed().as_secs_f64();
            assert!(seconds < 20.0, "round {round} of {name} took {seconds} s: {mutated:?}");
        }
    }
}

#[test]
fn pickles() {
    run("pickle", refzom_dataset::fuzzing::pickle);
}

#[test]
fn json() {
    run("json", refzom_dataset::fuzzing::json);
}

#[test]
fn run_lengths_and_polygons() {
    run("rle", refzom_dataset::fuzzing::rle);
}
