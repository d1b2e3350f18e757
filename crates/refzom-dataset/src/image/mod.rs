//! Pictures to pixels and pixels to the network's input; knows nothing of Ref-ZOM.

mod complete;
mod decode;
mod jpeg;
mod mask_file;
mod normalize;
mod passes;
mod resize;
mod transform;

pub use decode::{Orientation, decode_rgb, load_rgb};
pub use image::RgbImage;
pub(crate) use jpeg::check_forms as check_jpeg_forms;
pub(crate) use mask_file::{dimensions, load_mask_png};
pub use resize::{Resampling, resize_bilinear, resize_with};
pub use transform::ImageTransform;
