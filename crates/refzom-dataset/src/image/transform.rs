//! The network's input: plain resize (aspect not kept), division by 255, ImageNet's mean and deviation (spec section 1).

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::normalize::Normalizer;
use super::resize::resize_rows;
use super::{Resampling, resize_with};
use crate::DataError;

/// Resize and normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTransform {
    /// Height, width of the network's input in pixels.
    pub size: (u32, u32),
    /// Subtracted from red, green, blue in 0-1.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
    /// Which resize.
    #[serde(default)]
    pub resampling: Resampling,
}

impl ImageTransform {
    /// ImageNet's statistics: mean (0.485, 0.456, 0.406), deviation (0.229, 0.224, 0.225).
    pub fn imagenet(height: u32, width: u32) -> Self {
        Self {
            size: (height, width),
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            resampling: Resampling::default(),
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A side is 0 or above 8,192, or a deviation is not positive.
    pub fn validate(&self) -> Result<(), DataError> {
        let (height, width) = self.size;
        if !(1..=8192).contains(&height) || !(1..=8192).contains(&width) {
            return Err(DataError::Config {
                field: "size",
                message: format!("{height} x {width} is not within 1 to 8192 pixels a side"),
            });
        }
        if !self.std.iter().all(|&s| s > 0.0 && s.is_finite())
            || !self.mean.iter().all(|m| m.is_finite())
        {
            return Err(DataError::Config {
                field: "std",
                message: "mean and std must be finite numbers, std above 0".into(),
            });
        }
        Ok(())
    }

    /// The picture at the network's size, still as bytes.
    pub fn resize(&self, picture: &RgbImage) -> RgbImage {
        resize_with(picture, self.size.0, self.size.1, self.resampling)
    }

    /// Appends `(H, W, 3)` bytes, normalised with torchvision's arithmetic, to `out` as `(3, H, W)` floats.
    pub fn normalize_onto(&self, resized: &RgbImage, out: &mut Vec<f32>) {
        let size = (resized.height() as usize, resized.width() as usize);
        let rows = resized.as_raw().chunks_exact(3 * size.1.max(1));
        Normalizer::new(self.mean, self.std).append(size, out, |each| rows.for_each(each));
    }

    /// Resizes, normalises and appends `(3, H, W)` floats: each row as soon as it is there.
    pub fn apply_onto(&self, picture: &RgbImage, out: &mut Vec<f32>) {
        let (height, width) = (self.size.0.max(1), self.size.1.max(1));
        let size = (height as usize, width as usize);
        Normalizer::new(self.mean, self.std)
            .append(size, out, |each| resize_rows(picture, height, width, self.resampling, each));
    }

    /// Resizes and normalises: `(3, H, W)` floats.
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        let mut out = Vec::new();
        self.apply_onto(picture, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn planes_are_red_green_blue_and_need_not_be_square() {
        let picture = RgbImage::from_pixel(1, 1, image::Rgb([255, 0, 128]));
        let planes = ImageTransform::imagenet(2, 3).apply(&picture);
        assert_eq!(planes.len(), 18);
        assert!((planes[0] - (1.0 - 0.485) / 0.229).abs() < 1e-6);
        assert!((planes[6] + 0.456 / 0.224).abs() < 1e-6);
        assert!((planes[17] - (128.0 / 255.0 - 0.406) / 0.225).abs() < 1e-6);
    }

    #[test]
    fn impossible_settings_are_errors() {
        assert!(ImageTransform::imagenet(0, 4).validate().is_err());
        assert!(ImageTransform::imagenet(4, 9000).validate().is_err());
        let flat = ImageTransform { std: [0.0; 3], ..ImageTransform::imagenet(4, 4) };
        assert!(flat.validate().is_err());
    }
}
