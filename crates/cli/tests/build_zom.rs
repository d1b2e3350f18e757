//! `data build-zom` on data/coco33: the folder, the review page, decisions read back, and bad input.

#![allow(clippy::unwrap_used)]

mod common;

use common::dmmi;

const COCO33: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33");

#[test]
fn a_set_is_built_reviewed_and_built_again() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (first, second) = (path("first"), path("second"));
    let said = dmmi(&["data", "build-zom", COCO33, "--out", &first], b"");
    said.succeeds();
    for part in ["split", "page-1.html", "sources", "combined", "other_caption"] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    let page = std::fs::read_to_string(root.path().join("first/review/page-1.html")).unwrap();
    assert!(page.contains("data:image/jpeg;base64,") && page.contains("dmmi-zom-decisions-1"));
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "self-contained");

    // what the page's download button writes
    let start = page.find("type=\"application/json\">").unwrap() + 24;
    let data: serde_json::Value =
        serde_json::from_str(page[start..].split("</script>").next().unwrap()).unwrap();
    let item = &data["items"][0];
    let decision = serde_json::json!({
        "image_id": item["image_id"], "sentence": item["sentence"], "verdict": "reject"
    });
    let file = path("decisions.json");
    let text = serde_json::json!({ "format": data["format"], "decisions": [decision] }).to_string();
    std::fs::write(&file, text).unwrap();
    let said = dmmi(
        &["data", "build-zom", COCO33, "--out", &second, "--decisions", &file, "--review", "0"],
        b"",
    );
    said.succeeds();
    assert!(said.stdout.contains("decisions: 1 read"), "{}", said.stdout);
    let lines = std::fs::read_to_string(root.path().join("second/provenance.jsonl")).unwrap();
    let rejected = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["image_id"] == item["image_id"] && line["sentence"] == item["sentence"]
    };
    assert!(!lines.lines().any(rejected));
    assert!(!root.path().join("second/review").exists());
    dmmi(&["data", "build-zom", COCO33, "--out", &second], b"").refuses(&["second", "not empty"]);
}

#[test]
fn bad_input_is_named() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out").to_str().unwrap().to_owned();
    let refused = |args: &[&str], parts: &[&str]| {
        let all: Vec<&str> =
            ["data", "build-zom"].iter().chain(args).copied().chain(["--out", &out]).collect();
        dmmi(&all, b"").refuses(parts);
        assert!(!root.path().join("out").exists());
    };
    refused(&[], &["--instances"]);
    refused(&["nowhere"], &["nowhere"]);
    refused(&[root.path().to_str().unwrap()], &["instances*.json", "--instances"]);
    let captions = format!("{COCO33}/captions.json");
    refused(&["--instances", &captions], &["captions.json", "category_id"]);
    refused(&[COCO33, "--decisions", &captions], &["captions.json", "review page"]);
    refused(&[COCO33, "--expressions", "100000"], &["expressions were asked for", "ask for fewer"]);
    let said = dmmi(&["data", "build-zom", COCO33, "--test-share", "2", "--out", &out], b"");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for part in ["--test-share", "from 0 to 1"] {
        assert!(said.stderr.contains(part), "{}", said.stderr);
    }
    refused(&[COCO33, "--images", root.path().to_str().unwrap()], &["none of the pictures"]);
}
