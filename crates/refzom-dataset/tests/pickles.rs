//! Pickles written by Python 3.11 in every protocol, and by numpy; the shipped Python-2 style files are read in `pycocotools.rs`.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use refzom_dataset::load_refs;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/refs").join(name)
}

#[test]
fn every_protocol_reads_the_same_and_cuts_are_errors() {
    let expected = load_refs(golden("expected.json")).unwrap();
    assert_eq!(expected.len(), 3);
    let dir = tempfile::tempdir().unwrap();
    for protocol in 0..6 {
        let path = golden(&format!("protocol{protocol}.p"));
        assert_eq!(load_refs(&path).unwrap(), expected, "protocol {protocol}");
        let bytes = std::fs::read(&path).unwrap();
        let part = dir.path().join("part.p");
        for cut in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
            std::fs::write(&part, &bytes[..cut]).unwrap();
            assert!(load_refs(&part).is_err(), "protocol {protocol} cut at {cut}");
        }
    }
}

#[test]
fn numpy_numbers_are_named_with_the_remedy() {
    let error = load_refs(golden("numpy.p")).unwrap_err().to_string();
    assert!(error.contains("record 0: ann_id is a python object of numpy"), "{error}");
    assert!(error.contains("int(x)"), "{error}");
}
