//! `dmmi-cli predict` as a user meets it: what it writes, and one clear line for every input it cannot use.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba,
};

use common::{Said, dmmi};

/// One folder with a checkpoint for all tests of this file.
fn home() -> &'static Path {
    static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
    HOME.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        common::checkpoint(&dir.path().join("model"));
        picture(48, 40).save(dir.path().join("scene.png")).unwrap();
        dir
    })
    .path()
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        if x < width / 2 && y < height / 2 {
            Rgb([220, 30, 30])
        } else {
            Rgb([30, 60, (x % 256) as u8])
        }
    })
}

fn path(name: &str) -> String {
    home().join(name).display().to_string()
}

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

/// `predict` with the test checkpoint.
fn predict(image: &str, out: &str, more: &[&str]) -> Said {
    let model = path("model");
    let mut args =
        vec!["predict", "--checkpoint", &model, "--image", image, "--out", out, "--device", "cpu"];
    args.extend(more);
    dmmi(&args, b"")
}

fn json(path: impl AsRef<Path>) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn names(dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().display().to_string();
    let args = ["predict", "--checkpoint", "none", "--image", &image, "--text", "a", "--json", "-"];
    dmmi(&args, b"").refuses(&["folder", &image]);
}

#[test]
fn writes_masks_overlay_and_json_at_the_pictures_size() {
    let out = path("plain");
    let said =
        predict(&path("scene.png"), &out, &["--text", "the red square", "--text", "two circles"]);
    said.succeeds();
    assert_eq!(
        names(&out),
        ["scene.json", "scene_1_mask.png", "scene_2_mask.png", "scene_overlay.png"]
    );
    let json = json(format!("{out}/scene.json"));
    assert_eq!((json["width"].as_u64(), json["height"].as_u64()), (Some(48), Some(40)));
    for (index, prediction) in json["predictions"].as_array().unwrap().iter().enumerate() {
        let mask = image::open(format!("{out}/scene_{}_mask.png", index + 1)).unwrap();
        assert!(matches!(mask, DynamicImage::ImageLuma8(_)));
        let mask = mask.into_luma8();
        assert_eq!(mask.dimensions(), (48, 40));
        assert!(mask.pixels().all(|p| p.0[0] == 0 || p.0[0] == 255));
        let area = mask.pixels().filter(|p| p.0[0] == 255).count() as u64;
        assert_eq!(prediction["area"].as_u64(), Some(area));
        assert_eq!(prediction["found"].as_bool(), Some(area > 0));
        assert_eq!(prediction["box"].is_null(), area == 0);
        let counts = prediction["rle"]["counts"].as_str().unwrap();
        let rle = refzom_dataset::Rle::from_compressed(40, 48, counts).unwrap();
        let bits: Vec<u8> = mask.pixels().map(|p| p.0[0] / 255).collect();
        assert_eq!(rle.decode().bits(), bits);
        let score = prediction["score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score));
    }
    let overlay = image::open(format!("{out}/scene_overlay.png")).unwrap();
    assert_eq!((overlay.width(), overlay.height()), (48, 40));
}

#[test]
fn json_on_standard_output_is_all_there_is() {
    let model = path("model");
    let bytes = fs::read(path("scene.png")).unwrap();
    let args =
        ["predict", "--checkpoint", &model, "--image", "-", "--text", "the circle", "--json", "-"];
    let said = dmmi(&args, &bytes);
    let json: serde_json::Value = serde_json::from_str(&said.succeeds().stdout).unwrap();
    assert_eq!(json["image"], "-");
    assert_eq!(json["predictions"][0]["expression"], "the circle");
    assert!(json["predictions"][0].get("mask").is_none());
}

#[test]
fn expressions_come_from_a_file_or_standard_input() {
    let (model, image) = (path("model"), path("scene.png"));
    let base =
        ["predict", "--checkpoint", &model, "--image", &image, "--json", "-", "--texts-from"];
    let file = path("texts.txt");
    fs::write(&file, "the circle\n\nthe square\n").unwrap();
    let marked = "\u{feff}the circle\r\nthe square\r\n";
    for (source, stdin) in [(file.as_str(), ""), ("-", "the circle\nthe square\n"), ("-", marked)] {
        let args: Vec<&str> = base.into_iter().chain([source]).collect();
        let said = dmmi(&args, stdin.as_bytes());
        let json: serde_json::Value = serde_json::from_str(&said.succeeds().stdout).unwrap();
        assert_eq!(json["predictions"][0]["expression"], "the circle");
        assert_eq!(json["predictions"][1]["expression"], "the square");
    }
}

#[test]
fn same_call_twice_gives_the_same_answer() {
    let out = path("twice");
    let mut before = None;
    for _ in 0..2 {
        predict(&path("scene.png"), &out, &["--text", "the red square"]).succeeds();
        let mut now = json(format!("{out}/scene.json"));
        now["predictions"][0]["milliseconds"] = 0.into();
        let mask = fs::read(format!("{out}/scene_1_mask.png")).unwrap();
        let seen = (now, mask);
        if let Some(before) = &before {
            assert_eq!(before, &seen);
        }
        before = Some(seen);
    }
}

#[test]
fn bfloat16_gives_nearly_the_same_scores() {
    let score = |dtype| {
        let out = path(dtype);
        predict(&path("scene.png"), &out, &["--text", "the red square", "--dtype", dtype])
            .succeeds();
        json(format!("{out}/scene.json"))["predictions"][0]["score"].as_f64().unwrap()
    };
    let (exact, rounded) = (score("f32"), score("bf16"));
    assert!(exact != rounded && (exact - rounded).abs() < 0.02, "{exact} {rounded}");
}

#[test]
fn a_second_call_leaves_no_masks_of_the_first() {
    let out = path("fewer");
    let image = path("scene.png");
    predict(&image, &out, &["--text", "a", "--text", "b", "--text", "c"]).succeeds();
    assert_eq!(names(&out).len(), 5);
    predict(&image, &out, &["--text", "a"]).succeeds();
    let expected = ["scene.json", "scene_1_mask.png", "scene_overlay.png"];
    assert_eq!(names(&out), expected);
}

#[test]
fn results_of_another_picture_are_not_replaced() {
    let out = path("shared");
    predict(&path("scene.png"), &out, &["--text", "the circle"]).succeeds();
    let before = fs::read(format!("{out}/scene.json")).unwrap();
    let other = home().join("other");
    fs::create_dir_all(&other).unwrap();
    let other = other.join("scene.png");
    picture(30, 30).save(&other).unwrap();
    let said = predict(other.to_str().unwrap(), &out, &["--text", "the circle"]);
    said.refuses(&["scene.json", "another picture", "--out"]);
    assert_eq!(fs::read(format!("{out}/scene.json")).unwrap(), before);
}

#[test]
fn every_kind_of_picture_is_read() {
    let dir = home().join("kinds");
    fs::create_dir_all(&dir).unwrap();
    let save = |name: &str, image: DynamicImage| {
        let path = dir.join(name);
        image.save(&path).unwrap();
        path
    };
    let kinds: Vec<(PathBuf, (u64, u64))> = vec![
        (save("dot.png", RgbImage::new(1, 1).into()), (1, 1)),
        (save("strip.png", RgbImage::new(400, 1).into()), (400, 1)),
        (save("grey.png", GrayImage::new(20, 30).into()), (20, 30)),
        (save("grey.jpg", GrayImage::new(20, 30).into()), (20, 30)),
        (save("greya.png", ImageBuffer::<LumaA<u8>, _>::new(20, 30).into()), (20, 30)),
        (save("rgba.png", ImageBuffer::<Rgba<u8>, _>::new(20, 30).into()), (20, 30)),
        (save("deep.png", ImageBuffer::<Rgb<u16>, _>::new(20, 30).into()), (20, 30)),
        (save("deepgrey.png", ImageBuffer::<Luma<u16>, _>::new(20, 30).into()), (20, 30)),
        (data("cmyk.jpg").into(), (24, 16)),
        (data("turned.jpg").into(), (16, 24)), // stored 24x16, EXIF orientation 6
    ];
    let out = path("kinds_out");
    for (image, (width, height)) in kinds {
        predict(
            image.to_str().unwrap(),
            &format!("{out}/{}", image.file_name().unwrap().display()),
            &["--text", "a circle"],
        )
        .succeeds();
        let stem = image.file_stem().unwrap().display();
        let name = image.file_name().unwrap().display();
        let json = json(format!("{out}/{name}/{stem}.json"));
        assert_eq!(
            (json["width"].as_u64(), json["height"].as_u64()),
            (Some(width), Some(height)),
            "{name}"
        );
    }
}

#[test]
fn hundred_megapixels_work() {
    let image = path("huge.png");
    let bytes = vec![0u8; 10_000 * 10_000];
    image::save_buffer(&image, &bytes, 10_000, 10_000, ExtendedColorType::L8).unwrap();
    let out = path("huge_out");
    predict(&image, &out, &["--text", "a circle"]).succeeds();
    assert_eq!(json(format!("{out}/huge.json"))["width"], 10_000);
}

#[test]
fn long_expressions_are_cut_with_a_notice() {
    let out = path("long");
    let text = "the red circle ".repeat(166) + "left of the"; // 501 words
    let said = predict(&path("scene.png"), &out, &["--text", &text]);
    assert!(said.succeeds().stderr.contains("notice: expression 1"), "{}", said.stderr);
    assert!(said.stderr.contains("word pieces"), "{}", said.stderr);
    let json = json(format!("{out}/scene.json"));
    assert_eq!(json["predictions"][0]["notices"].as_array().unwrap().len(), 1);
}

#[test]
fn foreign_words_among_english_ones_get_a_notice() {
    let said = predict(&path("scene.png"), &path("foreign"), &["--text", "the красный circle"]);
    assert!(said.succeeds().stderr.contains("красный"), "{}", said.stderr);
}

#[test]
fn pictures_that_cannot_be_used_are_named() {
    let dir = home().join("bad");
    fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let png = fs::read(path("scene.png")).unwrap();
    let jpeg_path = dir.join("whole.jpg");
    picture(64, 64).save(&jpeg_path).unwrap();
    let jpeg = fs::read(&jpeg_path).unwrap();
    let out = path("bad_out");
    let cases = [
        (path("no_such.png"), "no_such.png"),
        (dir.display().to_string(), "bad"),
        (file("empty.png", b""), "empty"),
        (file("half.png", &png[..png.len() / 2]), "half.png"),
        (file("most.png", &png[..png.len() - 10]), "most.png"),
        (file("half.jpg", &jpeg[..jpeg.len() / 2]), "half.jpg"),
        (file("most.jpg", &jpeg[..jpeg.len() - 40]), "most.jpg"),
        (file("text.png", b"this is no picture"), "text.png"),
        (file("gif.gif", b"GIF89a\x01\0\x01\0\0\0\0;"), "gif.gif"),
    ];
    for (image, part) in cases {
        predict(&image, &out, &["--text", "a circle"]).refuses(&[part]);
    }
    assert_eq!(names(&out), Vec::<String>::new(), "a refusal writes nothing");
}

#[test]
fn expressions_that_cannot_be_used_are_named() {
    let image = path("scene.png");
    let out = path("texts_out");
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--text", ""], &["expression 1", "empty"]),
        (&["--text", "a cup", "--text", "  \t "], &["expression 2", "empty"]),
        (&["--text", "красный круг"], &["expression 1", "English"]),
        (&["--text", "红色的圆"], &["expression 1", "English"]),
        (&["--text", "?!"], &["expression 1"]),
        (&["--texts-from", "/no/such/list"], &["/no/such/list"]),
        (&[], &["no expression"]),
    ];
    for (args, parts) in cases {
        predict(&image, &out, args).refuses(parts);
    }
    assert_eq!(names(&out), Vec::<String>::new());
}

