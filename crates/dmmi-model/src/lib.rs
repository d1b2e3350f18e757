#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod config;
mod conv_norm;
mod encoder;
mod image_to_text;
pub mod loss;
mod model;
mod semantics;
mod text_to_image;

pub use config::{BackboneConfig, DecoderConfig, DmmiConfig};
pub use encoder::{Encoded, FusedEncoder};
pub use image_to_text::ImageToTextDecoder;
pub use loss::{LossConfig, LossTerms, Targets};
pub use model::{Dmmi, DmmiInput, DmmiOutput};
pub use semantics::{CrossLayerPooling, ExpressionVector};
pub use text_to_image::{Decoded, TextToImageDecoder};
