//! What `predict` writes: masks, an overlay and a JSON file, named after the picture. Everything is
//! encoded before the first file is touched, and a file of another picture is never replaced.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde::{Deserialize, Serialize};

use crate::exit::{OrBadInput, bad_input};

/// The JSON document of one call.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    /// The picture's path, `-` for standard input.
    pub(crate) image: String,
    /// FNV-1a of the picture's bytes, hexadecimal: tells pictures of the same name apart.
    pub(crate) image_fnv1a: String,
    /// Pixels, after turning as EXIF says.
    pub(crate) width: u32,
    /// Pixels, after turning as EXIF says.
    pub(crate) height: u32,
    /// The checkpoint directory.
    pub(crate) checkpoint: String,
    /// `cpu` or `cuda:N`.
    pub(crate) device: String,
    /// Height and width at which the network looked.
    pub(crate) model_size: [usize; 2],
    /// What `score` means.
    pub(crate) score_is: &'static str,
    /// File name of the overlay, in the output directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overlay: Option<String>,
    /// One an expression, in the order given.
    pub(crate) predictions: Vec<Prediction>,
}

/// The answer to one expression.
#[derive(Debug, Serialize)]
pub(crate) struct Prediction {
    /// As given.
    pub(crate) expression: String,
    /// Whether any pixel is meant.
    pub(crate) found: bool,
    /// See `score_is`.
    pub(crate) score: f64,
    /// COCO's compressed run lengths.
    pub(crate) rle: RleJson,
    /// `[x, y, width, height]`; `null` without a pixel.
    #[serde(rename = "box")]
    pub(crate) bounding_box: Option<[u32; 4]>,
    /// Pixels.
    pub(crate) area: u64,
    /// Network and resizing, for this expression.
    pub(crate) milliseconds: f64,
    /// `#rrggbb` in the overlay.
    pub(crate) colour: String,
    /// File name of the mask, in the output directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mask: Option<String>,
    /// What a reader of the answer should know: a cut expression, words of another script.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notices: Vec<String>,
}

/// As pycocotools writes it.
#[derive(Debug, Serialize)]
pub(crate) struct RleJson {
    /// `[height, width]`.
    pub(crate) size: [u32; 2],
    /// Compressed counts.
    pub(crate) counts: String,
}

/// Names of the files of one picture.
pub(crate) struct Names {
    dir: PathBuf,
    stem: String,
}

impl Names {
    /// For a picture at `image` (`-`: standard input), results in `dir`.
    pub(crate) fn of(dir: &Path, image: &Path) -> Self {
        let stem = if image == Path::new("-") {
            "stdin".to_owned()
        } else {
            image.file_stem().map_or_else(|| "picture".into(), |s| s.to_string_lossy().into_owned())
        };
        Self { dir: dir.to_path_buf(), stem }
    }

    /// The mask of expression `number`, counted from 1.
    pub(crate) fn mask(&self, number: usize) -> String {
        format!("{}_{number}_mask.png", self.stem)
    }

    /// The overlay of all expressions.
    pub(crate) fn overlay(&self) -> String {
        format!("{}_overlay.png", self.stem)
    }

    /// The JSON document.
    pub(crate) fn json(&self) -> String {
        format!("{}.json", self.stem)
    }

    /// Makes the directory and refuses to replace results of another picture. Tells how many expressions an earlier call
    /// about this picture had.
    ///
    /// # Errors
    /// Bad input: the directory cannot be made, or holds results of another picture of this name.
    pub(crate) fn claim(&self, digest: &str, expressions: usize) -> Result<usize> {
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot make the output directory {}", self.dir.display()))
            .or_bad_input()?;
        #[derive(Deserialize)]
        struct Mark {
            image_fnv1a: String,
            #[serde(default)]
            predictions: Vec<serde::de::IgnoredAny>,
        }
        let json = self.dir.join(self.json());
        if json.exists() {
            let text = fs::read_to_string(&json).ok();
            let mark = text.and_then(|text| serde_json::from_str::<Mark>(&text).ok());
            return match mark.filter(|mark| mark.image_fnv1a == digest) {
                Some(mark) => Ok(mark.predictions.len()),
                None => Err(self.taken(&json)),
            };
        }
        let others = (1..=expressions).map(|n| self.mask(n)).chain([self.overlay()]);
        match others.map(|name| self.dir.join(name)).find(|path| path.exists()) {
            Some(path) => Err(self.taken(&path)),
            None => Ok(0),
        }
    }

