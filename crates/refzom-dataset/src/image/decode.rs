//! PNG and JPEG to 8-bit RGB, as Pillow's `convert("RGB")` does it: gray is repeated, alpha is dropped,
//! palettes are looked up, CMYK is converted, of 16 bits the upper 8 are kept.
//!
//! Three differences, all on purpose: 16-bit *gray* keeps its upper 8 bits too (Pillow, at least from 9.5 to 13, makes white of
//! everything from 255 on, so nearly nothing is left of a picture; no published set has such pictures), damaged coded data inside a
//! complete JPEG are an error (Pillow paints over them), and so are JPEGs whose colours are finer than their brightness.

use std::io::Cursor;
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::complete::{check_jpeg, check_png};
use super::jpeg;
use crate::DataError;
use crate::mask::check_extent;

/// What helps against damage.
const REMEDY: &str = "fetch it again, or save it again as PNG or JPEG";

/// What helps where another program can read the file.
const CONVERT: &str = "open it in another program and save it as PNG";

/// What to do with the camera's orientation (EXIF).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// Turn the picture as people see it: for pictures from anywhere.
    #[default]
    Apply,
    /// Leave the pixels as stored: as the annotations of a data set mean them, and as the release does.
    Ignore,
}

/// Reads a PNG or JPEG file; the content decides which, not the name.
///
/// # Errors
/// The file cannot be read or is a folder, is neither PNG nor JPEG, is cut short or damaged, or has more than
/// [`crate::MAX_PIXELS`] pixels.
pub fn load_rgb(path: impl AsRef<Path>, orientation: Orientation) -> Result<RgbImage, DataError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| match path.is_dir() {
        true => DataError::image(&name, "is a folder; name a picture in it"),
        false => DataError::read(path, e),
    })?;
    decode_rgb(&bytes, &name, orientation)
}

/// Decodes the bytes of a PNG or JPEG file; `name` is for the message of an error.
///
/// # Errors
/// As [`load_rgb`].
pub fn decode_rgb(
    bytes: &[u8],
    name: &str,
    orientation: Orientation,
) -> Result<RgbImage, DataError> {
    let decoded = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        decode_png_rgb(bytes, orientation)
    } else if bytes.starts_with(b"\xff\xd8") {
        decode_jpeg(bytes, orientation)
    } else if bytes.is_empty() {
        Err("the file is empty; fetch it again".into())
    } else {
        Err("neither PNG nor JPEG; convert it first".into())
    };
    decoded.map_err(|message: String| DataError::image(name, message))
}

fn decode_png_rgb(bytes: &[u8], orientation: Orientation) -> Result<RgbImage, String> {
    let (mut decoder, damaged) = open_png(bytes)?;
    let turn = match orientation {
        Orientation::Apply => decoder.orientation().map_err(damaged)?,
        Orientation::Ignore => image::metadata::Orientation::NoTransforms,
    };
    let decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    Ok(turned(to_rgb(decoded), turn))
}

/// A PNG in its own kind of pixels; palettes are looked up.
pub(super) fn decode_png(bytes: &[u8]) -> Result<DynamicImage, String> {
    let (decoder, damaged) = open_png(bytes)?;
    DynamicImage::from_decoder(decoder).map_err(damaged)
}

type Damaged = fn(image::ImageError) -> String;
type PngOf<'a> = PngDecoder<Cursor<&'a [u8]>>;

fn open_png(bytes: &[u8]) -> Result<(PngOf<'_>, Damaged), String> {
    check_png(bytes)?;
    let damaged: Damaged = |e| format!("damaged png: {e}; {REMEDY}");
    let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_extent(height, width)?;
    Ok((decoder, damaged))
}