#[test]
fn checkpoints_that_cannot_be_used_are_named() {
    let image = path("scene.png");
    let with = |checkpoint: &Path| {
        let checkpoint = checkpoint.display().to_string();
        let out = path("checkpoints_out");
        dmmi(
            &[
                "predict",
                "--checkpoint",
                &checkpoint,
                "--image",
                &image,
                "--text",
                "a",
                "--out",
                &out,
            ],
            b"",
        )
    };
    let copy = |name: &str| {
        let to = home().join(name);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(home().join("model")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    };
    with(&home().join("none")).refuses(&["none"]);
    fs::create_dir_all(home().join("empty")).unwrap();
    with(&home().join("empty")).refuses(&["empty"]);

    let cut = copy("cut");
    let weights = fs::read(cut.join("model.safetensors")).unwrap();
    fs::write(cut.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    with(&cut).refuses(&["cut"]);

    let junk = copy("junk");
    fs::write(junk.join("model.safetensors"), b"not tensors").unwrap();
    with(&junk).refuses(&["junk"]);

    let broken = copy("broken");
    fs::write(broken.join("config.json"), b"{\"format\": 1").unwrap();
    with(&broken).refuses(&["config.json"]);

    let diverged = copy("diverged");
    let _ = fs::remove_file(diverged.join("MANIFEST"));
    let mut weights = weights;
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights[header..].fill(0xff); // not a number
    fs::write(diverged.join("model.safetensors"), weights).unwrap();
    with(&diverged).refuses(&["diverged", "not finite"]);

    // Weights of one network with the description of another.
    let other = copy("other");
    let _ = fs::remove_file(other.join("MANIFEST"));
    let text = fs::read_to_string(other.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = config["model"]["text"]["num_layers"].as_u64().unwrap();
    config["model"]["text"]["num_layers"] = (layers + 1).into();
    fs::write(other.join("config.json"), config.to_string()).unwrap();
    with(&other).refuses(&["other"]);
    assert_eq!(names(&path("checkpoints_out")), Vec::<String>::new());
}

#[test]
fn output_places_that_cannot_be_used_are_named() {
    let image = path("scene.png");
    predict(&image, &path("scene.png"), &["--text", "a circle"]).refuses(&["scene.png"]);
    let said = predict(
        &image,
        &path("json_out"),
        &["--text", "a circle", "--json", "/no/such/dir/x.json"],
    );
    said.refuses(&["/no/such/dir/x.json"]);
    // A photo in the place of the JSON stays a photo.
    let photo = path("kept.png");
    fs::copy(&image, &photo).unwrap();
    predict(&image, &path("json_out"), &["--text", "a circle", "--json", &photo])
        .refuses(&["kept.png", "not replaced"]);
    assert_eq!(fs::read(&photo).unwrap(), fs::read(&image).unwrap());
    let model = path("model");
    let both =
        ["predict", "--checkpoint", &model, "--image", "-", "--texts-from", "-", "--json", "-"];
    dmmi(&both, b"").refuses(&["standard input"]);
    let device = predict(&image, &path("device_out"), &["--text", "a", "--opacity", "2"]);
    assert_eq!(device.code, Some(2));
}
