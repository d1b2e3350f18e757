//! Hostile files end in an error that names the file and the place, in bounded time and memory; the fuzz corpus and mutations of
//! it never panic.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use torch_files::{TorchFile, pickle::Limits, pickle::Pickle};

fn folder(name: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What the fuzz target does: opens, lists, reads.
fn exercise(bytes: &[u8]) -> torch_files::Result<()> {
    let file = TorchFile::from_bytes(bytes.to_vec(), "bytes.pth")?;
    for (_, info) in file.tensors()? {
        file.bytes(&info)?;
    }
    Ok(())
}

/// A legacy file around an object's opcodes, with one storage `0` of eight floats.
fn legacy(object: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(b"\x80\x02}X\x0d\0\0\0little_endian\x88s.");
    bytes.extend(b"\x80\x02");
    bytes.extend(object);
    bytes.extend(b".\x80\x02]X\x01\0\0\x000a.");
    bytes.extend(8u64.to_le_bytes());
    bytes.extend((0..8).flat_map(|i| (i as f32).to_le_bytes()));
    bytes
}

/// `_rebuild_tensor_v2` of storage `key` with `elements`, offset, size, stride as opcodes.
fn tensor(key: &str, elements: &str, rest: &str) -> Vec<u8> {
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    out.extend(format!("(Vstorage\nctorch\nFloatStorage\nV{key}\nVcpu\nL{elements}\ntQ").bytes());
    out.extend(rest.bytes());
    out.extend(b"\x89NtR");
    out
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let clock = Instant::now();
    let message = exercise(bytes).unwrap_err().to_string();
    assert!(clock.elapsed() < Duration::from_secs(60), "{message}");
    for word in ["bytes.pth"].iter().chain(words) {
        assert!(message.contains(word), "no \"{word}\" in: {message}");
    }
}

#[test]
fn a_sound_tensor_is_read() {
    let bytes = legacy(
        &[b"}Va\n".to_vec(), tensor("0", "8", "I1\n(I2\nI3\nt(I3\nI1\nt"), b"s".to_vec()].concat(),
    );
    let file = TorchFile::from_bytes(bytes, "bytes.pth").unwrap();
    let (name, info) = file.tensors().unwrap().remove(0);
    assert_eq!(name, "a");
    let values: Vec<f32> = file
        .bytes(&info)
        .unwrap()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn tensors_are_found_in_whatever_holds_them() {
    let inner = tensor("0", "8", "I0\n(I2\nt(I1\nt");
    let args = inner.strip_prefix(b"ctorch._utils\n_rebuild_tensor_v2\n").unwrap();
    let args = args.strip_suffix(b"R").unwrap();
    let subclass =
        b"ctorch._tensor\n_rebuild_from_type\n(ctorch._utils\n_rebuild_tensor_v2\ncfastai\nT\n";
    let object = [
        [&b"}Veasy\nceasydict\nEasyDict\n)\x81Vw\n"[..], &inner, b"s"].concat(),
        [&b"sVold\n"[..], subclass, args, b"}tR"].concat(),
        [&b"sVnamed\ncmodels\nState\n("[..], &inner, &inner, b"t\x81"].concat(),
        [&b"sVqueue\nccollections\ndeque\n)R"[..], &inner, b"as"].concat(),
    ];
    let file = TorchFile::from_bytes(legacy(&object.concat()), "bytes.pth").unwrap();
    let names: Vec<String> = file.tensors().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["easy.w", "old", "named.0", "named.1", "queue.0"]);
}

#[test]
fn numbers_of_a_big_endian_machine_are_little_endian() {
    let little = legacy(&tensor("0", "8", "I0\n(I8\nt(I1\nt"));
    let flag = little.windows(3).position(|w| w == b"\x88s.").unwrap();
    let mut big = little.clone();
    big[flag] = 0x89;
    let read = |bytes| {
        let file = TorchFile::from_bytes(bytes, "bytes.pth").unwrap();
        file.bytes(&file.tensors().unwrap()[0].1).unwrap()
    };
    assert_eq!(read(big), read(little));
}

#[test]
fn sizes_strides_and_offsets_that_lie() {
    let max = "9223372036854775807";
    let with = |key: &str, elements: &str, rest: &str| legacy(&tensor(key, elements, rest));
    refused(
        &with("0", "8", &format!("I0\n(L{max}\nL{max}\nt(I1\nI1\nt")),
        &["storage 0", "overflows"],
    );
    refused(&with("0", "8", &format!("I0\n(I2\nt(L{max}\nt")), &["storage 0", "beyond"]);
    refused(&with("0", "8", &format!("L{max}\n(I2\nt(I1\nt")), &["storage 0", "beyond"]);
    refused(&with("0", "8", "I7\n(I2\nt(I1\nt"), &["storage 0", "beyond"]);
    refused(&with("0", "8", "I0\n(I-2\nt(I1\nt"), &["storage 0", "size"]);
    refused(&with("0", "8", "I0\n(I2\nt(I-1\nt"), &["storage 0", "stride"]);
    refused(&with("0", "8", "I0\n(I2\nt(t"), &["storage 0", "stride"]);
    // More elements than the file holds; a storage that is not there.
    refused(&with("0", max, "I0\n(I2\nt(I1\nt"), &["storage 0"]);
    refused(&with("7", "8", "I0\n(I2\nt(I1\nt"), &["storage"]);
    // One number, expanded to terabytes.
    refused(&with("0", "8", "I0\n(L1000000000000\nt(I0\nt"), &["expands"]);
    // Many expanded tensors, each just small enough.
    let many: Vec<u8> = (0..64)
        .flat_map(|i| {
            [format!("V{i}\n").into_bytes(), tensor("0", "8", "I0\n(L16000000\nt(I0\nt")].concat()
        })
        .collect();
    refused(&legacy(&[b"}(".to_vec(), many, b"u".to_vec()].concat()), &["expands"]);
}

#[test]
fn structures_that_bite_their_tail() {
    let inner = tensor("0", "8", "I0\n(I2\nt(I1\nt");
    // A dict inside itself.
    refused(
        &legacy(&[b"}q\x00Va\nh\x00sVb\n".to_vec(), inner.clone(), b"s".to_vec()].concat()),
        &["without"],
    );
    // A billion laughs: each list holds the one before ten times.
    let mut laughs = [b"]".to_vec(), inner.clone(), b"aq\x00".to_vec()].concat();
    for i in 1..30u8 {
        laughs.extend(b"0](");
        laughs.extend([b'h', i - 1].repeat(10));
        laughs.extend([b'e', b'q', i]);
    }
    refused(&legacy(&laughs), &["measure"]);
    // A long list of numbers is none of these.
    let long = [b"]q\x01(".to_vec(), b"K\x07".repeat((1 << 20) + 1), b"e0".to_vec()].concat();
    let object = [b"(".to_vec(), long, b"h\x01".to_vec(), inner.clone(), b"t".to_vec()].concat();
    let file = TorchFile::from_bytes(legacy(&object), "bytes.pth").unwrap();
    assert_eq!(file.tensors().unwrap()[0].0, "1");
    // A parameter in a parameter that holds nothing.
    let nested = b"ctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_parameter\n(NtRtR";
    refused(
        &legacy(&[b"(".to_vec(), inner, nested.to_vec(), b"t".to_vec()].concat()),
        &["parameter"],
    );
}

#[test]
fn containers_that_lie() {
    let zip =
        std::fs::read(folder("tests/data").iter().find(|p| p.ends_with("bare_zip.pth")).unwrap())
            .unwrap();
    for cut in [10, 100, zip.len() / 2, zip.len() - 1] {
        refused(&zip[..cut], &[]);
    }
    let patched = |find: &[u8], at: usize, with: &[u8]| {
        let mut bytes = zip.clone();
        let start = bytes.windows(find.len()).rposition(|w| w == find).unwrap();
        bytes[start + at..start + at + with.len()].copy_from_slice(with);
        bytes
    };
    let central = b"PK\x01\x02";
    refused(&patched(central, 10, &[8, 0]), &["compressed"]);
    refused(&patched(central, 20, &[0xff; 4]), &[]);
    refused(&patched(central, 42, &[0xfe, 0xff, 0xff, 0x7f]), &["beyond"]);
    // PyTorch writes the 64-bit end record even for small files; that one counts.
    refused(&patched(b"PK\x06\x06", 32, &[0xff, 0xff]), &["entries"]);
    refused(&patched(b"PK\x06\x06", 40, &[0xff; 8]), &["beyond"]);
    refused(&patched(b"PK\x06\x06", 48, &[0xff, 0xff, 0xff, 0x7f]), &["beyond"]);
    refused(&patched(b"PK\x06\x07", 8, &[0xff; 8]), &["beyond"]);
    // A changed element, and a changed pickle, are found by their checksums.
    let file = TorchFile::from_bytes(zip.clone(), "bytes.pth").unwrap();
    let elements = file.bytes(&file.tensors().unwrap()[0].1).unwrap();
    refused(&patched(&elements, 5, &[0x77]), &["storage 0", "checksum"]);
    refused(&patched(b"torch\nFloatStorage", 8, b"t"), &["data.pkl", "checksum"]);
}

#[test]
fn floods_of_opcodes_end_early() {
    for flood in [&b"("[..], b"]", b"N", b"}", b"N\x94", b"U\x00", b"cos\nsystem\n)R"] {
        let bytes = flood.repeat((64 << 20) / flood.len() / 4);
        let clock = Instant::now();
        assert!(Pickle::parse(&bytes, Limits::default()).is_err());
        assert!(clock.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn the_corpus_and_its_mutations_never_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let corpus = folder("fuzz/corpus/open");
    assert!(corpus.len() >= 10, "{}", corpus.len());
    let mut errors = 0;
    for path in &corpus {
        let bytes = std::fs::read(path).unwrap();
        let _ = exercise(&bytes);
        for _ in 0..150 {
            let mut mutated = bytes.clone();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..mutated.len());
                match rng.random_range(0..5) {
                    0 => mutated[at] ^= 1 << rng.random_range(0..8),
                    1 => mutated[at] = rng.random(),
                    2 => drop(mutated.remove(at)),
                    3 => mutated.insert(at, rng.random()),
                    _ => {
                        let end = (at + rng.random_range(1..9)).min(mutated.len());
                        mutated[at..end].fill(if rng.random() { 0xff } else { 0 });
                    }
                }
                if mutated.is_empty() {
                    break;
                }
            }
            errors += usize::from(exercise(&mutated).is_err());
        }
    }
    assert!(errors > corpus.len() * 20, "{errors}");
}