fn to_rgb(decoded: DynamicImage) -> RgbImage {
    let (width, height) = (decoded.width(), decoded.height());
    fn spread<T: Copy>(samples: &[T], per_pixel: usize, byte: impl Fn(T) -> u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(samples.len() / per_pixel * 3);
        for pixel in samples.chunks_exact(per_pixel) {
            let [r, g, b] = if per_pixel < 3 { [0; 3] } else { [0, 1, 2] };
            out.extend([byte(pixel[r]), byte(pixel[g]), byte(pixel[b])]);
        }
        out
    }
    let upper = |sample: u16| (sample >> 8) as u8;
    let same = |sample: u8| sample;
    let bytes = match decoded {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageLuma8(i) => spread(&i, 1, same),
        DynamicImage::ImageLumaA8(i) => spread(&i, 2, same),
        DynamicImage::ImageRgba8(i) => spread(&i, 4, same),
        DynamicImage::ImageLuma16(i) => spread(&i, 1, upper),
        DynamicImage::ImageLumaA16(i) => spread(&i, 2, upper),
        DynamicImage::ImageRgb16(i) => spread(&i, 3, upper),
        DynamicImage::ImageRgba16(i) => spread(&i, 4, upper),
        other => return other.to_rgb8(),
    };
    RgbImage::from_raw(width, height, bytes).expect("three bytes were written for every pixel")
}

fn decode_jpeg(bytes: &[u8], orientation: Orientation) -> Result<RgbImage, String> {
    let fits = |height, width| check_extent(height, width).is_ok();
    let Some(decoded) = jpeg::decode(bytes, fits) else {
        return decode_unusual_jpeg(bytes, orientation);
    };
    let picture = RgbImage::from_raw(decoded.width, decoded.height, decoded.rgb)
        .expect("three bytes were written for every pixel");
    Ok(turned(picture, turn_of(orientation, decoded.exif.map(|place| &bytes[place]))))
}

/// What EXIF asks for, if that counts.
fn turn_of(orientation: Orientation, exif: Option<&[u8]>) -> image::metadata::Orientation {
    let turn = match (orientation, exif) {
        (Orientation::Apply, Some(exif)) => image::metadata::Orientation::from_exif_chunk(exif),
        _ => None,
    };
    turn.unwrap_or(image::metadata::Orientation::NoTransforms)
}

/// Progressive ones, CMYK, damaged ones: whatever [`jpeg`] leaves.
fn decode_unusual_jpeg(bytes: &[u8], orientation: Orientation) -> Result<RgbImage, String> {
    let layout = check_jpeg(bytes)?;
    // zune-jpeg makes false pixels of these, without an error.
    if layout.finer {
        return Err(format!("a jpeg whose colours are finer than its brightness; {CONVERT}"));
    }
    if layout.scattered {
        let kind = "a jpeg in several scans, of an unusual kind or damaged";
        return Err(format!("{kind}; {CONVERT}"));
    }
    let mut cleaned;
    let mut bytes = bytes;
    if layout.sequential {
        // An end marker that comes too early ends the decoder in peace. In its stead stand one-bits, which are no
        // code of JPEG: a whole picture never reads them, a part of one does.
        cleaned = without(&bytes[..layout.end], &layout.junk);
        cleaned.extend([0xff, 0x00].repeat(32));
        bytes = &cleaned;
    } else if !layout.junk.is_empty() {
        cleaned = without(bytes, &layout.junk);
        bytes = &cleaned;
    }
    let damaged = |e: zune_jpeg::errors::DecodeErrors| format!("damaged jpeg: {e:?}; {REMEDY}");
    // Own limits come first; the decoder's are of 16,384 pixels a side.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| format!("damaged jpeg: no dimensions; {REMEDY}"))?;
    let (width, height) = (width as u32, height as u32);
    check_extent(height, width)?;
    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let wanted = if gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(wanted));
    let samples = decoder.decode().map_err(damaged)?;
    let samples = if gray { samples.iter().flat_map(|&s| [s; 3]).collect() } else { samples };
    let picture = RgbImage::from_raw(width, height, samples)
        .ok_or_else(|| format!("damaged jpeg: fewer pixels than announced; {REMEDY}"))?;
    Ok(turned(picture, turn_of(orientation, decoder.exif().map(Vec::as_slice))))
}

fn without(bytes: &[u8], gaps: &[std::ops::Range<usize>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for gap in gaps {
        out.extend_from_slice(&bytes[from..gap.start]);
        from = gap.end;
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

fn turned(picture: RgbImage, turn: image::metadata::Orientation) -> RgbImage {
    if turn == image::metadata::Orientation::NoTransforms {
        return picture;
    }
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(turn);
    picture.into_rgb8()
}
