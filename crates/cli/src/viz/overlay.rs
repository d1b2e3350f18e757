//! Masks over a picture at the picture's own size: a translucent fill with a solid outline for
//! predictions (one colour an expression), and truth against prediction for the gallery.
//!
//! Masks are row-major, one byte a pixel (0 outside, anything else inside), as long as the picture has pixels.

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage, Rgba, RgbaImage};

use super::palette::{CORRECT, Colour, MISSED, WRONG};

/// One mask with its colour.
pub(crate) struct Layer<'a> {
    /// Row-major, `width * height` long.
    pub(crate) mask: &'a [u8],
    /// Fill and outline.
    pub(crate) colour: Colour,
}

/// How masks are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Share of the fill colour, 0 (outline only) to 1 (opaque).
    pub(crate) opacity: f32,
    /// Width of the outline in pixels; `None` takes it from the picture's size.
    pub(crate) outline: Option<u32>,
}

impl Default for Look {
    fn default() -> Self {
        Self { opacity: 0.45, outline: None }
    }
}

/// `image` with every layer filled, then every layer outlined: a later fill never hides an outline.
///
/// # Errors
/// If a mask does not fit the picture.
pub(crate) fn overlay(image: &RgbImage, layers: &[Layer<'_>], look: Look) -> Result<RgbImage> {
    layers.iter().try_for_each(|layer| check(image.dimensions(), layer.mask))?;
    let mut out = image.clone();
    for layer in layers {
        fill(&mut out, layer.mask, layer.colour, look.opacity);
    }
    let thickness = look.outline.unwrap_or_else(|| outline_for(image.dimensions()));
    for layer in layers {
        paint_outline(&mut out, layer.mask, layer.colour, thickness);
    }
    Ok(out)
}

/// The layers alone, to be laid over a picture of `(width, height)`: clear where no mask is.
///
/// # Errors
/// If a mask does not fit the size.
pub(crate) fn transparent(
    (width, height): (u32, u32),
    layers: &[Layer<'_>],
    look: Look,
) -> Result<RgbaImage> {
    let mut out = RgbaImage::new(width, height);
    let strength = (look.opacity.clamp(0.0, 1.0) * 255.0).round() as u8;
    for layer in layers {
        check((width, height), layer.mask)?;
        let [r, g, b] = layer.colour;
        for (pixel, _) in out.pixels_mut().zip(layer.mask).filter(|(_, inside)| **inside != 0) {
            *pixel = Rgba([r, g, b, strength]);
        }
    }
    for layer in layers {
        let [r, g, b] = layer.colour;
        let thickness = look.outline.unwrap_or_else(|| outline_for((width, height)));
        outline(layer.mask, width as usize, thickness, |x, y| {
            out.put_pixel(x, y, Rgba([r, g, b, 255]));
        });
    }
    Ok(out)
}

/// Truth against prediction over the greyed picture: correct pixels blue, missed yellow, wrong red,
/// and the truth outlined in white, so that the regions are told apart by place as well as by colour.
///
/// # Errors
/// If a mask does not fit the picture.
pub(crate) fn comparison(image: &RgbImage, predicted: &[u8], truth: &[u8]) -> Result<RgbImage> {
    check(image.dimensions(), predicted)?;
    check(image.dimensions(), truth)?;
    let mut out = image.clone();
    for ((pixel, &p), &t) in out.pixels_mut().zip(predicted).zip(truth) {
        let grey = grey(*pixel);
        *pixel = match (p != 0, t != 0) {
            (true, true) => blend(grey, CORRECT, 0.65),
            (false, true) => blend(grey, MISSED, 0.75),
            (true, false) => blend(grey, WRONG, 0.75),
            (false, false) => grey,
        };
    }
    paint_outline(&mut out, truth, [255, 255, 255], outline_for(image.dimensions()));
    Ok(out)
}

fn check((width, height): (u32, u32), mask: &[u8]) -> Result<()> {
    ensure!(
        mask.len() as u64 == u64::from(width) * u64::from(height),
        "mask has {} pixels, the picture {width}x{height}; resize the mask first",
        mask.len()
    );
    Ok(())
}

fn fill(out: &mut RgbImage, mask: &[u8], colour: Colour, opacity: f32) {
    for (pixel, _) in out.pixels_mut().zip(mask).filter(|(_, inside)| **inside != 0) {
        *pixel = blend(*pixel, colour, opacity);
    }
}

fn paint_outline(out: &mut RgbImage, mask: &[u8], colour: Colour, thickness: u32) {
    outline(mask, out.width() as usize, thickness, |x, y| out.put_pixel(x, y, Rgb(colour)));
}

/// Visits the pixels of the mask that are within `thickness` steps of its outside. The border of the
/// picture is no outside: a mask that covers everything has no outline.
fn outline(mask: &[u8], width: usize, thickness: u32, mut visit: impl FnMut(u32, u32)) {
    let mut inner = mask.to_vec();
    for _ in 0..thickness {
        let ring = edge(&inner, width);
        for index in ring {
            inner[index] = 0;
            visit((index % width) as u32, (index / width) as u32);
        }
    }
}

/// Indices of the mask's pixels that have a 4-neighbour outside it.
fn edge(mask: &[u8], width: usize) -> Vec<usize> {
    let mut ring = Vec::new();
    for (index, _) in mask.iter().enumerate().filter(|(_, inside)| **inside != 0) {
        let x = index % width;
        let left = x > 0 && mask[index - 1] == 0;
        let right = x + 1 < width && mask[index + 1] == 0;
        let above = index >= width && mask[index - width] == 0;
        let below = index + width < mask.len() && mask[index + width] == 0;
        if left || right || above || below {
            ring.push(index);
        }
    }
    ring
}

/// One pixel on small pictures, up to four on large ones.
fn outline_for((width, height): (u32, u32)) -> u32 {
    (width.min(height) / 160).clamp(1, 4)
}

fn blend(under: Rgb<u8>, over: Colour, opacity: f32) -> Rgb<u8> {
    let opacity = opacity.clamp(0.0, 1.0);
    let mix =
        |u: u8, o: u8| (f32::from(u) * (1.0 - opacity) + f32::from(o) * opacity).round() as u8;
    Rgb([mix(under[0], over[0]), mix(under[1], over[1]), mix(under[2], over[2])])
}

/// The pixel without its colour and a little darker, so that region colours stand out.
fn grey(pixel: Rgb<u8>) -> Rgb<u8> {
    let [r, g, b] = pixel.0.map(f32::from);
    let level = (0.8 * (0.2126 * r + 0.7152 * g + 0.0722 * b)).round() as u8;
    Rgb([level; 3])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RED: Colour = [255, 0, 0];

    fn square(side: usize, from: usize, to: usize) -> Vec<u8> {
        (0..side * side)
            .map(|i| u8::from((from..to).contains(&(i % side)) && (from..to).contains(&(i / side))))
            .collect()
    }

    #[test]
    fn fill_and_outline_stay_inside_the_mask() {
        let image = RgbImage::from_pixel(9, 9, Rgb([100; 3]));
        let mask = square(9, 2, 7);
        let layers = [Layer { mask: &mask, colour: RED }];
        let out = overlay(&image, &layers, Look { opacity: 0.5, outline: Some(1) }).unwrap();
        for (i, pixel) in out.pixels().enumerate() {
            let (x, y) = (i % 9, i / 9);
            let expected = match (mask[i] != 0, [x, y].iter().any(|c| *c == 2 || *c == 6)) {
                (false, _) => [100; 3],
                (true, true) => RED,
                (true, false) => [178, 50, 50],
            };
            assert_eq!(pixel.0, expected, "at {x},{y}");
        }
    }

    #[test]
    fn later_fill_leaves_earlier_outline() {
        let image = RgbImage::new(9, 9);
        let (a, b) = (square(9, 1, 5), square(9, 0, 9));
        let layers = [Layer { mask: &a, colour: RED }, Layer { mask: &b, colour: [0, 0, 255] }];
        let out = overlay(&image, &layers, Look { opacity: 1.0, outline: Some(1) }).unwrap();
        assert_eq!(out.get_pixel(1, 1).0, RED);
        assert_eq!(out.get_pixel(0, 0).0, [0, 0, 255]); // covers the picture: no outline, only fill
    }

    #[test]
    fn transparent_layers_are_clear_outside() {
        let mask = square(9, 2, 7);
        let layers = [Layer { mask: &mask, colour: RED }];
        let out = transparent((9, 9), &layers, Look { opacity: 0.5, outline: Some(1) }).unwrap();
        assert_eq!(out.get_pixel(0, 0).0, [0; 4]);
        assert_eq!(out.get_pixel(2, 2).0, [255, 0, 0, 255]);
        assert_eq!(out.get_pixel(4, 4).0, [255, 0, 0, 128]);
        assert!(transparent((8, 9), &layers, Look::default()).is_err());
    }

    #[test]
    fn comparison_has_three_regions() {
        let image = RgbImage::from_pixel(4, 1, Rgb([200, 10, 10]));
        let out = comparison(&image, &[1, 0, 1, 0], &[1, 1, 0, 0]).unwrap();
        let pixels: Vec<_> = out.pixels().map(|p| p.0).collect();
        assert_eq!(pixels[3][0], pixels[3][1], "background is grey");
        assert_eq!(pixels[1], [255; 3], "edge of the truth is outlined");
        assert!(pixels[2][0] > pixels[2][2] + 80, "wrong is reddish");
    }

    #[test]
    fn sizes_are_checked_and_one_pixel_works() {
        let image = RgbImage::new(1, 1);
        let error = comparison(&image, &[1], &[]).unwrap_err().to_string();
        assert!(error.contains("0 pixels") && error.contains("1x1"), "{error}");
        let layers = [Layer { mask: &[1], colour: RED }];
        assert!(overlay(&image, &layers, Look::default()).is_ok());
    }
}
