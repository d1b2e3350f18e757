//! `dmmi-cli data`: the real program on real files.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::dmmi;

fn coco33() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/coco33").to_owned()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn sound_data_passes_and_faults_end_with_two() {
    let said = dmmi(&["data", "doctor", &coco33()], b"");
    assert!(said.succeeds().stdout.contains("no error"), "{}", said.stdout);

    let root = tempfile::tempdir().unwrap();
    let copy = path(root.path(), "copy");
    let args =
        ["data", "convert", &coco33(), "--to", "ref_zom", "--out", &copy, "--place-images", "copy"];
    assert!(dmmi(&args, b"").succeeds().stdout.contains("nothing was lost"));
    let image =
        std::fs::read_dir(root.path().join("copy/images")).unwrap().next().unwrap().unwrap();
    let bytes = std::fs::read(image.path()).unwrap();
    std::fs::write(image.path(), &bytes[..bytes.len() / 2]).unwrap();
    let said = dmmi(&["data", "doctor", &copy, "--json", "-"], b"");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(json["findings"][0]["fault"], "unreadable_image");
    assert!(json["findings"][0]["examples"][0].as_str().unwrap().contains("cut short"));
    assert_eq!(dmmi(&["data", "doctor", &copy, "--no-decode"], b"").code, Some(0));

    // The verdict does not depend on who reads the findings.
    let mut unread = std::process::Command::new(env!("CARGO_BIN_EXE_dmmi-cli"));
    let unread = unread.args(["data", "doctor", &copy]).stdout(std::process::Stdio::piped());
    let mut unread = unread.stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(2));

    dmmi(&["data", "doctor", "nowhere"], b"").refuses(&["nowhere"]);
    dmmi(&["data", "doctor", &coco33(), "--against", "nowhere"], b"")
        .refuses(&["--against nowhere"]);
}

#[test]
fn statistics_as_text_json_page_and_picture() {
    let root = tempfile::tempdir().unwrap();
    let (html, svg) = (path(root.path(), "s.html"), path(root.path(), "s.svg"));
    let args = ["data", "stats", &coco33(), "--json", "-", "--html", &html, "--svg", &svg];
    let said = dmmi(&args, b"");
    let json: serde_json::Value = serde_json::from_str(&said.succeeds().stdout).unwrap();
    assert_eq!(json["all"]["images"], 33);
    let text = dmmi(&["data", "stats", &coco33()], b"");
    assert!(text.succeeds().stdout.contains("words per expression"), "{}", text.stdout);
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<svg") && page.contains("</html>"));
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg xmlns="));
    dmmi(&["data", "stats", &coco33(), "--split", "testC"], b"").refuses(&["testC", "train"]);
}

#[test]
fn the_gallery_is_one_file_and_the_same_for_the_same_seed() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str| {
        let out = path(root.path(), name);
        let args = [
            "data",
            "gallery",
            &coco33(),
            "--out",
            &out,
            "--limit",
            "12",
            "--seed",
            seed,
            "--size",
            "96",
        ];
        dmmi(&args, b"").succeeds();
        std::fs::read_to_string(out).unwrap()
    };
    let page = make("a.html", "1");
    assert_eq!(page, make("b.html", "1"));
    assert_ne!(page, make("c.html", "2"));
    for outside in ["http://", "https://", "src=\"/", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["samples"].as_array().unwrap().len(), 12);
    for sample in data["samples"].as_array().unwrap() {
        assert_eq!(sample["kind"] == "zero", sample.get("mask").is_none(), "{sample}");
    }
    let out = path(root.path(), "z.html");
    let args = ["data", "gallery", &coco33(), "--out", &out, "--kind", "zero", "--limit", "3"];
    dmmi(&args, b"").succeeds();
}

#[test]
fn conversions_and_splits_say_what_they_did() {
    let root = tempfile::tempdir().unwrap();
    let out = path(root.path(), "r");
    let args = ["data", "convert", &coco33(), "--to", "refer", "--out", &out];
    dmmi(&args, b"").refuses(&["33 zero-target records", "--allow-loss"]);
    let said = dmmi(&["data", "convert", &coco33(), "--to", "csv", "--out", &out], b"");
    assert!(said.succeeds().stdout.contains("made anew"), "{}", said.stdout);
    let table = path(root.path(), "val.csv");
    let said = dmmi(&["data", "split", &out, "--share", "0.2", "--out", &table], b"");
    assert!(said.succeeds().stdout.contains("train to val: 6 (records: "), "{}", said.stdout);
    dmmi(&["data", "split", &out, "--out", &table], b"").refuses(&["exists already"]);
    let other = path(root.path(), "b.csv");
    let said = dmmi(&["data", "split", &out, "--share", "1.5", "--out", &other], b"");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for part in ["1.5", "--share", "between 0 and 1"] {
        assert!(said.stderr.contains(part), "{}", said.stderr);
    }
    dmmi(&["data", "doctor", &coco33(), "--refs", "foo"], b"")
        .refuses(&["foo: does not exist", "--refs"]);
    let said = dmmi(&["data", "convert", &coco33(), "--to", "coco", "--out", &out], b"");
    assert!(said.code == Some(2) && said.stderr.contains("grefcoco_pickle"), "{}", said.stderr);
}