    /// Removes the masks of an earlier call about the same picture that the new one has not written over.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub(crate) fn remove_rest(&self, expressions: usize, earlier: usize) -> Result<()> {
        for number in expressions + 1..=earlier {
            let path = self.dir.join(self.mask(number));
            if path.exists() {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn taken(&self, path: &Path) -> anyhow::Error {
        bad_input!(
            "{} belongs to another picture and is not replaced; choose another --out",
            path.display()
        )
    }

    /// Writes all files: first each under a temporary name, then, when all are complete, under its own.
    ///
    /// # Errors
    /// If a file cannot be written; then none is left behind under its own name unless a rename failed.
    pub(crate) fn write(&self, files: &[(String, Vec<u8>)]) -> Result<Vec<PathBuf>> {
        let temporary = |name: &str| self.dir.join(format!(".{name}.{}.tmp", std::process::id()));
        let place = || -> Result<Vec<PathBuf>> {
            for (name, bytes) in files {
                let path = temporary(name);
                fs::write(&path, bytes)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            let rename = |(name, _): &(String, Vec<u8>)| {
                let path = self.dir.join(name);
                fs::rename(temporary(name), &path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(path)
            };
            files.iter().map(rename).collect()
        };
        let written = place();
        if written.is_err() {
            for (name, _) in files {
                // The first error is the one to report; a leftover is hidden and harmless.
                let _ = fs::remove_file(temporary(name));
            }
        }
        written
    }
}

/// A mask of bytes 0 and 1 as a PNG of 0 and 255.
///
/// # Errors
/// If the encoder fails.
pub(crate) fn mask_png(bits: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let levels: Vec<u8> = bits.iter().map(|bit| bit * 255).collect();
    png(&levels, width, height, ExtendedColorType::L8)
}

/// Raw samples as a PNG.
///
/// # Errors
/// If the encoder fails.
pub(crate) fn png(
    samples: &[u8],
    width: u32,
    height: u32,
    colour: ExtendedColorType,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(samples, width, height, colour)
        .context("cannot encode a PNG")?;
    Ok(bytes)
}

/// FNV-1a, 64 bits, as 16 hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_fnv1a() {
        assert_eq!(digest(b""), "cbf29ce484222325");
        assert_eq!(digest(b"a"), "af63dc4c8601ec8c");
    }

    #[test]
    fn names_come_from_the_stem() {
        let names = Names::of(Path::new("out"), Path::new("/x/photo.of.me.jpg"));
        assert_eq!(names.mask(2), "photo.of.me_2_mask.png");
        assert_eq!(Names::of(Path::new("out"), Path::new("-")).json(), "stdin.json");
    }

    #[test]
    fn results_of_another_picture_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::of(dir.path(), Path::new("a.png"));
        names.claim("1111", 2).unwrap();
        fs::write(dir.path().join("a.json"), r#"{"image_fnv1a": "1111"}"#).unwrap();
        names.claim("1111", 2).unwrap();
        for text in [r#"{"image_fnv1a": "2222"}"#, "{}", "not json"] {
            fs::write(dir.path().join("a.json"), text).unwrap();
            let message = names.claim("1111", 2).unwrap_err().to_string();
            assert!(message.contains("a.json") && message.contains("--out"), "{message}");
        }
        fs::remove_file(dir.path().join("a.json")).unwrap();
        fs::write(dir.path().join("a_2_mask.png"), "x").unwrap();
        assert!(names.claim("1111", 2).is_err());
        assert!(names.claim("1111", 1).is_ok());
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::of(dir.path(), Path::new("a.png"));
        let bad = [("ok.png".to_owned(), vec![1]), ("no/such/dir.png".to_owned(), vec![2])];
        assert!(names.write(&bad).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn masks_are_black_and_white() {
        let bytes = mask_png(&[0, 1, 1, 0, 0, 1], 3, 2).unwrap();
        let read = image::load_from_memory(&bytes).unwrap().into_luma8();
        assert_eq!(read.dimensions(), (3, 2));
        assert_eq!(read.as_raw(), &[0, 255, 255, 0, 0, 255]);
    }
}
