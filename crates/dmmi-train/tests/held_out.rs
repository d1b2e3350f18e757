//! Validation carved from the training pictures, and training pictures that are held out elsewhere.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use dmmi_train::{RunData, Split, TrainConfig};
use refzom_dataset::DatasetConfig;

fn coco33() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/coco33").display().to_string()
}

fn open(lines: &str) -> dmmi_train::Result<RunData> {
    let dir = coco33();
    let text = format!(
        "[data]\nimage_size = [32, 32]\ncheck_pictures = false\ntrain = {{ dir = \"{dir}\", split = \"train\" }}\n{lines}\n[schedule]\nbatch_size = 2\n"
    );
    RunData::open(&TrainConfig::from_toml(&text, "test", &[])?)
}

fn pictures(split: &Split) -> BTreeSet<String> {
    let path = |s: &refzom_dataset::Sample| s.image_path.display().to_string();
    split.dataset().samples().iter().map(path).collect()
}

#[test]
fn a_part_of_the_pictures_becomes_the_validation_split() {
    let whole = open("").unwrap();
    let data = open("val = { carve = 0.25, seed = 7 }").unwrap();
    let val = data.val.as_ref().unwrap();
    let (train, held) = (pictures(&data.train), pictures(val));
    assert!(train.is_disjoint(&held) && held.len() == 7, "{held:?}");
    assert_eq!(train.len() + held.len(), pictures(&whole.train).len());
    assert_eq!(val.name(), "25 % of the pictures of train");
    let again = open("val = { carve = 0.25, seed = 7 }").unwrap();
    assert_eq!(again.val.unwrap().fingerprint(), val.fingerprint());
    assert_eq!(again.train.fingerprint(), data.train.fingerprint());
}

#[test]
fn pictures_held_out_elsewhere_are_warned_of_refused_or_dropped() {
    let dir = coco33();
    // The same photos under the names of another data set's split.
    let held =
        format!("held_out = [{{ dir = \"{dir}\", split = \"all\", refs = \"refs(human).p\" }}]");
    let notes = open(&held).unwrap().notes().join("\n");
    assert!(notes.contains("are trained on (COCO") && notes.contains("\"drop\""), "{notes}");
    let error = open(&format!("{held}\nleaks = \"refuse\"")).unwrap_err().to_string();
    assert!(error.contains("data.leaks") && error.contains("are trained on"), "{error}");
    let dropped = open(&format!("{held}\nleaks = \"drop\"")).unwrap();
    assert!(dropped.notes().join("\n").contains("training samples left out"));
    let human = DatasetConfig::new(&dir, "all").with_refs("refs(human).p");
    let human = refzom_dataset::Dataset::load(&human).unwrap().0;
    let left = dropped.train.dataset().pictures();
    assert!(human.pictures().keys().all(|key| !left.contains_key(key)));
    assert!(open(&format!("{held}\nleaks = \"ignore\"")).unwrap().notes().is_empty());
    // The test split of the same file has other pictures.
    let test = format!("test = {{ dir = \"{dir}\", split = \"test\" }}\nleaks = \"refuse\"");
    assert!(open(&test).is_ok());
}
